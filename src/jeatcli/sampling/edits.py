"""Descents that do not begin at nothing: a counterfactual, a hole that is filled, a way between.

They are recipes like any other: what differs is where images start, what a step must not change,
or which energy is lowered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.model import Model, class_index
from ..core.energy import PerImage
from ..core.rng import ImageRng, Rng, mix
from ..data.collection import picture
from ..data.images import to_unit_range
from ..errors import JeatError, UsageProblem
from ..runtime.digests import checksum
from .plan import Recipe


@dataclass(frozen=True)
class Edit:
    """What a drawing begins with, if not with nothing; one of three at most.

    Args:
        image: A picture to start at (`--from`), instead of `init`.
        inpaint, mask: A picture, and one of its size whose light pixels are to be drawn.
        between: Two classes, from the first of which to the second the images lead.
    """

    image: str | Path | None = None
    inpaint: str | Path | None = None
    mask: str | Path | None = None
    between: tuple[str | int, str | int] | None = None

    def check(self, settings: Mapping[str, Any], classes: Sequence[str | int]) -> None:
        """Refuse what does not go together.

        Raises:
            UsageProblem: Naming it.
        """
        if sum(each is not None for each in (self.image, self.inpaint, self.between)) > 1:
            raise UsageProblem(
                "a drawing starts from an image, fills a hole, or leads from class to class",
                "choose one of `--from`, `--inpaint` and `--interpolate`",
            )
        if (self.inpaint is None) != (self.mask is None):
            raise UsageProblem("`--inpaint IMAGE` and `--mask MASK` need each other", "name both")
        if self.image is not None and settings.get("init") is not None:
            raise UsageProblem(
                "with `--from` the images start at that image, so `--init` would change nothing",
                "leave one of the two out",
            )
        if self.between is not None and tuple(classes) != ("all",):
            raise UsageProblem(
                "`--interpolate` names its classes itself, so `--class` would change nothing",
                "leave one of the two out",
            )

    def apply(self, recipe: Recipe) -> Recipe:
        """Return the recipe that starts at the image or fills the hole.

        Raises:
            JeatError: If a picture cannot be read or has another shape.
        """
        if self.image is not None:
            return counterfactual(recipe, read_image(self.image, recipe.model))
        if self.inpaint is None or self.mask is None:
            return recipe
        image = read_image(self.inpaint, recipe.model)
        return inpainting(recipe, image, read_mask(self.mask, recipe.model))

    def describe(self) -> dict[str, Any]:
        """Return what is set, to be added to the settings of the drawing."""
        if self.between is not None:
            return {"interpolate": [str(each) for each in self.between]}
        files = {"from": self.image, "inpaint": self.inpaint, "mask": self.mask}
        named = {name: Path(file).expanduser() for name, file in files.items() if file}
        found: dict[str, Any] = {
            name: {"path": str(path), "sha256": checksum(path)} for name, path in named.items()
        }
        return found | ({"init": "from"} if self.image else {})


NO_EDIT = Edit()


def read_image(path: str | Path, model: Model) -> Tensor:
    """Read a picture of the size and the channels of a model, float32 (C, H, W) in [0, 1].

    Raises:
        JeatError: If it cannot be read or has another shape.
    """
    pixels = picture(Path(path).expanduser(), model.meta.shape, f"the images of `{model.name}`")
    return to_unit_range(torch.from_numpy(pixels)).to(model.device)


def read_mask(path: str | Path, model: Model) -> Tensor:
    """Read a picture whose light pixels are the hole, bool (H, W).

    Raises:
        JeatError: If it cannot be read, has another size, or shows no hole.
    """
    try:
        with Image.open(Path(path).expanduser()) as image:
            hole = np.array(image.convert("L")) > 127
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise JeatError(f"cannot read the mask `{path}`: {problem}", "write it anew") from None
    if hole.shape != tuple(model.meta.shape[1:]) or not hole.any():
        height, width = model.meta.shape[1:]
        raise JeatError(
            f"the mask `{path}` is {hole.shape[1]}x{hole.shape[0]} with {hole.sum()} light pixels",
            f"it must be {width}x{height}, and its light pixels are those to be filled",
        )
    return torch.from_numpy(hole).to(model.device)


def counterfactual(recipe: Recipe, image: Tensor) -> Recipe:
    """Return the recipe started at one image (C, H, W): what would make it another class.

    Augustin et al. (2020) draw such images with robust classifiers, by descent inside a ball.
    """

    def start(y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        return image.expand_as(like).clone()

    return replace(recipe, start=start, origin=image)


def inpainting(recipe: Recipe, image: Tensor, hole: Tensor) -> Recipe:
    """Return the recipe that draws the pixels of a hole (H, W) alone, the rest being the image's.

    Santurkar et al. (2019) ask for the rest by a penalty; here it is put back after each step.
    """

    def hold(x: Tensor) -> Tensor:
        return torch.where(hole, x, image)

    def start(y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        return hold(recipe.start(y, like, rng))

    return replace(recipe, start=start, hold=hold, origin=image)


@dataclass(frozen=True)
class Interpolation(Recipe):
    """A way from one class to another in `num` images, all with the same random numbers.

    Image k lowers (1 - t) E(x, a) + t E(x, b) with t = k / (num - 1), and starts as far between
    the starts of the two classes.

    Args:
        ends: The indices a and b.
        num: Images, at least 2.
    """

    ends: tuple[int, int] = (0, 1)
    num: int = 2

    @classmethod
    def of(cls, recipe: Recipe, classes: Sequence[str | int], num: int) -> Interpolation:
        """Return the way between two classes by a recipe.

        Raises:
            UsageProblem: If there are fewer than two images, or the classes are one.
        """
        ends = [class_index(each, recipe.model.meta.classes) for each in classes]
        if num < 2 or ends[0] == ends[1]:
            raise UsageProblem(
                f"a way between two classes has two ends, not {num} image of {len(set(ends))}",
                "name two different classes, and at least `-n 2`",
            )
        return cls(**vars(recipe), ends=(ends[0], ends[1]), num=num)

    def labels(self) -> Tensor:
        """Return the class that each image is nearer to, (num,)."""
        return torch.tensor([self.ends[2 * k >= self.num] for k in range(self.num)])

    def share(self, index: Tensor) -> Tensor:
        """Return t for the images of these numbers, (n,)."""
        return (index / (self.num - 1)).to(self.model.device)

    def energy(self, index: Tensor, y: Tensor) -> PerImage:
        first, last = (self.class_energy(torch.full_like(y, end)) for end in self.ends)
        share = self.share(index)
        return lambda x: (1 - share) * first(x) + share * last(x)

    def rng(self, index: Tensor, candidate: int) -> ImageRng:
        return ImageRng([mix(self.seed, candidate)] * len(index))

    def begin(
        self, index: Tensor, y: Tensor, like: Tensor, rng: ImageRng, candidate: int
    ) -> Tensor:
        share = self.share(index).view(-1, 1, 1, 1)
        again = self.rng(index, candidate)
        first = self.start(torch.full_like(y, self.ends[0]), like, rng)
        last = self.start(torch.full_like(y, self.ends[1]), like, again)
        return (1 - share) * first + share * last
