"""The descents by which images are drawn: a rule a sampler, and the one loop that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..core import pgd
from ..core.rng import Rng
from ..core.sgld import PerImage, langevin_step
from ..errors import UsageProblem, unknown

OBJECTIVES = ("joint", "ce", "marginal")
STARTS = ("uniform", "gaussian", "pca", "noise", "buffer", "data")
# What a sampler takes beside the objective, the start, the steps, their size and the stop.
OPTIONS: dict[str, tuple[str, ...]] = {
    "sgld": ("noise", "temperature", "momentum", "clip"),
    "ascent": (),
    "pgd": ("eps",),
}
SAMPLERS = tuple(OPTIONS)

Rule = Callable[[Tensor, Tensor], Tensor]
Hold = Callable[[Tensor], Tensor]
Watch = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Descent:
    """How images are drawn.

    Args:
        sampler: `sgld`, Langevin dynamics; `ascent`, steps of one l2 length along the gradient
            (Yin et al. 2026); or `pgd`, targeted PGD in an l2 ball around the start that keeps
            each image's best iterate (Santurkar et al. 2019).
        objective: What is lowered: `joint` E(x, y), `ce`, or `marginal` E(x).
        init: Where images start, a name of `starts.prepare`.
        steps: Gradient steps.
        step_size: Factor of the gradient (sgld) or l2 length of a step, pixels in [0, 1].
        noise: Standard deviation of the noise of an sgld step.
        clip: Largest absolute component of the gradient of sgld; 0 for no limit.
        eps: l2 radius of pgd.
        momentum: Part of the last step that an sgld step repeats (OmnAI-Lab 2024).
        stop: An image rests once the objective is as low as this; None for never.

    Raises:
        UsageProblem: If a value is out of range.
    """

    sampler: str
    objective: str
    init: str
    steps: int
    step_size: float
    noise: float
    clip: float
    eps: float
    momentum: float = 0.0
    stop: float | None = None

    def __post_init__(self) -> None:
        choices = {"sampler": SAMPLERS, "objective": OBJECTIVES, "init": STARTS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in ("steps", "step_size", "noise", "clip", "eps"):
            if not getattr(self, name) >= 0:
                raise UsageProblem(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise UsageProblem(f"momentum must be at least 0 and below 1, not {self.momentum}")

    @property
    def random(self) -> bool:
        """Whether two images that start alike may end differently."""
        return self.sampler == "sgld" and self.noise > 0

    def with_settings(self, given: Mapping[str, Any]) -> Descent:
        """Return the descent with some settings of `given`, those that are None left out.

        A `temperature` T stands for the noise sqrt(2 a T / (1 - m)) of a step of size a with
        momentum m, for a gradient counts 1 / (1 - m) times by then, and for no clip unless one is
        given: it would have another law.

        Raises:
            UsageProblem: If the sampler has no such setting, or a value is out of range.
        """
        said = {key: value for key, value in given.items() if value is not None}
        others = {name for names in OPTIONS.values() for name in names}
        for name in sorted(said.keys() & others - set(OPTIONS[self.sampler])):
            takes = " or ".join(f"`{each}`" for each in SAMPLERS if name in OPTIONS[each])
            raise UsageProblem(
                f"`{name}` belongs to the sampler {takes}, and this one is `{self.sampler}`",
                "leave it out, or choose the other sampler",
            )
        temperature = said.pop("temperature", None)
        if temperature is None:
            return replace(self, **said)
        if "noise" in said or not temperature >= 0:
            raise UsageProblem(
                "`noise` and `temperature` exclude each other, and neither is negative",
                "a temperature T is the noise sqrt(2 * step size * T)",
            )
        chosen = replace(self, **{"clip": 0.0, **said})
        variance = 2 * chosen.step_size * temperature / (1 - chosen.momentum)
        return replace(chosen, noise=math.sqrt(variance))

    def describe(self) -> dict[str, Any]:
        """Return the settings that this sampler uses, and no others."""
        used = ("sampler", "objective", "init", "steps", "step_size")
        own = {"sgld": ("noise", "momentum", "clip"), "ascent": (), "pgd": ("eps",)}[self.sampler]
        found = {name: getattr(self, name) for name in (*used, *own)}
        return found | ({} if self.stop is None else {"stop": self.stop})


def descend(
    descent: Descent,
    energy: PerImage,
    start: Tensor,
    rng: Rng,
    hold: Hold | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Lower `energy` from `start` and return where the images end, detached.

    Args:
        descent: The sampler and its settings; where it starts is the caller's.
        energy: Maps images (n, C, H, W) to (n,); images do not influence one another.
        start: Images (n, C, H, W) in [0, 1].
        rng: Source of the noise of sgld.
        hold: Puts back, after each step, what must not change.
        watch: Called with the number of the step and the images, the start being 0.
    """
    x = start.detach()
    step_rule = _rule(descent, x, rng)
    best, height = x, x.new_full((len(x),), -torch.inf)
    for step in range(descent.steps):
        if watch:
            watch(step, x)
        x = x.requires_grad_(True)
        values = energy(x)
        (slope,) = torch.autograd.grad(values.sum(), x)
        x, values = x.detach(), values.detach()
        if descent.sampler == "pgd":
            best, height = pgd.better(x, -values, best, height)
        moved = step_rule(x, slope)
        if hold:
            moved = hold(moved)
        if descent.stop is not None:
            going = values > descent.stop
            if not going.any():
                # All rest: on every step that is left they are where they are.
                if watch:
                    for rest in range(step + 1, descent.steps):
                        watch(rest, x)
                break
            moved = torch.where(going.view(-1, 1, 1, 1), moved, x)
        x = moved
    if watch:
        watch(descent.steps, x)
    if descent.sampler != "pgd":
        return x
    with torch.no_grad():
        return pgd.better(x, -energy(x), best, height)[0]


def _rule(descent: Descent, start: Tensor, rng: Rng) -> Rule:
    """Return what makes of images and the slopes of their energies the next images."""
    if descent.sampler == "sgld":
        return _langevin(descent, rng)
    ball = pgd.L2(descent.eps)

    def ascent(x: Tensor, slope: Tensor) -> Tensor:
        return (x + ball.step(-slope, descent.step_size)).clamp_(0, 1)

    def bounded(x: Tensor, slope: Tensor) -> Tensor:
        moved = x + ball.step(-slope, descent.step_size)
        return ball.project(moved, start).clamp_(0, 1)

    return ascent if descent.sampler == "ascent" else bounded


def _langevin(descent: Descent, rng: Rng) -> Rule:
    velocity: Tensor | None = None

    def rule(x: Tensor, slope: Tensor) -> Tensor:
        nonlocal velocity
        if descent.clip:
            slope = slope.clamp(-descent.clip, descent.clip)
        if descent.momentum:
            slope = slope if velocity is None else slope.add(velocity, alpha=descent.momentum)
            velocity = slope
        return langevin_step(x, slope, descent.step_size, descent.noise, rng)

    return rule
