"""Reasons to doubt an evaluation, looked for before and after the attacks.

Most of the flags are those of AutoAttack's `checks.py` (Croce and Hein 2020a; Carlini et al. 2019
give the reasons). Each has a section of its own in docs/attacks.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..checkpoints.model import Model
from ..checkpoints.networks import probabilities
from ..core import energy, objectives, pgd
from ..core.models.classifier import Classifier, Normalize, frozen
from ..core.threat import Threat
from ..errors import JeatError
from ..runtime.words import counted
from .attacks import ATTACKS
from .attacks.attack import Attack
from .attacks.batch import Batch
from .plausibility import PIXEL_RANGES, Statistics, described, likelier, low_accuracy

_PASSES = 5
_RANDOM = 1e-4
# Square may break this many more images than the others before it is suspicious: 0.2 points.
_SQUARE = 0.002
# Radii beyond these are probably of another pixel scale: as the RMS change of a pixel, and for l2,
# whose published radii begin at 36/255, as they are: 8/255 is meant for linf.
_SMALL, _LARGE = 0.1 / 255, 0.4
_SMALL_L2 = 0.05


@dataclass(frozen=True)
class Flag:
    """A reason to doubt the result."""

    name: str  # the section of docs/attacks.md that explains it
    text: str  # what was seen, and what to do

    def __str__(self) -> str:
        return f"{self.text} (docs/attacks.md#{self.name})"


def lost_to_gradients(name: str, lost: int, gradients: int) -> None:
    """Refuse images of NaN though no gradient was NaN: they would count as robust."""
    if lost and not gradients:
        raise JeatError(
            f"attack `{name}` returned {counted(lost, 'image')} with pixels that are NaN",
            "look for divisions by zero if it is your own; otherwise please report it",
        )


def inside_ball(name: str, batch: Batch, moved: Tensor, threat: Threat) -> None:
    """Check that an attack kept to its ball and to [0, 1]."""
    distance = pgd.ball(threat).distance(moved, batch.x).max().item()
    in_range = bool(((moved >= 0) & (moved <= 1)).all())
    # False for NaN, too. The slack is float32's rounding on the way to the ball and back.
    if not (distance <= threat.eps + 1e-6 * max(1.0, threat.eps) and in_range):
        raise JeatError(
            f"attack `{name}` left its ball: distance {distance:g} for {threat}",
            "correct the attack if it is your own; otherwise please report it",
        )


def before(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    attacks: Sequence[Attack],
    normalisation: Statistics | None = None,
) -> list[Flag]:
    """Return what is odd about a classifier and a threat model, on some images and labels.

    `normalisation` is that of the images' data set.
    """
    averaged = any(attack.options.get("draws", 1) > 1 for attack in attacks)
    with torch.no_grad():
        logits = classifier(x)
    if bad := int((~logits.isfinite()).any(1).sum()):
        raise JeatError(
            f"the logits are NaN or infinite for {bad:,} of {len(x):,} images",
            "the run may have diverged: use an earlier one, or check the checkpoint",
        )
    return _raised(
        {
            "randomised-outputs": None if averaged else _randomised(classifier, x),
            "outputs-that-are-probabilities": _probabilities(logits),
            "zero-gradients": _zero_gradients(classifier, x, y),
            "fewer-than-4-classes": _few_classes(logits.shape[1], attacks),
            "eps-of-another-scale": scale(threat, x[0].numel()),
            "inputs-of-another-range": _normalisation(classifier, x, y, normalisation),
        }
    )


def of_model(model: Model, x: Tensor, y: Tensor, batch_size: int) -> list[Flag]:
    """Return what is odd about a model's training and its clean accuracy on images and labels."""
    with torch.no_grad():
        predicted = torch.cat([model.classifier(part).argmax(1) for part in x.split(batch_size)])
    low = low_accuracy(predicted, y, len(model.meta.classes), model.stated_accuracy)
    other = likelier(model, predicted, x, y, batch_size) if model.foreign else None
    return _raised(
        {
            "a-run-that-is-not-finished": model.unfinished,
            "low-clean-accuracy": low,
            "another-function-is-likelier": other,
        }
    )


def after(
    per_attack: Mapping[str, Mapping[str, Any]],
    transferred: bool = False,
    certificate: Mapping[str, Any] | None = None,
    eps: float = 0.0,
) -> list[Flag]:
    """Return what is odd about `per_attack`, and about a certificate at a radius `eps`.

    The gradients of another network are its own fault.
    """
    return _raised(
        {
            "eps-beyond-any-certificate": _beyond(certificate, eps) if certificate else None,
            "square-beats-the-gradients": None if transferred else _square_ahead(per_attack),
            "gradients-that-are-no-numbers": _no_numbers(per_attack),
        }
    )


def _raised(texts: Mapping[str, str | None]) -> list[Flag]:
    return [Flag(name, text) for name, text in texts.items() if text]


