"""The objectives that an attack maximises: their values, with a target and without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jeatcli.core import objectives
from jeatcli.core.objectives import OBJECTIVES
from jeatcli.errors import UsageProblem

X = torch.rand(7, 5, generator=torch.Generator().manual_seed(0))
MOVED = torch.rand(7, 5, generator=torch.Generator().manual_seed(1))
Y = torch.arange(7) % 5
TARGET = (Y + 2) % 5


def model(x: Tensor) -> Tensor:
    return 4 * x


def value(name: str, y: Tensor, target: Tensor | None) -> Tensor:
    """Return what the objective is at MOVED, written out image by image."""
    clean, logits = model(X), model(MOVED)
    values = []
    for k, f in enumerate(logits):
        label = int(y[k] if target is None else target[k])
        others = [float(f[c]) for c in range(5) if c != label]
        ranked = f.sort(descending=True).values
        log_p = f - f.logsumexp(0)
        of = {
            "ce": -log_p[label],
            "joint": -f[label],
            "marginal": -f.logsumexp(0),
            "margin": max(others) - f[label],
        }
        if name in of:
            values.append(of[name] if target is None else -of[name])
        elif name == "dlr" and target is None:
            values.append((max(others) - f[label]) / (ranked[0] - ranked[2]))
        elif name == "dlr":
            scale = ranked[0] - (ranked[2] + ranked[3]) / 2
            values.append((f[label] - f[int(y[k])]) / scale)
        elif target is None:
            p = clean[k].softmax(0)
            values.append((p * (p.log() - log_p)).sum())
        else:
            values.append(log_p[label])
    return torch.stack(values)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("target", [None, TARGET], ids=["untargeted", "targeted"])
def test_each_objective_has_its_value(name: str, target: Tensor | None) -> None:
    known = value(name, Y, target)
    objective = objectives.objective(name, model, X, Y, target)
    torch.testing.assert_close(objective(MOVED), known)
    of_logits = objectives.loss(name, model, X, Y, target)
    torch.testing.assert_close(of_logits(model(MOVED)), known)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_the_divergence_evaluates_the_clean_images(name: str) -> None:
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x)
        return model(x)

    for target in (None, TARGET):
        seen.clear()
        objectives.loss(name, watched, X, Y, target)
        assert [x is X for x in seen] == [True] * (name == "kl" and target is None)


@pytest.mark.parametrize(
    ("name", "targeted", "least"),
    [("ce", False, 2), ("margin", True, 2), ("kl", False, 2), ("dlr", False, 3), ("dlr", True, 4)],
)
def test_an_objective_needs_so_many_classes(name: str, targeted: bool, least: int) -> None:
    objectives.check_classes(name, least, targeted)
    with pytest.raises(UsageProblem, match=f"`{name}` needs {least} classes; there are") as caught:
        objectives.check_classes(name, least - 1, targeted)
    assert caught.value.hint == "use the objective `margin`"
