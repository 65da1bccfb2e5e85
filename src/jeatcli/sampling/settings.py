"""The settings of a descent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

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
