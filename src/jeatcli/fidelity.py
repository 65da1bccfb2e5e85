"""torch-fidelity behind one function: its arithmetic, our images, extractors and progress.

It is slow to import, so everything of it is imported inside the functions.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .checkpoint import Model
from .errors import JeatError
from .reporting import SILENT, Bar, Reporter

# The seed by which torch-fidelity shuffles before the splits and draws the subsets: published
# numbers are taken with it, so it is not the user's.
SHUFFLE_SEED = 2020
_NAME = "jeat-classifier"
# Images between two words to the progress bar.
_TICK = 100


@dataclass(frozen=True)
class Figures:
    """The scores as torch-fidelity computes them, each with the spread over splits or subsets."""

    inception_score: float
    inception_score_std: float
    fid: float
    kid: float
    kid_std: float


def compute(
    images: Tensor,
    reference: Tensor,
    features: Model | Path,
    *,
    splits: int,
    kid_subsets: int,
    kid_subset_size: int,
    batch_size: int,
    device: torch.device,
    reporter: Reporter = SILENT,
) -> Figures:
    """Compare `images` with `reference`, both uint8 (n,C,H,W).

    Args:
        features: A classifier, whose penultimate features and logits are used, or the file of
            the 2015 Inception network's weights.

    Raises:
        JeatError: If the features are not finite.
    """
    from torch_fidelity import calculate_metrics

    extractor: dict[str, Any]
    if isinstance(features, Model):
        extractor = {"feature_extractor": _register(), "classifier": features.classifier}
    else:
        extractor = {
            "feature_extractor": "inception-v3-compat",
            "feature_extractor_weights_path": str(features),
        }
        images, reference = _coloured(images), _coloured(reference)
    cuda = device.type == "cuda"
    with (
        reporter.track("features", len(images) + len(reference)) as bar,
        torch.cuda.device(device) if cuda else nullcontext(),
    ):
        try:
            found = calculate_metrics(
                input1=_Pixels(images, bar),
                input2=_Pixels(reference, bar),
                isc=True,
                fid=True,
                kid=True,
                isc_splits=splits,
                kid_subsets=kid_subsets,
                kid_subset_size=kid_subset_size,
                rng_seed=SHUFFLE_SEED,
                batch_size=batch_size,
                cuda=cuda,
                # No worker processes: the images are in memory already.
                save_cpu_ram=True,
                cache=False,
                verbose=False,
                **extractor,
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
    )


class _Pixels(Dataset[Tensor]):
    """Images in memory, read in order, that tell how far the library has come."""

    def __init__(self, images: Tensor, bar: Bar) -> None:
        self.images, self.bar = images.cpu(), bar

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        done = index + 1
        if done % _TICK == 0 or done == len(self):
            self.bar(done % _TICK or _TICK)
        return self.images[index]


def _coloured(images: Tensor) -> Tensor:
    """Repeat grey images in three channels, which is all that Inception reads."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


@cache
def _register() -> str:
    """Register classifiers as feature extractors; return the name by which they are called."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class ClassifierExtractor(FeatureExtractorBase):  # type: ignore[misc]
        """Give a classifier's penultimate features and logits to torch-fidelity."""

        def __init__(self, name: str, wanted: list[str], classifier: Any, **_: Any) -> None:
            super().__init__(name, wanted)
            self.classifier = classifier

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            device = next(self.classifier.parameters()).device
            features = self.classifier.features(pixels.to(device).float() / 255)
            logits = self.classifier.net.head(features)
            # Means in float64: the library averages in the features' own type.
            found = {"features": features.cpu().double(), "logits": logits.cpu().double()}
            return tuple(found[name] for name in self.features_list)

    register_feature_extractor(_NAME, ClassifierExtractor)
    return _NAME
