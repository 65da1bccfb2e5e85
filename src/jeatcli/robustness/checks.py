"""What makes an evaluation doubtful, looked for before and after the attacks.

Most of the signs are those of AutoAttack (Croce and Hein 2020a; Carlini et al. 2019 give the
reasons). Each has a section of its own in docs/attacks.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import energy, objectives
from ..core.models.classifier import Classifier, frozen
from ..core.threat import Threat
from ..errors import JeatError
from .attacks.attack import Attack

_PASSES = 5
_RANDOM = 1e-4
_PROBABLE = 1e-5
# Square may take so much more than the others before it is odd: 0.2 points.
_SQUARE = 0.002
# Radii beyond these are probably of another pixel scale: as the RMS change of a pixel, and for l2,
# whose published radii begin at 36/255, as they are: 8/255 is meant for linf.
_SMALL, _LARGE = 0.1 / 255, 0.4
_SMALL_L2 = 0.05
_WHITE_BOX_FREE = ("square",)
# Of the attacks with gradients, those that find what is there on a network that masks nothing.
_STRONG = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t")


@dataclass(frozen=True)
class Symptom:
    """A reason to doubt the result.

    Args:
        name: The section of docs/attacks.md that explains it.
        text: What was seen, and what to do.
    """

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} (docs/attacks.md#{self.name})"


def before(
    classifier: Classifier, x: Tensor, y: Tensor, threat: Threat, attacks: Sequence[Attack]
) -> list[Symptom]:
    """Return what is odd about a classifier and a threat model.

    Args:
        classifier: In eval mode.
        x: Some images (n, C, H, W) in [0, 1].
        y: Their labels (n,).
        threat: The threat model.
        attacks: What is going to be run.

    Raises:
        JeatError: If there are logits of NaN, of which no verdict means anything.
    """
    averaged = any(attack.options.get("draws", 1) > 1 for attack in attacks)
    with torch.no_grad():
        logits = classifier(x)
    if bad := int(logits.isnan().any(1).sum()):
        raise JeatError(
            f"the logits are NaN for {bad:,} of {len(x):,} images",
            "the run may have diverged: take an earlier one, or check the checkpoint",
        )
    found = [
        None if averaged else _randomised(classifier, x),
        _probabilities(logits),
        _zero_gradients(classifier, x, y),
        _few_classes(logits.shape[1]),
        _scale(threat, x[0].numel()),
        _input_range(classifier, x, y),
    ]
    return [each for each in found if each is not None]


def after(per_attack: Mapping[str, Mapping[str, Any]], transferred: bool = False) -> list[Symptom]:
    """Return what is odd about what the attacks found.

    Args:
        per_attack: As in `Robustness`.
        transferred: Whether they saw another network, whose gradients are nobody's fault.
    """
    found = [None if transferred else _square_ahead(per_attack), _no_numbers(per_attack)]
    return [each for each in found if each is not None]


def _square_ahead(per_attack: Mapping[str, Mapping[str, Any]]) -> Symptom | None:
    """Compare Square with what was left by attacks of which one at least is strong."""
    left, strong = 1.0, False
    for label, found in per_attack.items():
        name = label.partition("#")[0]
        if strong and name in _WHITE_BOX_FREE and found["robust"] < left - _SQUARE:
            return Symptom(
                "square-beats-the-gradients",
                f"Square Attack broke {100 * (left - found['robust']):.1f} points of images "
                "that the attacks with gradients could not: the gradients are masked, and the "
                "true robustness is probably lower",
            )
        left, strong = found["robust"], strong or name in _STRONG
    return None


def _no_numbers(per_attack: Mapping[str, Mapping[str, Any]]) -> Symptom | None:
    counts = {label: found["nan"] for label, found in per_attack.items() if found.get("nan")}
    if not counts:
        return None
    each = ", ".join(f"{count:,} of `{label}`" for label, count in counts.items())
    return Symptom(
        "gradients-that-are-no-numbers",
        f"gradients were NaN ({each}), and led nowhere: mend the network's gradient, or trust "
        "attacks without gradients alone",
    )


@torch.no_grad()
def _randomised(classifier: Classifier, x: Tensor) -> Symptom | None:
    """Compare several passes, each image's logits scaled to norm 1."""
    passes = []
    for _ in range(_PASSES):
        logits = classifier(x)
        passes.append(logits / logits.norm(dim=1, keepdim=True).clamp_min(1e-10))
    apart = max((other - passes[0]).norm(dim=1).max().item() for other in passes[1:])
    if apart <= _RANDOM:
        return None
    return Symptom(
        "randomised-outputs",
        f"the logits of the same images differ by {apart:.2g} from pass to pass: use "
        "`--attack autoattack-rand`",
    )


