"""Objectives that an attack maximises; each maps logits (n, K) to (n,).

Untargeted forms take the true label, targeted ones the class to reach (dlr also the true one).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageProblem, unknown
from . import energy
from .energy import Logits, PerImage
from .options import OBJECTIVES as OBJECTIVES


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return max_{k != y} f[k] - f[y] (Carlini and Wagner 2017)."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - logits.gather(1, y[:, None]).squeeze(1)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Return the difference of logits ratio (Croce and Hein 2020a).

    (max_{k != y} f[k] - f[y]) / (f_(1) - f_(3)), with f_(i) the i-th largest logit.
    """
    ranked = logits.topk(3, dim=1).values
    return margin(logits, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return (f[t] - f[y]) / (f_(1) - (f_(3) + f_(4)) / 2) (Croce and Hein 2020a)."""
    ranked = logits.topk(4, dim=1).values
    gap = energy.joint(logits, y) - energy.joint(logits, target)
    return gap / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2 + 1e-12)


def kl(logits: Tensor, clean: Tensor) -> Tensor:
    """Return KL(p(.|x) || p(.|x^)) for clean logits of x and logits of x^ (Zhang et al. 2019)."""
    divergence = F.kl_div(
        logits.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True
    )
    return divergence.sum(1)


_LEAST_CLASSES = {"dlr": 3, "targeted dlr": 4}


def objective(
    name: str, model: Logits, x: Tensor, y: Tensor, target: Tensor | None = None
) -> PerImage:
    """Return the objective as a function of the moved images; see `loss`."""
    value = loss(name, model, x, y, target)
    return lambda moved: value(model(moved))


def loss(name: str, model: Logits, x: Tensor, y: Tensor, target: Tensor | None = None) -> PerImage:
    """Return the objective that an attack maximises, as a function of the moved images' logits.

    Untargeted: `ce` the cross-entropy, `joint` E(x, y), `marginal` E(x), `margin` the
    Carlini-Wagner margin, `dlr` its scale-free form, `kl` the divergence from the clean
    prediction. With a target t: minus the cross-entropy, minus E(x, t), minus E(x), the margin
    of t over the rest, the targeted ratio, minus the divergence from t's one-hot (which is minus
    the cross-entropy).

    Args:
        name: One of `OBJECTIVES`.
        model: Maps images (n, C, H, W) in [0, 1] to logits (n, K).
        x: The clean images; only `kl` evaluates the model there.
        y: True labels (n,).
        target: Labels to reach (n,), or None for an untargeted attack.

    Raises:
        UsageProblem: If there is no such objective.
    """
    if name not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES)
    label, sign = (y, 1) if target is None else (target, -1)
    if name == "kl" and target is None:
        with torch.no_grad():
            clean = model(x)
        return lambda logits: kl(logits, clean)
    if name == "dlr":
        return lambda logits: dlr(logits, y) if target is None else targeted_dlr(logits, y, target)
    if name == "marginal":
        return lambda logits: sign * energy.marginal(logits)
    per_label = {"joint": energy.joint, "margin": margin}.get(name, energy.cross_entropy)
    return lambda logits: sign * per_label(logits, label)


def check_classes(name: str, classes: int, targeted: bool = False) -> None:
    """Refuse an objective that compares more classes than there are.

    Raises:
        UsageProblem: With an objective that does not.
    """
    needed = _LEAST_CLASSES.get(f"targeted {name}" if targeted else name, 2)
    if classes < needed:
        raise UsageProblem(
            f"objective `{name}` needs {needed} classes; there are {classes}",
            "use the objective `margin`",
        )
