"""torch-fidelity behind one function: its arithmetic on our features.

It is slow to import, so everything of it is imported inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import JeatError
from .features import Features

# The seed by which torch-fidelity shuffles before the splits and draws the subsets: published
# numbers are taken with it, so it is not the user's.
SHUFFLE_SEED = 2020
_NAME = "jeat-features"
_ROWS = 1000
# Rows of distances at a time: with ten thousand, the library's own, 50,000 images take 4 GB.
_DISTANCES = 1000


@dataclass(frozen=True)
class Figures:
    """The scores as torch-fidelity computes them, some with the spread over splits or subsets."""

    inception_score: float
    inception_score_std: float
    fid: float
    kid: float
    kid_std: float
    precision: float
    recall: float


def compute(
    images: Features,
    reference: Features,
    *,
    splits: int,
    kid_subsets: int,
    kid_subset_size: int,
    neighbours: int,
) -> Figures:
    """Compare the features of images with those of the reference.

    Args:
        images: Of what is judged.
        reference: Of what it is compared with.
        splits: Of the Inception Score.
        kid_subsets, kid_subset_size: Of the KID.
        neighbours: By which precision and recall draw the balls around images (Kynkaanniemi et
            al. 2019).

    Raises:
        JeatError: If the features are not finite.
    """
    from torch_fidelity import calculate_metrics

    width = images.values.shape[1]
    try:
        found = calculate_metrics(
            input1=_Rows(images),
            input2=_Rows(reference),
            isc=True,
            fid=True,
            kid=True,
            prc=True,
            isc_splits=splits,
            kid_subsets=kid_subsets,
            kid_subset_size=kid_subset_size,
            prc_neighborhood=neighbours,
            prc_batch_size=_DISTANCES,
            rng_seed=SHUFFLE_SEED,
            batch_size=_ROWS,
            cuda=False,
            # No worker processes: the rows are in memory already.
            save_cpu_ram=True,
            cache=False,
            verbose=False,
            feature_extractor=_register(),
            width=width,
        )
    except np.linalg.LinAlgError:
        raise JeatError(
            "the features of the images are not finite",
            "the classifier of `--features` may have diverged",
        ) from None
    return Figures(
        found["inception_score_mean"],
        found["inception_score_std"],
        found["frechet_inception_distance"],
        found["kernel_inception_distance_mean"],
        found["kernel_inception_distance_std"],
        found["precision"],
        found["recall"],
    )


class _Rows(Dataset[Tensor]):
    """Features and logits of an image side by side, as torch-fidelity reads images."""

    def __init__(self, features: Features) -> None:
        self.rows = torch.cat([features.values, features.logits], 1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]


@cache
def _register() -> str:
    """Register the extractor that takes rows apart; return the name by which it is called."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class Parts(FeatureExtractorBase):  # type: ignore[misc]  # a library without types
        """Give torch-fidelity what was extracted before."""

        def __init__(self, name: str, wanted: list[str], width: int, **_: object) -> None:
            super().__init__(name, wanted)
            self.width = width

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
            parts = {"features": rows[:, : self.width], "logits": rows[:, self.width :]}
            return tuple(parts[name].contiguous() for name in self.features_list)

    register_feature_extractor(_NAME, Parts)
    return _NAME
