"""The samplers: how images descend an energy. A row of `SAMPLERS` and a class, no more.

They are the core's two loops, with a hook that holds pixels, stops images and watches.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ..checkpoints.model import Model
from ..core import pgd
from ..core.energy import Hook, PerImage
from ..core.rng import Rng
from ..core.sgld import Chain, langevin, trained_chain
from ..errors import JeatError, UsageProblem
from .settings import SAMPLERS, SamplerSettings

Hold = Callable[[Tensor], Tensor]
Watch = Callable[[int, Tensor], None]

_SETTINGS = ("steps", "step_size", "noise", "temperature", "momentum", "clip", "eps", "stop")


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """A descent on an energy; its fields are those of `SamplerSettings` that it takes.

    `step_size` is a factor of the gradient, or the l2 length of a step, pixels in [0, 1].
    """

    steps: int
    step_size: float
    stop: float | None = None
    # Where images start, and the objective where the model's method prefers another sampler.
    init: ClassVar[str] = "gaussian"
    objective: ClassVar[str] = "joint"

    @classmethod
    @abstractmethod
    def suited(cls, model: Model) -> Self:
        """Return the sampler with the settings that suit a model."""

    @abstractmethod
    def run(self, energy: PerImage, start: Tensor, rng: Rng, hook: Hook) -> Tensor:
        """Lower `energy` from `start`, (n, C, H, W) in [0, 1]; return where images end, detached.

        The energy maps images to (n,), and they do not influence one another. `rng` is the source
        of noise. `hook`, called after each step, is described at `core.energy.Hook`.
        """

    @property
    def random(self) -> bool:
        """Whether two images that start alike may end differently."""
        return False

    @classmethod
    def takes(cls) -> set[str]:
        """Return the names of the settings that the sampler has."""
        return {field.name for field in fields(cls)}

    def changed(self, settings: dict[str, Any]) -> Self:
        """Return the sampler with other values of some of its settings."""
        return replace(self, **settings)

    def describe(self) -> dict[str, Any]:
        """Return its settings, `stop` only where there is one."""
        settings = asdict(self)
        stop = settings.pop("stop")
        return settings if stop is None else {**settings, "stop": stop}


@dataclass(frozen=True, kw_only=True)
class Sgld(Sampler):
    """Langevin dynamics, as the model's chains ran in training; momentum as OmnAI-Lab (2024)."""

    noise: float
    momentum: float = 0.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise UsageProblem(f"momentum must be at least 0 and below 1, not {self.momentum:g}")

    @classmethod
    def suited(cls, model: Model) -> Self:
        return cls(**asdict(trained_chain(model.meta.options, 100)))

    @property
    def random(self) -> bool:
        return self.noise > 0

    @classmethod
    def takes(cls) -> set[str]:
        return super().takes() | {"temperature"}

    def changed(self, settings: dict[str, Any]) -> Self:
        """Return the sampler with other settings.

        A `temperature` T stands for the noise sqrt(2 a T / (1 - m)) of a step of size a with
        momentum m, since a gradient then counts 1 / (1 - m) times. It lifts the clip unless one
        is given: clipped gradients have another stationary distribution.
        """
        settings = dict(settings)
        temperature = settings.pop("temperature", None)
        if temperature is None:
            return super().changed(settings)
        if "noise" in settings:
            raise UsageProblem(
                "`noise` and `temperature` exclude each other",
                "a temperature T is the noise sqrt(2 * step size * T)",
            )
        hot = replace(self, **{"clip": 0.0, **settings})
        variance = 2 * hot.step_size * temperature / (1 - hot.momentum)
        return replace(hot, noise=math.sqrt(variance))

    def run(self, energy: PerImage, start: Tensor, rng: Rng, hook: Hook) -> Tensor:
        chain = Chain(self.steps, self.step_size, self.noise, self.clip, self.momentum)
        return langevin(energy, start, chain, rng, hook)


@dataclass(frozen=True, kw_only=True)
class Ascent(Sampler):
    """Steps of fixed l2 length along the gradient, 33 of 0.2 for 3 x 32 x 32 (Yin et al. 2026).

    A model of `dat` draws in half as many steps as its negatives had at most, twice as long.
    """

    @classmethod
    def suited(cls, model: Model) -> Self:
        options = model.meta.options
        if "chain_step_size" in options:
            steps = math.ceil(options["chain_steps"] / 2)
            return cls(steps=steps, step_size=2 * options["chain_step_size"])
        return cls(steps=33, step_size=0.2 * relative_length(model))

    def run(self, energy: PerImage, start: Tensor, rng: Rng, hook: Hook) -> Tensor:
        return descend_in(self, energy, start, WholeSpace(math.inf), hook)


