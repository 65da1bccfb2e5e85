"""Where images start: noise, the distribution of the class's training images, or stored images."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checkpoints import runs
from ..checkpoints.model import Model
from ..core.class_gaussians import STARTS, ClassGaussians, start_at
from ..core.rng import Rng
from ..data.images import load_images, to_unit_range
from ..errors import JeatError
from ..runtime.progress import SILENT, Reporter
from .settings import INITIALIZERS

# Standard deviation of `noise` around the grey 0.5, pixels in [0, 1].
NOISE = 0.1
_BATCH = 512

# Draws where images start: labels (n,), a tensor of the images' shape, a source of randomness.
Initializer = Callable[[Tensor, Tensor, Rng], Tensor]


def resolve(
    name: str, model: Model, data_dir: str | Path | None = None, reporter: Reporter = SILENT
) -> Initializer:
    """Return the function of `INITIALIZERS` that draws where a model's images start, in [0, 1].

    `data_dir` is for `data`, and for third-party checkpoints, which have no class statistics.
    """
    make: Callable[[Model, str | Path | None, Reporter], Initializer] = INITIALIZERS.load(name)
    return make(model, data_dir, reporter)


def noise(model: Model, data_dir: str | Path | None, reporter: Reporter) -> Initializer:
    """N(0.5, 0.1^2) in each pixel, clipped."""
    return lambda y, like, rng: (0.5 + NOISE * rng.normal(like)).clamp_(0, 1)


def of_class(
    name: str, model: Model, data_dir: str | Path | None, reporter: Reporter
) -> Initializer:
    """A start of `core.class_gaussians.STARTS`, by the statistics of the class if it needs them."""
    if name != "uniform":
        model = with_statistics(model, data_dir, reporter)
    gaussians = model.statistics

    def start(y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        return start_at(name, gaussians, y, like, rng)

    if name == "uniform" or gaussians is None:
        return start
    text = f"no training image of {{}}: `{name}` starts there from the statistics of all images"
    return _telling(start, gaussians.absent, text, model, reporter)


uniform, gaussian, pca = (partial(of_class, name) for name in STARTS)


def buffer(model: Model, data_dir: str | Path | None, reporter: Reporter) -> Initializer:
    """Ends of the training's chains that the model assigns to the class."""
    images = _replay_buffer(model)
    with torch.no_grad():
        parts = torch.split(images.to(model.device), _BATCH)
        classes = torch.cat([model.classifier(part).argmax(1) for part in parts]).cpu()
    absent = set(range(len(model.meta.classes))) - set(classes.tolist())
    text = "the model takes no image of the replay buffer for {}: `buffer` starts there from any"
    return _telling(partial(draw_from, images, classes), absent, text, model, reporter)


def data(model: Model, data_dir: str | Path | None, reporter: Reporter) -> Initializer:
    """Training images of the class."""
    training = load_images(model.meta.dataset, "train", data_dir=data_dir, reporter=reporter)
    present = set(training.y.tolist())

    def start(y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        if absent := set(y.tolist()) - present:
            names = ", ".join(f"`{training.classes[label]}`" for label in sorted(absent))
            raise JeatError(
                f"{model.meta.dataset} has no training image of {names}",
                "start elsewhere, such as `--init gaussian`, or choose other classes by `--class`",
            )
        return draw_from(training.x, training.y, y, like, rng)

    return start


def _telling(
    start: Initializer, absent: Collection[int], text: str, model: Model, reporter: Reporter
) -> Initializer:
    """Return a start that warns, once of each class, of those for which it has nothing of theirs.

    `{}` in the text stands for their names.
    """
    untold = set(absent)

    def telling(y: Tensor, like: Tensor, rng: Rng) -> Tensor:
        if absent_here := sorted(untold & set(y.tolist())):
            untold.difference_update(absent_here)
            names = ", ".join(f"`{model.meta.classes[label]}`" for label in absent_here)
            reporter.warn(text.format(names))
        return start(y, like, rng)

    return telling


def with_statistics(
    model: Model, data_dir: str | Path | None = None, reporter: Reporter = SILENT
) -> Model:
    """Return the model with class statistics: its own, or else measured on its training images."""
    if model.statistics is not None:
        return model
    reporter.say(f"`{model.name}` has no class statistics: measuring those of {model.meta.dataset}")
    images = load_images(model.meta.dataset, "train", data_dir=data_dir, reporter=reporter)
    measured = ClassGaussians.fit(images.x, images.y, len(images.classes))
    return replace(model, statistics=measured.to(model.device))


def draw_from(pool: Tensor, classes: Tensor, y: Tensor, like: Tensor, rng: Rng) -> Tensor:
    """Return a random image of a pool for each label y, of any class where its own has none.

    The pool (m, C, H, W) is float in [0, 1] or uint8, of the `classes` (m,); `like` has the
    images' shape.
    """
    shares = rng.uniform(like[:, :1, :1, :1]).flatten().tolist()
    indices = []
    for label, share in zip(y.tolist(), shares, strict=True):
        members = (classes == label).nonzero().flatten()
        members = members if len(members) else torch.arange(len(classes))
        indices.append(int(members[min(int(share * len(members)), len(members) - 1)]))
    chosen = pool[indices]
    chosen = to_unit_range(chosen) if chosen.dtype == torch.uint8 else chosen
    return chosen.to(like)


def _replay_buffer(model: Model) -> Tensor:
    path = model.path.with_name(runs.STATE_FILE)
    instead = "start elsewhere, such as `--init uniform`"
    if not path.is_file():
        raise JeatError(
            f"the replay buffer of `{model.name}` is missing: it would be in `{path}`",
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
