"""What an image costs, beside the table of docs/attacks.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.linear_model import LINF, batch, linear
from helpers.networks import classifier

from jeatcli.core.threat import Threat
from jeatcli.robustness.attacks.attack import make_attack, resolve_attacks
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.surrogate import Surrogate


def told(name: str) -> tuple[int, int]:
    """Return what docs/attacks.md says an image costs at most among ten classes."""
    docs = Path(__file__).parents[2] / "docs" / "attacks.md"
    row = next(line for line in docs.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    cost = row.rstrip("| ").rpartition("|")[2].replace(",", "").replace("per restart", "")
    forward, *backward = cost.split("+")
    return int(forward), sum(
        int(part.replace("K", "")) * (10 if "K" in part else 1) for part in backward
    )


SINGLE = ("fgsm", "pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "fab")


@pytest.mark.parametrize("name", SINGLE)
def test_an_image_costs_the_passes_that_are_told(name: str) -> None:
    """Of an image that nothing breaks; no pass is done twice."""
    model = linear(classes=10)
    images = batch(model, 3)
    search, plan = Surrogate(model), AttackOptions(Threat("linf", 1e-7))
    make_attack(name, plan)(search, images, plan)
    assert (search.forward / 3, search.backward / 3) == told(name)


@pytest.mark.parametrize(("name", "rows"), [("apgd-ce", 1), ("apgd-t", 9), ("fab-t", 0)])
def test_a_network_that_is_not_the_plain_one_costs_its_confirmation(name: str, rows: int) -> None:
    """The best point of each row is judged by the plain network at the end."""
    net = classifier("cifar-resnet-8", "batch", (1, 8, 8), "relu").eval()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    images = Batch(x, net(x).argmax(1), None, torch.arange(3))
    search, plan = Surrogate(net), AttackOptions(Threat("linf", 1e-7))
    assert not search.is_exact
    make_attack(name, plan)(search, images, plan)
    forward, backward = told(name)
    assert (search.forward / 3, search.backward / 3) == (forward + rows, backward)


@pytest.mark.parametrize("name", ["autoattack", "autoattack-plus", "fast", "quick"])
def test_an_ensemble_costs_what_its_parts_do(name: str) -> None:
    forward = backward = 0
    for part in resolve_attacks([name], AttackOptions(LINF)):
        one, restarts = told(part.name), part.options["restarts"]
        # FAB looks at the images themselves once.
        forward += restarts * one[0] - (restarts - 1) * (part.name == "fab")
        backward += restarts * one[1]
    assert (forward, backward) == told(name)
