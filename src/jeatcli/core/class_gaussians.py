"""A normal distribution for each class, where chains may start."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .rng import BatchRng, Rng

# Numbers gathered at once: 256 MiB.
_GATHERED = 2**26
# Of the leading directions of a class, as many as OmnAI-Lab (2024) take at most.
PCA_COMPONENTS = 30
# Starts that need no images but the statistics of a class.
STARTS = ("uniform", "gaussian", "pca")


@dataclass(frozen=True)
class ClassGaussians:
    """A normal distribution a class, N(mean, factor factor^T + ridge I), over pixels in [0, 1].

    Santurkar et al. (2019) start class-conditional generation at such samples, Yang and Ji (2021)
    their chains. The covariance is truncated to `rank` directions to fit into a checkpoint;
    `ridge` is the mean variance of the others, plus Yang and Ji's 1e-4.
    """

    mean: Tensor  # (K, C, H, W)
    factor: Tensor  # (K, rank, C, H, W): principal directions times standard deviations
    ridge: Tensor  # (K,)
    counts: Tensor | None = None  # (K,), images of each class; None in files of early versions

    @property
    def absent(self) -> list[int]:
        """The classes that had no images, and have the statistics of all."""
        return [] if self.counts is None else (self.counts == 0).nonzero().flatten().tolist()

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, num_classes: int, rank: int | None = None) -> ClassGaussians:
        """Fit the statistics to uint8 images x (n, C, H, W) with labels y (n,).

        A class without images gets the statistics of all images. The default rank is 64 for ten
        classes and falls to 30 for more, so that the statistics do not outgrow the weights.
        """
        size = x[0].numel()
        rank = rank or max(30, min(64, 640 // num_classes))
        means, factors, ridges = [], [], []
        for label in range(num_classes):
            members = y == label
            pixels = (x[members] if members.any() else x).flatten(1).float() / 255
            mean, factor, ridge = _principal(pixels, min(rank, size))
            means.append(mean.view(x.shape[1:]))
            factors.append(factor.view(-1, *x.shape[1:]))
            ridges.append(ridge)
        counts = torch.bincount(y.cpu(), minlength=num_classes)
        return cls(torch.stack(means), torch.stack(factors), torch.stack(ridges), counts)

    def draw(self, y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        """Return one sample for each label of y (n,), clipped to [0, 1], shaped as `like`."""
        spread = self._spread(y, like, rng, self.factor.shape[1])
        rest = self.ridge[y].sqrt().view(-1, 1, 1, 1) * rng.normal(like)
        return (self.mean[y] + spread + rest).clamp_(0, 1)

    def sample_pca(self, y: Tensor, like: Tensor, rng: Rng, components: int) -> Tensor:
        """Return normal combinations of the leading directions, clipped to [0, 1].

        Without the directions of little variance the images are as smooth as those of the class.
        """
        return (self.mean[y] + self._spread(y, like, rng, components)).clamp_(0, 1)

    def _spread(self, y: Tensor, like: Tensor, rng: Rng, components: int) -> Tensor:
        factor = self.factor[:, :components]
        weights = rng.normal(like.new_empty(len(y), factor.shape[1]))
        # The directions are gathered in parts, as they take far more memory than the images.
        count = max(_GATHERED // factor[0].numel(), 1)
        parts = zip(weights.split(count), y.split(count), strict=True)
        return torch.cat([torch.einsum("nr,nrchw->nchw", w, factor[k]) for w, k in parts])

    def to(self, device: torch.device | str) -> ClassGaussians:
        """Return the statistics on another device."""
        parts = (self.mean, self.factor, self.ridge)
        mean, factor, ridge = (each.to(device) for each in parts)
        counts = None if self.counts is None else self.counts.to(device)
        return ClassGaussians(mean, factor, ridge, counts)


def start_at(
    name: str, gaussians: ClassGaussians | None, y: Tensor, like: Tensor, rng: Rng
) -> Tensor:
    """Return images in [0, 1] for the labels y (n,), shaped as `like`, by a name of `STARTS`.

    These are uniform noise (Grathwohl et al. 2020), the Gaussian of the class (Santurkar et al.
    2019), and its mean with a combination of its leading directions (OmnAI-Lab 2024).
    """
    if name == "uniform":
        return rng.uniform(like)
    assert gaussians is not None
    if name == "gaussian":
        return gaussians.draw(y, like, rng)
    return gaussians.sample_pca(y, like, rng, PCA_COMPONENTS)


def _principal(pixels: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (d,), scaled leading directions (rank, d) and the variance left to the rest.

    By subspace iteration on random vectors (Halko et al. 2011): exact at full rank, and a hundred
    times faster than a full decomposition.
    """
    count, size = pixels.shape
    mean = pixels.mean(0)
    centred = (pixels - mean).double()
    rng = BatchRng(0, pixels.device)
    basis = rng.normal(centred.new_empty(size, min(rank + 8, size)))
    for _ in range(6):
        basis = torch.linalg.qr(centred.T @ (centred @ basis)).Q
    _, spread, rotation = torch.linalg.svd(centred @ basis, full_matrices=False)
    deviations = spread[:rank] / count**0.5
    factor = centred.new_zeros(rank, size)
    factor[: len(deviations)] = deviations[:, None] * (rotation[:rank] @ basis.T)
    left_out = centred.square().sum() / count - deviations.square().sum()
    rest = left_out.clamp_min(0) / max(size - rank, 1)
    return mean, factor.float(), (rest + 1e-4).float()
