"""The smallest radius that breaks each image: attacks in a ball that holds every image."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core.threat import NORMS, Threat
from ..errors import UsageProblem
from .attacks import ATTACKS
from .attacks.attack import Attack
from .evaluator import Evaluator, labels_of

# Of the curve down to zero that the result has.
_POINTS = 41
_NONE = torch.full((2,), torch.nan)


def nearest_attacks(attacks: Sequence[Attack], transferred: bool) -> list[Attack]:
    """Return the attacks with the options by which they look for the nearest image.

    Raises:
        UsageProblem: If one of them does not, or the examples are crafted on another network.
    """
    if transferred:
        raise UsageProblem(
            "the nearest adversarial image is looked for on the network itself",
            "leave out `--transfer-from` or `--minimum-norm`",
        )
    able = {name: entry.when_nearest for name, entry in ATTACKS.items()}
    found = []
    for attack in attacks:
        if (more := able[attack.name]) is None:
            names = ", ".join(f"`{name}`" for name, options in able.items() if options is not None)
            raise UsageProblem(
                f"attack `{attack.name}` does not look for the nearest adversarial image",
                f"with `--minimum-norm` use {names}",
            )
        found.append(replace(attack, options={**attack.options, **more}))
    return found


def everywhere(norm: str, shape: Sequence[int]) -> Threat:
    """Return the ball around any image that holds all others."""
    white = torch.ones(1, *shape)
    return Threat(norm, NORMS.load(norm)(0.0).distance(white, torch.zeros_like(white)).item())


def measure(
    evaluators: Callable[[int], Evaluator], attacks: Sequence[Attack], eps: float
) -> tuple[dict[str, Any], Tensor]:
    """Run each attack on all images; return what `Evaluator.run` does, and the nearest images.

    `evaluators` returns the evaluator of the attack of that number alone, which keeps images; eps
    is the radius at which `robust` is reported.
    """
    labels, per_attack = labels_of(attacks), {}
    for number, label in enumerate(labels):
        evaluator = evaluators(number)
        outcome = evaluator.run()
        moved = evaluator.attacked
        assert moved is not None
        correct = torch.tensor(outcome["samples"]["correct"])
        found = torch.tensor([name is not None for name in outcome["samples"]["broken_by"]])
        radii = _distances(evaluator).masked_fill(~found, torch.inf).masked_fill(~correct, 0)
        if number == 0:
            smallest, by = torch.full_like(radii, torch.inf), torch.full(radii.shape, -1)
            nearest = moved.clone()
        nearer = radii < smallest
        newly = int(((smallest > eps) & (radii <= eps) & correct).sum())
        smallest = torch.where(nearer, radii, smallest)
        nearest[nearer], by[nearer] = moved[nearer], number
        robust = (smallest > eps).double().mean().item()
        (counts,) = outcome["per_attack"].values()
        per_attack[label] = counts | {
            "robust": robust,
            "broken": newly,
            "median": _quantiles(radii[correct])["median"],
        }
    broken = correct & (smallest <= eps)
    outcome["samples"] |= {
        "broken_by": [labels[by[k]] if broken[k] else None for k in range(len(by))],
        "distance": smallest.tolist(),
    }
    outcome |= {"robust": robust, "per_attack": per_attack}
    return outcome | {"minimum_norm": _summary(smallest, correct)}, nearest


def _distances(evaluator: Evaluator) -> Tensor:
    """Return how far each image as it was attacked is from the image."""
    assert evaluator.attacked is not None
    ball = NORMS.load(evaluator.options.threat.norm)(0.0)
    parts = zip(evaluator.attacked.split(1000), evaluator.clean().split(1000), strict=True)
    return torch.cat([ball.distance(moved, x) for moved, x in parts])


def _quantiles(radii: Tensor) -> dict[str, float]:
    """Return median and quartiles, infinite where too many images are not broken.

    Between a radius and an infinite one the quantile is infinite, too: it has no bound.
    """
    ordered, last = radii.double().sort().values, len(radii) - 1
    quantiles = {}
    for name, share in (("median", 0.5), ("lower_quartile", 0.25), ("upper_quartile", 0.75)):
        place, part = divmod(share * last, 1)
        low, high = ordered[[int(place), min(int(place) + 1, last)]] if last >= 0 else _NONE
        high = high if part else low
        quantiles[name] = float(torch.lerp(low, high, part) if high.isfinite() else high)
    return quantiles


def _summary(smallest: Tensor, correct: Tensor) -> dict[str, Any]:
    """Return the distribution over the images that are classified correctly, and the curve."""
    radii = smallest[correct]
    finite = radii[radii.isfinite()]
    top = finite.max().item() if len(finite) else 0.0
    grid = torch.linspace(0, top, _POINTS)
    left = [(smallest > radius).double().mean().item() for radius in grid]
    return {
        **_quantiles(radii),
        "unbroken": len(radii) - len(finite),
        "curve": {"eps": grid.tolist(), "robust": left},
    }