def _probabilities(logits: Tensor) -> Symptom | None:
    sums = (logits.sum(1) - 1).abs().max().item()
    if logits.min() < -_PROBABLE or logits.max() > 1 + _PROBABLE or sums > _PROBABLE:
        return None
    return Symptom(
        "outputs-that-are-probabilities",
        "the outputs are probabilities, not logits: cross-entropy and energies of them are wrong; "
        "take the softmax off the network",
    )


def _zero_gradients(classifier: Classifier, x: Tensor, y: Tensor) -> Symptom | None:
    """Count the correct images at which the cross-entropy or the margin has no gradient."""
    with frozen(classifier):
        moved = x.detach().requires_grad_(True)
        logits = classifier(moved)
        correct = logits.argmax(1) == y
        losses = {
            "cross-entropy": energy.cross_entropy(logits, y),
            "margin": objectives.margin(logits, y),
        }
        flat = {}
        for name, values in losses.items():
            (gradient,) = torch.autograd.grad(
                values.sum(), moved, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            flat[name] = int(((gradient.flatten(1).abs().amax(1) == 0) & correct).sum())
    name = max(flat, key=lambda each: flat[each])
    if not flat[name]:
        return None
    return Symptom(
        "zero-gradients",
        f"the gradient of the {name} is zero at {flat[name]} of {int(correct.sum())} images that "
        "are classified correctly: attacks on it start blind; trust DLR and Square more",
    )


def _few_classes(classes: int) -> Symptom | None:
    if classes >= 4:
        return None
    return Symptom(
        "fewer-than-4-classes",
        f"there are {classes} classes: the DLR loss needs 3 and its targeted form 4, so that "
        "AutoAttack cannot be run as published",
    )


def _scale(threat: Threat, pixels: int) -> Symptom | None:
    rms = threat.eps if threat.norm == "linf" else threat.eps / math.sqrt(pixels)
    small = rms < _SMALL or (threat.norm == "l2" and threat.eps < _SMALL_L2)
    if threat.eps == 0 or not (small or rms > _LARGE):
        return None
    size = "small" if small else "large"
    return Symptom(
        "eps-of-another-scale",
        f"eps {threat} is {size}: {rms * 255:.3g}/255 a pixel; jeat's pixels are in [0, 1], "
        "before any normalisation",
    )


@torch.no_grad()
def _input_range(classifier: Classifier, x: Tensor, y: Tensor) -> Symptom | None:
    """Look for a pixel scale on which the classifier is far better than on [0, 1]."""
    scales = {"[0, 255]": 255 * x, "[-1, 1]": 2 * x - 1, "[-0.5, 0.5]": x - 0.5}
    here = _accuracy(classifier, x, y)
    there = {name: _accuracy(classifier, moved, y) for name, moved in scales.items()}
    best = max(there, key=lambda each: there[each])
    error = math.sqrt(0.25 / len(x))
    if there[best] < max(0.5, 1.5 * here, here + 4 * error):
        return None
    return Symptom(
        "inputs-of-another-range",
        f"{100 * here:.0f} % of the images are classified correctly, but {100 * there[best]:.0f} % "
        f"with pixels in {best}: the normalisation is wrong, and so is every number",
    )


def _accuracy(classifier: Classifier, x: Tensor, y: Tensor) -> float:
    return float((classifier(x).argmax(1) == y).float().mean())
