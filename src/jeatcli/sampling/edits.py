"""Images made of a picture or between two classes: counterfactuals, inpainting, interpolation.

They are plans whose images start elsewhere, keep some pixels, or minimise another energy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.model import Model, class_index
from ..core.energy import PerImage
from ..core.rng import ImageRng, Rng, mix
from ..data.images import load_images, to_unit_range
from ..data.pictures import light_pixels, read_exact
from ..errors import JeatError, UsageProblem
from ..runtime.digests import checksum
from ..runtime.files import expand
from ..runtime.progress import SILENT, Reporter
from ..runtime.words import counted
from .plan import SamplingPlan
from .settings import SampleSettings


def apply(
    plan: SamplingPlan, settings: SampleSettings, reporter: Reporter = SILENT
) -> SamplingPlan:
    """Return the plan that starts at the picture, or fills the hole in it, if there is one."""
    source = settings.image if settings.image is not None else settings.inpaint
    if source is None:
        return plan
    image = read_image(source, plan.model, settings.data_dir, reporter)
    if settings.mask is None:
        return counterfactual(plan, image)
    return inpainting(plan, image, read_mask(settings.mask, plan.model))


def describe(settings: SampleSettings, dataset: str) -> dict[str, Any]:
    """Return the pictures or classes that the images are made of, for the record."""
    if settings.interpolate is not None:
        return {"interpolate": [str(end) for end in settings.interpolate]}
    sources = {"from": settings.image, "inpaint": settings.inpaint, "mask": settings.mask}
    record: dict[str, Any] = {}
    for name, source in sources.items():
        if isinstance(source, int):
            record[name] = {"dataset": dataset, "split": "test", "index": source}
        elif source is not None:
            path = source.expanduser()
            record[name] = {"path": str(path), "sha256": checksum(path)}
    return record | ({"init": "from"} if settings.image is not None else {})


def read_image(
    source: Path | int, model: Model, data_dir: Path | None = None, reporter: Reporter = SILENT
) -> Tensor:
    """Read a picture, or the test image of a number, float32 (C, H, W) in [0, 1]."""
    if isinstance(source, int):
        test = load_images(model.meta.dataset, "test", data_dir=data_dir, reporter=reporter)
        if not 0 <= source < len(test):
            raise UsageProblem(
                f"{model.meta.dataset} has no test image {source:,}",
                f"choose one from 0 to {len(test) - 1:,}",
            )
        return to_unit_range(test.x[source]).to(model.device)
    pixels = read_exact(expand(source), model.meta.shape, f"the images of `{model.name}`")
    return to_unit_range(torch.from_numpy(pixels)).to(model.device)


def read_mask(path: Path, model: Model) -> Tensor:
    """Read a picture whose light pixels are the hole, bool (H, W)."""
    hole, transparent = light_pixels(expand(path))
    height, width = model.meta.shape[1:]
    light = counted(int(hole.sum()), "light pixel")
    if hole.shape != (height, width) or not hole.any():
        raise JeatError(
            f"the mask `{path}` is {hole.shape[1]}x{hole.shape[0]} with {light}",
            f"it must be {width}x{height}, and its light pixels are those to be filled",
        )
    if transparent and hole.all():  # as of white paint on a transparent ground
        raise JeatError(
            f"all pixels of the mask `{path}` are light, so nothing of the picture would be kept",
            "paint what is to be filled white on black; transparent pixels count as white",
        )
    return torch.from_numpy(hole).to(model.device)


def counterfactual(plan: SamplingPlan, image: Tensor) -> SamplingPlan:
    """Return the plan started at one image (C, H, W): what would make it another class.

    Augustin et al. (2020) draw such images with robust classifiers, by descent inside a ball.
    """

    def start(y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        return image.expand_as(like).clone()

    return replace(plan, initializer=start, origin=image)


def inpainting(plan: SamplingPlan, image: Tensor, hole: Tensor) -> SamplingPlan:
    """Return the plan that draws the pixels of a hole (H, W) alone, the rest being the image's.

    Santurkar et al. (2019) keep the rest by a penalty; here it is put back after each step.
    """

    def hold(x: Tensor) -> Tensor:
        return torch.where(hole, x, image)

    def start(y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        return hold(plan.initializer(y, like, rng))

    return replace(plan, initializer=start, hold=hold, origin=image)


@dataclass(frozen=True)
class Interpolation(SamplingPlan):
    """A path from one class to another, all images with the same random numbers.

    Image k of n minimises (1 - t) E(x, a) + t E(x, b) with t = k / (n - 1), where a and b are the
    `ends`, and starts as far between the starts of the two classes.
    """

    ends: tuple[int, int] = (0, 1)

    def share(self, index: Tensor) -> Tensor:
        """Return t for the images of these numbers, (n,)."""
        return (index / (len(self.labels) - 1)).to(self.model.device)

    def energy_of(self, index: Tensor, y: Tensor) -> PerImage:
        first, last = (self.class_energy(torch.full_like(y, end)) for end in self.ends)
        share = self.share(index)
        return lambda x: (1 - share) * first(x) + share * last(x)

    def rng(self, index: Tensor, candidate: int) -> ImageRng:
        return ImageRng([mix(self.seed, candidate)] * len(index))

    def start(self, index: Tensor, y: Tensor, rng: ImageRng, candidate: int) -> Tensor:
        share = self.share(index).view(-1, 1, 1, 1)
        again = self.rng(index, candidate)
        first = super().start(index, torch.full_like(y, self.ends[0]), rng, candidate)
        last = super().start(index, torch.full_like(y, self.ends[1]), again, candidate)
        return (1 - share) * first + share * last


def interpolation(plan: SamplingPlan, classes: Sequence[str | int], num: int) -> Interpolation:
    """Return the path between two classes by the settings of a plan."""
    ends = [class_index(name, plan.model.meta.classes) for name in classes]
    if num < 2 or ends[0] == ends[1]:
        raise UsageProblem(
            "an interpolation has two ends, not "
            f"{counted(num, 'image')} of {counted(len(set(ends)), 'class')}",
            "name two different classes, and at least `-n 2`",
        )
    nearer = torch.tensor([ends[2 * k >= num] for k in range(num)])
    return Interpolation(**{**vars(plan), "labels": nearer}, ends=(ends[0], ends[1]))
