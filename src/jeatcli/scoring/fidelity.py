"""torch-fidelity behind one function: its arithmetic on our features.

It is slow to import, so everything of it is imported inside the functions.
"""

from dataclasses import dataclass
from functools import cache
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .features import Features

# The seed by which torch-fidelity shuffles before the splits and draws the subsets: published
# numbers are taken with it, so it is not the user's.
SHUFFLE_SEED = 2020
_NAME = "jeat-features"
# Our names of the scores, and the library's.
_KEYS = {
    "inception_score": "inception_score_mean",
    "inception_score_std": "inception_score_std",
    "fid": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "precision": "precision",
    "recall": "recall",
}
# Of precision and recall (Kynkaanniemi et al. 2019).
_NEIGHBOURS = 3
_ROWS = 1000
# Rows of distances at a time: of 50,000 images, a thousand take 2 GB and ten thousand 4 GB.
_DISTANCES = 250


@dataclass(frozen=True)
class Numbers:
    """Numbers of images `num` and of real ones, widths of features and logits, and the scores' own.

    Splits, subsets and neighbours are as they are used.
    """

    num: int
    references: int
    width: int
    classes: int
    splits: int
    kid_subsets: int
    kid_subset_size: int
    neighbours: int

    @classmethod
    def of(
        cls, images: Features, reference: Features, splits: int, subsets: int, subset_size: int
    ) -> Self:
        """Return the numbers as so few images allow them."""
        num, references = len(images.values), len(reference.values)
        size = min(subset_size, num, references)
        neighbours = min(_NEIGHBOURS, num - 1, references - 1)
        width, classes = images.values.shape[1], images.logits.shape[1]
        return cls(num, references, width, classes, splits, subsets, size, neighbours)

    @property
    def splittable(self) -> bool:
        """Whether there are classes, and each split holds two images: the score of one is 1."""
        return self.classes > 0 and self.num >= 2 * self.splits

    def notes(self) -> dict[str, str]:
        """Return the scores that have too few images, each with the reason."""
        notes: dict[str, str] = {}
        part, least = self.num // self.splits, min(self.num, self.references)
        if self.classes and not self.splittable:
            notes["inception_score"] = (
                f"not measured: {self.num} images in {self.splits} splits, and the score of one "
                "image is 1 by definition"
            )
        elif part < self.classes:
            notes["inception_score"] = (
                f"too few: {part} images a split for {self.classes} classes, so {part} at most"
            )
        if least <= self.width:
            notes["fid"] = (
                f"too few: {least:,} images in {self.width:,} dimensions, so a covariance of rank "
                f"{least - 1:,} and a distance that is biased"
            )
        if self.kid_subset_size in (self.num, self.references):
            whose = "images" if self.kid_subset_size == self.num else "reference"
            notes["kid"] = f"no ±: each subset is all of the {whose}"
        if self.neighbours < _NEIGHBOURS:
            notes["precision"] = notes["recall"] = (
                f"too few for {_NEIGHBOURS} neighbours: {self.neighbours}"
            )
        return notes


def compute(images: Features, reference: Features, numbers: Numbers) -> dict[str, float | None]:
    """Compare the features of images with those of the reference.

    Scores that so few images do not have are None: the Inception Score of splits of one image,
    and the spread of one split, of one subset, or of subsets that are all of the images, or of the
    reference.
    """
    from torch_fidelity import calculate_metrics

    result = calculate_metrics(
        input1=_Rows(images),
        input2=_Rows(reference),
        isc=numbers.splittable,
        fid=True,
        kid=True,
        prc=True,
        isc_splits=numbers.splits,
        kid_subsets=numbers.kid_subsets,
        kid_subset_size=numbers.kid_subset_size,
        prc_neighborhood=numbers.neighbours,
        prc_batch_size=_DISTANCES,
        rng_seed=SHUFFLE_SEED,
        batch_size=_ROWS,
        cuda=False,
        # No worker processes: the rows are in memory already.
        save_cpu_ram=True,
        cache=False,
        verbose=False,
        feature_extractor=_register(),
        width=numbers.width,
    )
    scores: dict[str, float | None] = {name: result.get(key) for name, key in _KEYS.items()}
    if numbers.splits == 1:
        scores["inception_score_std"] = None
    if numbers.kid_subsets == 1 or numbers.kid_subset_size in (numbers.num, numbers.references):
        scores["kid_std"] = None
    return scores


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
    """Register the extractor that takes rows apart; return its name."""
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
