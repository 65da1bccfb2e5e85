"""The options of the methods' two parts, declared once, without torch.

Those with a heading have a flag of their own in `jeat train`; the others are set by `-O`.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..settings import Settings, setting
from .threat import NORMS

OBJECTIVES = ("ce", "joint", "marginal", "margin", "dlr", "kl")

OPTIMISATION = "Optimisation"
option = partial(setting, section="")
_attack = partial(setting, section="Attack (methods with an inner attack)")
_sgld = partial(setting, section="SGLD (methods with a chain)")


def attack_objective(default: str) -> Any:
    """Declare the objective of a method's attack; its default distinguishes the methods."""
    return option(default, "Objective that the attack maximises", choices=OBJECTIVES)


def input_noise() -> Any:
    """Declare the noise on the training images of JEM's family: 0.03 in [-1, 1] as published."""
    text = "Standard deviation of the noise on training images, pixels in [0, 1]"
    return option(0.015, text, low=0, high=1e3)


def redeclared(options: type[Settings], name: str, default: Any) -> Any:
    """Declare an option again, with a default that suits a method."""
    return field(default=default, metadata=options.__dataclass_fields__[name].metadata)


@dataclass
class LossOptions(Settings):
    """The cross-entropy that every method minimises."""

    label_smoothing: float = setting(
        0.0,
        "Fraction of each label spread over all classes, in the loss only",
        section=OPTIMISATION,
        low=0,
        # At 1 no label is left to learn.
        high=0.99,
        metavar="SHARE",
    )


@dataclass
class InnerAttackOptions(Settings):
    """The inner attack on each training image."""

    norm: str = _attack("linf", "Norm of the ball around an image", choices=NORMS)
    eps: float = _attack(
        8 / 255,
        "Radius of the ball, pixels in [0, 1]: 8/255 or 0.03",
        low=0,
        high=1e3,
        metavar="FRACTION",
        shown="by data set",
    )
    attack_objective: str = attack_objective("ce")
    attack_steps: int = _attack(
        10,
        "Gradient steps; 1 is the single-step attack with a random start",
        low=1,
        high=1e6,
        shown="by architecture",
    )
    # By default 1.25 eps at most (Wong et al. 2020).
    attack_step_size: float | None = _attack(
        None,
        "Step size, pixels in [0, 1]",
        low=0,
        high=1e3,
        metavar="FRACTION",
        shown="2.5 eps / steps",
    )
    attack_start: str = option(
        "random",
        "Start in the ball (random), at the image (clean) or 0.001 of noise beside it (near)",
        choices=("random", "clean", "near"),
    )
    # In eval mode as TRADES, in train mode as Rice et al. (2020).
    attack_mode: str = option(
        "eval", "Mode of batch normalisation during the attack", choices=("eval", "train")
    )


@dataclass
class OutlierOptions(Settings):
    """Images of no class, as which negatives start."""

    ood: str = setting(
        "",
        "Start the negatives of dat at images of another data set, or at pictures",
        section="Data",
        metavar="DATASET|folder:PATH",
        kind="images",
        shown="noise, by -O chain_start",
    )


@dataclass
class ChainOptions(Settings):
    """The negatives of a persistent chain on E(x)."""

    sgld_steps: int = _sgld(20, "SGLD steps per batch", low=0, high=1e6, shown="by architecture")
    sgld_step_size: float = _sgld(
        0.25,
        "Factor of the energy's gradient, pixels in [0, 1]; JEM's 1 in [-1, 1] is 0.25 here",
        low=0,
        high=1e6,
    )
    sgld_noise: float = _sgld(
        0.005,
        "Standard deviation of the noise of a step; JEM's 0.01 is 0.005 here",
        low=0,
        high=1e3,
    )
    sgld_clip: float = option(
        1.0, "Largest absolute component of the energy's gradient (0: no limit)", low=0, high=1e6
    )
    buffer_size: int = _sgld(
        10_000, "Images in the replay buffer", low=1, high=1e9, shown="by data set"
    )
    reinit: float = _sgld(0.05, "Probability of restarting a chain", low=0, high=1, metavar="SHARE")
    chain_start: str = option(
        "uniform",
        "Where chains start: uniform noise (JEM) or a Gaussian per class (JEM++)",
        choices=("uniform", "gaussian"),
    )
    lambda_: float = option(1.0, "Weight of E(x+) - E(x_K)", low=0, high=1e6)
    energy_l2: float = option(0.01, "Weight of the mean square of both energies", low=0, high=1e6)
