"""Direct Ascent Synthesis: the sampler that draws by classifiers that are not robust."""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.model import Model
from ..core import pgd
from ..core.energy import Hook, PerImage
from ..core.rng import Rng
from .samplers import Sampler, WholeSpace, descend_in, relative_length


@dataclass(frozen=True, kw_only=True)
class DirectAscent(Sampler):
    """Ascent of a sum of images at the resolutions 1, 2, 4, ... (Fort and Whitaker 2025).

    The network sees the image shifted by up to an eighth of its side, and under noise of standard
    deviation `noise`. Here each resolution contributes to a step with the same length, and pixels
    are clipped.
    """

    noise: float
    init: ClassVar[str] = "noise"

    @classmethod
    def suited(cls, model: Model) -> Self:
        return cls(steps=60, step_size=0.5 * relative_length(model), noise=0.1)

    @property
    def random(self) -> bool:
        return True

    def run(self, energy: PerImage, start: Tensor, rng: Rng, hook: Hook) -> Tensor:
        reach = torch.tensor(start.shape[-2:]) // 8

        def disturbed(x: Tensor) -> Tensor:
            shares = rng.uniform(x.new_empty(len(x), 1, 1, 2)).flatten(1).cpu()
            shifts = (((2 * reach + 1) * shares).long() - reach).tolist()
            moved = [image.roll(shift, (1, 2)) for image, shift in zip(x, shifts, strict=True)]
            return energy(torch.stack(moved) + self.noise * rng.normal(x))

        return descend_in(self, disturbed, start, _Resolutions(start.shape[-2:]), hook)


class _Resolutions(WholeSpace):
    """Steps of an image that is a sum of smaller ones, each enlarged bilinearly."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__(math.inf)
        self.shape = shape

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Return the sum over the resolutions of U U^T g, normalised, U being the enlargement."""
        total = torch.zeros_like(gradient)
        for level in range((max(self.shape) - 1).bit_length() + 1):
            rows, columns = (_smoothing(min(2**level, side), side, gradient) for side in self.shape)
            total += pgd.normalize_l2(rows @ gradient @ columns)
        return size * pgd.normalize_l2(total)


def _smoothing(small: int, side: int, like: Tensor) -> Tensor:
    """Return U U^T, (side, side), of the linear enlargement U of `small` numbers to `side`."""
    eye = torch.eye(small, device=like.device, dtype=like.dtype)
    enlarged = F.interpolate(eye[None], size=side, mode="linear")[0]
    return enlarged.T @ enlarged
