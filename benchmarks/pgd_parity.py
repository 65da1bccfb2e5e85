"""PGD, image by image, against torchattacks and foolbox on the same net and images.

    pip install -e ".[reference]"
    python benchmarks/pgd_parity.py RUN [-n 200]

All three start at the image itself (no random start) with one step size, so that they must agree
to rounding; the others see the network in torch's own memory layout, as their users load it, and
torchattacks can do nothing else in l2. Printed for linf and l2: the largest difference of a pixel,
the share of images on which the verdicts agree, the robust accuracy of each, and the seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import foolbox
import torch
import torchattacks
from published_loops import plain
from torch import Tensor

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.core import pgd
from jeatcli.core.threat import Threat
from jeatcli.data.facts import dataset_facts
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch

STEPS = 20


@dataclass
class Outcome:
    """What one library found."""

    moved: Tensor
    robust: Tensor
    seconds: float


def ours(model: Model, x: Tensor, y: Tensor, threat: Threat, step: float) -> Tensor:
    """Attack by `attacks/pgd.py`, its random start replaced by the image."""
    plan = AttackOptions(threat, steps=STEPS, step_size=step)
    batch = Batch(x, y, None, torch.arange(len(x), device=x.device))
    with patch.object(type(pgd.ball(threat)), "start", lambda self, x, rng: x):
        return make_attack("pgd", plan)(model.classifier, batch, plan)


def by_torchattacks(model: Model, x: Tensor, y: Tensor, threat: Threat, step: float) -> Tensor:
    """Attack by torchattacks."""
    kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[threat.norm]
    attack = kind(
        plain(model.classifier).eval(), eps=threat.eps, alpha=step, steps=STEPS, random_start=False
    )
    moved: Tensor = attack(x, y)
    return moved


def by_foolbox(model: Model, x: Tensor, y: Tensor, threat: Threat, step: float) -> Tensor:
    """Attack by foolbox."""
    wrapped = foolbox.PyTorchModel(
        plain(model.classifier).eval(), bounds=(0, 1), device=model.device
    )
    kind = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[threat.norm]
    attack = kind(abs_stepsize=step, steps=STEPS, random_start=False)
    moved: Tensor = attack.run(
        wrapped, x, foolbox.criteria.Misclassification(y), epsilon=threat.eps
    )
    return moved


LIBRARIES: dict[str, Callable[[Model, Tensor, Tensor, Threat, float], Tensor]] = {
    "jeat": ours,
    "torchattacks": by_torchattacks,
    "foolbox": by_foolbox,
}


def run(name: str, model: Model, x: Tensor, y: Tensor, threat: Threat) -> Outcome:
    """Attack once and judge the result by the plain model."""
    began = time.perf_counter()
    moved = LIBRARIES[name](model, x, y, threat, 2.5 * threat.eps / STEPS).detach()
    seconds = time.perf_counter() - began
    with torch.no_grad():
        return Outcome(moved, model.classifier(moved).argmax(1) == y, seconds)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("-n", type=int, default=200)
    given = parser.parse_args()
    model = load(given.run)
    images = load_images(model.meta.dataset, "test").first(given.n).to(model.device)
    x, y = to_unit_range(images.x), images.y
    usual = dataset_facts(model.meta.dataset)
    print("| norm | library | robust | same verdict | largest difference | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    radii = usual.eps if usual else {"linf": 8 / 255, "l2": 0.5}
    for norm in ("linf", "l2"):  # torchattacks has no PGD in l1
        threat = Threat(norm, radii[norm])
        outcomes = {name: run(name, model, x, y, threat) for name in LIBRARIES}
        reference = outcomes["jeat"]
        for name, found in outcomes.items():
            same = (found.robust == reference.robust).float().mean().item()
            apart = (found.moved - reference.moved).abs().max().item()
            robust = found.robust.float().mean().item()
            cells = (norm, name, f"{robust:.4f}", f"{same:.4f}", f"{apart:.1e}")
            print("| " + " | ".join(cells) + f" | {found.seconds:.2f} |")


if __name__ == "__main__":
    main()
