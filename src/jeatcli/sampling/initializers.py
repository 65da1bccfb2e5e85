"""Where images start: noise, the law of the class's training images, or images there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checkpoints import runs
from ..checkpoints.model import Model
from ..core.class_gaussians import ClassGaussians
from ..core.models.classifier import Classifier
from ..core.rng import Rng
from ..core.sgld import uniform_start
from ..data.images import load_images, to_unit_range
from ..errors import JeatError, unknown
from ..runtime.progress import SILENT, Reporter
from .settings import STARTS

# Of the leading directions of a class, as many as OmnAI-Lab (2024) take at most.
PCA_COMPONENTS = 30
# Standard deviation of `noise` around the grey 0.5, pixels in [0, 1].
NOISE = 0.1
_BATCH = 512

Start = Callable[[Tensor, Tensor, Rng], Tensor]


def prepare(
    name: str, model: Model, data_dir: str | Path | None = None, reporter: Reporter = SILENT
) -> Start:
    """Return the function of labels (n,), a tensor of the images' shape, and a source of randomness
    that draws where the images start, (n, C, H, W) in [0, 1].

    Args:
        name: `uniform` noise in [0, 1] (Grathwohl et al. 2020); the `gaussian` of the class
            (Santurkar et al. 2019); `pca`, its mean and a random combination of its leading
            directions (OmnAI-Lab 2024); `noise`, normal around the grey 0.5; `buffer`, the ends
            of the training's chains that the model takes for the class; `data`, training images
            of the class.
        model: Whose images start there.
        data_dir: Where the data sets are: for `data`, and for the checkpoints of others, which
            have no class statistics.
        reporter: Hears what was read.

    Raises:
        JeatError: If what the start needs is not there.
    """
    if name == "uniform":
        return lambda y, like, rng: uniform_start(like, rng)
    if name == "noise":
        return lambda y, like, rng: (0.5 + NOISE * rng.normal(like)).clamp_(0, 1)
    if name == "buffer":
        return Pool.of_buffer(model).draw
    if name == "data":
        return Pool.of_training(model, data_dir, reporter).draw
    if name not in STARTS:
        raise unknown("init", name, STARTS)
    statistics = with_statistics(model, data_dir, reporter).statistics
    assert statistics is not None
    if name == "gaussian":
        return statistics.draw
    return lambda y, like, rng: statistics.sample_pca(y, like, rng, PCA_COMPONENTS)


def with_statistics(
    model: Model, data_dir: str | Path | None = None, reporter: Reporter = SILENT
) -> Model:
    """Return the model with class statistics: its own, or else measured on its training images.

    Raises:
        JeatError: If the images cannot be had.
    """
    if model.statistics is not None:
        return model
    reporter.say(f"`{model.name}` has no class statistics: measuring those of {model.meta.dataset}")
    images = load_images(model.meta.dataset, "train", data_dir=data_dir, reporter=reporter)
    measured = ClassGaussians.fit(images.x, images.y, len(images.classes))
    return replace(model, statistics=measured.to(model.device))


@dataclass(frozen=True)
class Pool:
    """Images to start from, and the class of each.

    Args:
        images: (m, C, H, W), float in [0, 1] or uint8.
        classes: (m,).
    """

    images: Tensor
    classes: Tensor

    @classmethod
    def of_buffer(cls, model: Model) -> Pool:
        """Return the replay buffer of the training, each image of the class the model sees in it.

        Raises:
            JeatError: If the run's state is not beside the model, or its method has no chain.
        """
        images = _buffer(model)
        parts = torch.split(images.to(model.device), _BATCH)
        return cls(images, torch.cat([_guess(model.classifier, part) for part in parts]).cpu())

    @classmethod
    def of_training(cls, model: Model, data_dir: str | Path | None, reporter: Reporter) -> Pool:
        """Return the images on which the model was trained.

        Raises:
            JeatError: If they cannot be had.
        """
        found = load_images(model.meta.dataset, "train", data_dir=data_dir, reporter=reporter)
        return cls(found.x, found.y)

    def draw(self, y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        """Return a random image for each label of y (n,), of any class where its own has none."""
        shares = rng.uniform(like[:, :1, :1, :1]).flatten().tolist()
        places = []
        for label, share in zip(y.tolist(), shares, strict=True):
            members = (self.classes == label).nonzero().flatten()
            members = members if len(members) else torch.arange(len(self.classes))
            places.append(int(members[min(int(share * len(members)), len(members) - 1)]))
        chosen = self.images[places]
        chosen = to_unit_range(chosen) if chosen.dtype == torch.uint8 else chosen
        return chosen.to(like)


@torch.no_grad()
def _guess(classifier: Classifier, images: Tensor) -> Tensor:
    found: Tensor = classifier(images).argmax(1)
    return found


def _buffer(model: Model) -> Tensor:
    path = model.path.with_name(runs.STATE_FILE)
    instead = "start elsewhere, such as `--init uniform`"
    if not path.is_file():
        raise JeatError(
            f"the replay buffer of `{model.name}` is not there: it lies in `{path}`",
            f"copy the whole run, or {instead}",
        )
    try:
        with safe_open(path, framework="pt") as state:
            images: Tensor = state.get_tensor("method.buffer")
    except (SafetensorError, OSError) as problem:
        raise JeatError(
            f"`{path}` holds no replay buffer, which the method `{model.meta.method}` "
            f"may not have: {problem}",
            instead,
        ) from None
    return images.float()