@dataclass(frozen=True, kw_only=True)
class Pgd(Sampler):
    """Targeted PGD in an l2 ball around the start, the best iterate kept (Santurkar et al. 2019).

    Their radius 30 and step 0.5 are for 3 x 32 x 32 pixels.
    """

    eps: float
    objective: ClassVar[str] = "ce"

    @classmethod
    def suited(cls, model: Model) -> Self:
        length = relative_length(model)
        return cls(steps=60, step_size=0.5 * length, eps=30 * length)

    def run(self, energy: PerImage, start: Tensor, rng: Rng, hook: Hook) -> Tensor:
        return descend_in(self, energy, start, pgd.L2(self.eps), hook, keep_best=True)


class WholeSpace(pgd.L2):
    """The l2 ball that bounds nothing."""

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        return moved


def descend_in(
    sampler: Sampler,
    energy: PerImage,
    start: Tensor,
    ball: pgd.Ball,
    hook: Hook,
    keep_best: bool = False,
) -> Tensor:
    """Raise minus the energy; the hook sees the energy itself."""
    return pgd.ascend(
        lambda x: -energy(x),
        start,
        ball,
        steps=sampler.steps,
        step_size=sampler.step_size,
        keep_best=keep_best,
        hook=lambda step, x, moved, values: hook(step, x, moved, -values),
    )


def resolve(name: str, model: Model, settings: SamplerSettings) -> Sampler:
    """Return the sampler of that name with the given settings, the rest suited to a model."""
    kind: type[Sampler] = SAMPLERS.load(name)
    explicit = {key: value for key in _SETTINGS if (value := getattr(settings, key)) is not None}
    for key in sorted(explicit.keys() - kind.takes()):
        able = [other for other in SAMPLERS if key in SAMPLERS.load(other).takes()]
        others = " or ".join(f"`{other}`" for other in able)
        raise UsageProblem(
            f"`{key}` belongs to the sampler {others}, and this one is `{name}`",
            "leave it out, or choose the other sampler",
        )
    return kind.suited(model).changed(explicit)


@dataclass
class Lowest:
    """The lowest objective that any image has had at a step, where images stop at one."""

    value: float = math.inf


def descend(
    sampler: Sampler,
    energy: PerImage,
    start: Tensor,
    rng: Rng,
    hold: Hold | None = None,
    watch: Watch | None = None,
    name: str = "the network",
    lowest: Lowest | None = None,
) -> Tensor:
    """Lower `energy` from `start` by a sampler and return where the images end, detached.

    `hold` restores, after each step, the pixels that must not change; `watch` is called with the
    number of the step and the images, the start being 0; `name` is that of the model; `lowest`
    takes the lowest energy that the sampler compares with its `stop`.
    """
    last, watched = start.detach(), 0
    going = torch.ones(len(start), dtype=torch.bool, device=start.device)

    def hook(step: int, x: Tensor, moved: Tensor, values: Tensor) -> Tensor | None:
        nonlocal last, watched, going
        if step == 0 and not values.isfinite().all():
            raise JeatError(
                f"the energies of {name} are not finite",
                "its weights are damaged, or its training diverged: use another checkpoint",
            )
        if watch:
            watch(step, x)
            watched += 1
        last = moved if hold is None else hold(moved)
        if sampler.stop is not None:
            # Once and for all: where the sampler disturbs the images, a value may rise again.
            going = going & (values > sampler.stop)
            if lowest:
                lowest.value = min(lowest.value, values.min().item())
            last = torch.where(going.view(-1, 1, 1, 1), last, x)
            if not going.any():
                return None
        return last

    end = sampler.run(energy, last, rng, hook)
    if not end.isfinite().all():
        raise JeatError(f"images of {name} are not finite", "lower the step size, or the noise")
    # Images that have all stopped stay where they are in the remaining steps.
    if watch:
        for step in range(watched, sampler.steps + 1):
            watch(step, last)
    return end


def relative_length(model: Model) -> float:
    """Return the l2 length of an image of the model relative to one of 3 x 32 x 32 pixels."""
    return float((torch.Size(model.meta.shape).numel() / 3072) ** 0.5)
