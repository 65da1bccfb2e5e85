"""torch-fidelity behind one function: its arithmetic on our features.

It is slow to import, so everything of it is imported inside the function.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .features import Features

# The seed by which torch-fidelity shuffles before the splits and draws the subsets: published
# numbers are taken with it, so it is not the user's.
SHUFFLE_SEED = 2020
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
# A logit so far below the largest is a probability that float64 still holds, and that adds nothing.
_NEGLIGIBLE = 700
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
                f"too few: {part} images per split for {self.classes} classes, so at most {part}"
            )
        if least <= self.width:
            notes["fid"] = (
                f"too few: with {least:,} images in {self.width:,} dimensions, the covariance has "
                f"rank {least - 1:,} and the distance is biased upward"
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
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    both = images.values, reference.values
    subsets = {"kid_subsets": numbers.kid_subsets, "kid_subset_size": numbers.kid_subset_size}
    balls = {"prc_neighborhood": numbers.neighbours, "prc_batch_size": _DISTANCES}
    result = {
        **fid_statistics_to_metric(*map(_statistics, both), verbose=False),
        **kid_features_to_metric(*both, rng_seed=SHUFFLE_SEED, verbose=False, **subsets),
        **prc_features_to_metric(*both, save_cpu_ram=True, verbose=False, **balls),
    }
    if numbers.splittable:
        logits = _held(images.logits)
        result |= isc_features_to_metric(logits, numbers.splits, rng_seed=SHUFFLE_SEED)
    scores: dict[str, float | None] = {name: result.get(key) for name, key in _KEYS.items()}
    if numbers.splits == 1:
        scores["inception_score_std"] = None
    if numbers.kid_subsets == 1 or numbers.kid_subset_size in (numbers.num, numbers.references):
        scores["kid_std"] = None
    return scores


def _held(logits: Tensor) -> Tensor:
    """Raise logits (n, K) whose probability would be 0: where all are, the library takes 0 log 0.

    Published logits are nowhere so far apart, and stay as they are.
    """
    return torch.maximum(logits, logits.amax(1, keepdim=True) - _NEGLIGIBLE)


def _statistics(features: Tensor) -> dict[str, Any]:
    """Return the mean `mu` (d,) and the covariance `sigma` (d, d) of features (n, d)."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    found = fid_features_to_statistics(features)
    # Of one feature numpy's covariance is a number.
    return {**found, "sigma": np.atleast_2d(found["sigma"])}
