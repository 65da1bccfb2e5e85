"""The Vendi score (Friedman and Dieng 2023): how many different images there are in effect."""

import torch
from torch import Tensor

from .features import Features
from .intervals import GROUPS, Estimate, group_of, jackknifed


def vendi(images: Features, reference: Features) -> dict[str, Estimate]:
    """Return the score of the images and of the reference.

    The exponential of the entropy of the eigenvalues of the cosine kernel over n: 1 for copies
    of one image, n for images whose features are orthogonal.
    """
    return {"vendi": _score(images.values), "vendi_reference": _score(reference.values)}


def _score(values: Tensor) -> Estimate:
    group = group_of(len(values))
    grams = []
    for k in range(min(GROUPS, len(values))):
        rows = torch.nn.functional.normalize(values[group == k].double(), dim=1)
        grams.append(rows.T @ rows)
    sizes = group.bincount().tolist()
    total, num = torch.stack(grams).sum(0), len(values)
    without = [
        _diversity(total - gram, num - size) for gram, size in zip(grams, sizes, strict=True)
    ]
    return jackknifed(_diversity(total, num), without)


def _diversity(gram: Tensor, num: int) -> float:
    """Return the score from the features' Gram matrix, whose eigenvalues are the kernel's."""
    shares = torch.linalg.eigvalsh(gram / num)
    shares = shares[shares > 0]
    return float((-(shares * shares.log()).sum()).exp())