def _beyond(certificate: Mapping[str, Any], eps: float) -> str | None:
    if eps <= certificate["largest"]:
        return None
    sigma, draws, alpha = (certificate[name] for name in ("sigma", "n", "alpha"))
    return (
        f"{draws:,} draws at alpha {alpha:g} and sigma {sigma:g} certify no radius above "
        f"{certificate['largest']:.3g}, so that nothing can be certified at {eps:g}: raise "
        "`--certify-draws` or `--sigma`, or lower `--eps`"
    )


def _square_ahead(per_attack: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Compare Square with what was left by attacks of which one at least is strong."""
    left, strong = 1.0, False
    for label, outcome in per_attack.items():
        entry = ATTACKS[label.partition("#")[0]]
        if strong and not entry.white_box and outcome["robust"] < left - _SQUARE:
            return (
                f"Square Attack broke {100 * (left - outcome['robust']):.1f} points of images "
                "that the gradient attacks could not: the gradients are masked, and the "
                "true robustness is probably lower"
            )
        left, strong = outcome["robust"], strong or entry.strong
    return None


def _no_numbers(per_attack: Mapping[str, Mapping[str, Any]]) -> str | None:
    counts = {label: outcome["nan"] for label, outcome in per_attack.items() if outcome.get("nan")}
    if not counts:
        return None
    listed = ", ".join(f"{count:,} of `{label}`" for label, count in counts.items())
    return (
        f"gradients were NaN ({listed}), so attacks could not use them: fix the gradient, or trust "
        "only attacks without gradients"
    )


@torch.no_grad()
def _randomised(classifier: Classifier, x: Tensor) -> str | None:
    """Compare several passes, each image's logits scaled to norm 1."""
    first, *others = (normalize(classifier(x), dim=1, eps=1e-10) for _ in range(_PASSES))
    apart = max((other - first).norm(dim=1).max().item() for other in others)
    if apart <= _RANDOM:
        return None
    return (
        f"the logits of the same images differ by {apart:.2g} from pass to pass: use "
        "`--attack autoattack-rand`"
    )


def _probabilities(logits: Tensor) -> str | None:
    if (last := probabilities(logits)) is None:
        return None
    return (
        "the outputs are probabilities, not logits, so cross-entropy and energies are wrong; "
        f"remove the {last} from the network"
    )


def _zero_gradients(classifier: Classifier, x: Tensor, y: Tensor) -> str | None:
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
    name = max(flat, key=lambda loss: flat[loss])
    if not flat[name]:
        return None
    return (
        f"the gradient of the {name} is zero at {flat[name]} of {int(correct.sum())} images that "
        "are classified correctly: attacks on it start blind; trust DLR and Square more"
    )


def _few_classes(classes: int, attacks: Sequence[Attack]) -> str | None:
    uses_dlr = any(
        attack.entry.uses_dlr or attack.options.get("objective") == "dlr" for attack in attacks
    )
    if classes >= 4 or not uses_dlr:
        return None
    return (
        f"there are {classes} classes: the DLR loss needs 3 and its targeted form 4, so that "
        "`autoattack-few` is not AutoAttack as published"
    )


def scale(threat: Threat, pixels: int) -> str | None:
    """Say so if a radius is probably one of another scale or norm; an image has so many pixels."""
    # The mean change of a pixel under l1.
    shared = {"linf": 1.0, "l1": float(pixels)}.get(threat.norm, math.sqrt(pixels))
    rms = threat.eps / shared
    small = rms < _SMALL or (threat.norm == "l2" and threat.eps < _SMALL_L2)
    if threat.eps == 0 or not (small or rms > _LARGE):
        return None
    size = "small" if small else "large"
    return (
        f"eps {threat} is {size}: {rms * 255:.3g}/255 per pixel; jeat's pixels are in [0, 1], "
        "before any normalisation"
    )


@torch.no_grad()
def _normalisation(
    classifier: Classifier, x: Tensor, y: Tensor, usual: Statistics | None
) -> str | None:
    """Look for a customary normalisation with which the classifier is far better."""
    ours, here, there = classifier.normalize, _accuracy(classifier, x, y), {}
    for mean, std in (*PIXEL_RANGES, *([usual] if usual else [])):
        theirs = Normalize(mean, std).to(x.device)
        # Pixels that the classifier's own normalisation turns into those of this one.
        moved = theirs(x) * ours.std + ours.mean
        there[described(mean, std)] = _accuracy(classifier, moved, y)
    best = max(there, key=lambda words: there[words])
    # One class for all images, which pixels out of range often get, is no sign of a better one.
    constant = float((y == y.mode().values).float().mean())
    if there[best] < max(0.5, max(here, constant) + 4 * math.sqrt(0.25 / len(x))):
        return None
    return (
        f"{100 * here:.0f} % of the images are classified correctly, but {100 * there[best]:.0f} % "
        f"with `{best}`: the normalisation is wrong, and so is every number"
    )


def _accuracy(classifier: Classifier, x: Tensor, y: Tensor) -> float:
    return float((classifier(x).argmax(1) == y).float().mean())
