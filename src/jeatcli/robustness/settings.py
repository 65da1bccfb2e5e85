"""The settings of `jeat attack`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..acceleration.ways import Wish, compile_setting, kernel_setting
from ..core.options import OBJECTIVES
from ..core.threat import NORMS
from ..errors import UsageProblem
from ..settings import (
    Settings,
    batch_size_setting,
    data_dir_setting,
    device_setting,
    on_setting,
    setting,
)

# Beyond any image: an l2 ball of this radius holds all of [0, 1]^d.
_WIDEST = 1000
# The gradients by which a purification may be attacked; only the first one is honest.
PURIFY_GRADIENTS = ("exact", "straight-through", "none")
PURIFY_DRAWS = 8
# What makes no sense without another setting, and what does not go with one another.
_BELONG = {
    "purify": ("purify_gradient", "purify_draws"),
    "certify": ("sigma", "certify_draws", "alpha"),
}
_MODES = ("purify", "certify", "minimum_norm", "transfer_from")
_choice = partial(setting, None, section="Attack")
_count = partial(_choice, low=1, high=1_000_000)
_radius = partial(_choice, high=_WIDEST, metavar="FRACTION")
_certify = partial(setting, None, section="Certificate")
_data = partial(setting, None, section="Data")


@dataclass(frozen=True)
class Certification:
    """How a radius is certified, in the letters of Cohen et al. (2019)."""

    sigma: float | None  # standard deviation of the noise; None is that of the run
    n: int  # draws that bound the probability of the class
    alpha: float  # probability that a radius is too large


@dataclass(frozen=True)
class AttackSettings(Settings):
    """What to attack with, on which images, and on which device."""

    attacks: tuple[str, ...] = setting(
        (),
        "Attack, listed below; repeatable: an image is robust if it withstands all",
        section="Attack",
        flags=("--attack",),
        kind="attack",
        multiple=True,
        distinct=True,
        shown="pgd, fmn with --minimum-norm",
    )
    objective: str | None = _choice(
        "What pgd and fgsm maximise: ce, joint E(x,y), marginal E(x), margin, dlr or kl",
        metavar="OBJECTIVE",
        choices=OBJECTIVES,
        shown="ce",
    )
    # Repeatable on the command line, where several have a union.
    norm: str | None = _choice(
        "Norm of the ball around an image; repeatable, for the union of balls",
        choices=NORMS,
        multiple=True,
        shown="the run's",
    )
    # Repeatable on the command line, where several make a curve.
    eps: float | None = _radius(
        "Radius of the ball, pixels in [0, 1]: 8/255 or 0.03; repeatable, for a curve",
        low=0,
        multiple=True,
        shown="the run's, else by data set",
    )
    steps: int | None = _count("Gradient steps", shown="by attack")
    step_size: float | None = _radius(
        "Step size of pgd and cw, pixels in [0, 1]", above=0, shown="2.5 eps / steps"
    )
    restarts: int | None = _count("Random starts; the worst for each image counts", shown="1")
    queries: int | None = _count("Queries of square", high=100_000_000, shown="5000")
    minimum_norm: bool = setting(
        False,
        "Find the smallest radius that breaks each image: fmn, fab or fab-t",
        section="Attack",
    )
    purify: int | None = _count(
        "Purify images by N Langevin steps on E(x) before they are classified, and attack that"
    )
    purify_gradient: str | None = _choice(
        "Gradient of the purification: exact, straight-through, or none",
        metavar="WAY",
        choices=PURIFY_GRADIENTS,
        shown="exact",
    )
    purify_draws: int | None = _count(
        "Noise samples over which that gradient is averaged", high=10_000, shown="8"
    )
    certify: bool = setting(
        False,
        "Smooth the network by Gaussian noise, certify an l2 radius, and attack it",
        section="Certificate",
    )
    sigma: float | None = _certify(
        "Standard deviation of the noise, pixels in [0, 1]",
        above=0,
        high=1000,
        shown="the run's, else 0.25",
    )
    certify_draws: int | None = _certify(
        "Noise samples per image that bound the probability",
        low=10,
        high=10_000_000,
        shown="1000",
    )
    alpha: float | None = _certify(
        "Probability that a certificate is wrong", above=0, high=0.5, shown="0.001"
    )
    target: str | int | None = _choice(
        "Drive every image toward this class, by name or index",
        metavar="CLASS",
        shown="untargeted",
    )
    transfer_from: object = _choice(
        "Craft the examples on this RUN and evaluate them on the other", kind="run"
    )
    exact: bool = setting(
        False, "Search in float32 even if the processor supports bfloat16", section="Attack"
    )
    seed: int = setting(0, "Seed of all random numbers", section="Attack", low=0)
    num: int | None = _data(
        "Use the first N test images",
        flags=("-n", "--num"),
        low=1,
        high=1_000_000_000,
        shown="all, 1,000 on a CPU",
    )
    indices: Path | None = _data("Use the test images whose indices are in this file")
    only: str | int | None = _data(
        "Use the images of this class, by name or index", flags=("--class",), metavar="CLASS"
    )
    on: str | None = on_setting()
    data_dir: Path | None = data_dir_setting()
    batch_size: int | None = batch_size_setting(
        None, "64 of 32x32; on CUDA by its memory", high=1_000_000
    )
    device: str = device_setting()
    compiled: bool | None = compile_setting()
    kernel: str = kernel_setting()
    images_to: Path | None = setting(
        None,
        "Write the attacked images, labels and verdicts",
        flags=("--save",),
        metavar="FILE.safetensors",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for base, names in _BELONG.items():
            for name in names:
                if getattr(self, name) is not None and not getattr(self, base):
                    flag, needed = (text.replace("_", "-") for text in (name, base))
                    raise UsageProblem(f"`--{flag}` is for `--{needed}`", f"add `--{needed}`")
        modes = [name for name in _MODES if getattr(self, name)]
        if self.certify and self.target is not None:
            modes.append("target")
        if len(modes) > 1:
            flags = " and ".join(f"`--{name.replace('_', '-')}`" for name in modes[:2])
            raise UsageProblem(f"{flags} do not go together", "leave one of the two out")
        self._check_draws()
        Wish(self.kernel, self.compiled).check()
        slow = [name for name in ("purify", "certify") if getattr(self, name)]
        if slow and self.kernel not in ("auto", "library"):
            raise UsageProblem(
                f"with `--{slow[0]}` the library alone computes the convolutions",
                f"leave `--kernel {self.kernel}` out",
            )

    def _check_draws(self) -> None:
        """Refuse draws that nobody takes, and too few for a test at alpha to reject anything."""
        if self.purify_gradient == "none" and self.purify_draws is not None:
            raise UsageProblem(
                "`--purify-draws` averages a gradient through the chain, and `--purify-gradient "
                "none` takes none",
                "leave one of the two out",
            )
        draws, alpha = self.certification.n, self.certification.alpha
        # The binomial test is two-sided: all draws for one class have probability 2^(1 - n).
        least = math.ceil(1 - math.log2(alpha))
        if self.certify and draws < least:
            raise UsageProblem(
                f"with {draws} draws no test at alpha {alpha:g} can show that an image is broken",
                f"give `--certify-draws {least}` or more, or a larger `--alpha`",
            )

    def smoothing(self, options: Mapping[str, Any]) -> float:
        """Return sigma: what is given, else that of a run trained by noise, else 0.25."""
        return float(self.sigma or options.get("sigma", 0.25))

    @property
    def certification(self) -> Certification:
        """What a certificate depends on, the defaults filled in."""
        return Certification(self.sigma, self.certify_draws or 1000, self.alpha or 0.001)

    @property
    def purification(self) -> dict[str, Any] | None:
        """The steps of a purification, the gradient by which it is attacked, and its draws."""
        if self.purify is None:
            return None
        gradient = self.purify_gradient or PURIFY_GRADIENTS[0]
        draws = self.purify_draws or PURIFY_DRAWS
        return {
            "steps": self.purify,
            "gradient": gradient,
            "draws": 1 if gradient == "none" else draws,
        }
