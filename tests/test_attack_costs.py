"""What an image costs, beside the table of docs/attacks.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from linear import LINF, batch, linear

from jeatcli import attacks
from jeatcli.attacks import Plan, Search
from jeatcli.threat import Threat


def told(name: str) -> tuple[int, int]:
    """Return what docs/attacks.md says an image costs at most among ten classes."""
    docs = Path(__file__).parent.parent / "docs" / "attacks.md"
    row = next(line for line in docs.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    cost = row.rstrip("| ").rpartition("|")[2].replace(",", "").replace("a restart", "")
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
    search, plan = Search(model), Plan(Threat("linf", 1e-7))
    attacks.get(name, plan)(search, images, plan)
    assert (search.forward / 3, search.backward / 3) == told(name)


@pytest.mark.parametrize("name", ["autoattack", "autoattack-plus", "fast", "quick"])
def test_an_ensemble_costs_what_its_parts_do(name: str) -> None:
    forward = backward = 0
    for part in attacks.resolve([name], Plan(LINF)):
        one, restarts = told(part.name), part.options["restarts"]
        # FAB looks at the images themselves once.
        forward += restarts * one[0] - (restarts - 1) * (part.name == "fab")
        backward += restarts * one[1]
    assert (forward, backward) == told(name)
