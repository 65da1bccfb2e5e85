"""What a method and a network from outside the package must be, named where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from jeatcli.catalogue import Entry
from jeatcli.core.models import ARCHITECTURES, Architecture, build
from jeatcli.core.models.layers import Shape
from jeatcli.core.rng import BatchRng
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.methods import METHODS, make, options_of
from jeatcli.methods.standard import Standard
from jeatcli.training.trainer import Objective

WEIGHT = torch.ones(3, requires_grad=True)
LOSS = WEIGHT.sum()
HERE = __name__


@dataclass
class Given(Standard):
    """Returns what it is told to."""

    def loss(self, model: Any, x: Any, y: Any, rng: Any) -> Any:
        return self.returned


@dataclass
class Plain(Standard):
    """Has a field that is no setting."""

    weight: float = 0.1


class Bare(Standard):
    """Its fields would not be options."""

    weight: float = 0.1


def objective(returned: object) -> Any:
    method = Given()
    method.returned = returned  # type: ignore[attr-defined]
    x = torch.rand(2, 1, 8, 8)
    return Objective(method, nn.Identity())(x, torch.zeros(2), BatchRng(0, x.device))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (LOSS, "returned Tensor"),
        (None, "returned NoneType"),
        ((3.0, {}), "returned a tuple of float, dict"),
        ((LOSS, None), "returned a tuple of Tensor, NoneType"),
        ((WEIGHT * 1, {}), "returned a loss of the shape 3"),
        ((LOSS.detach(), {}), "returned a loss without a gradient"),
        ((LOSS, {"odd": WEIGHT}), "returned `odd` to log, which is no number"),
        ((LOSS, {"odd": "high"}), "returned `odd` to log"),
    ],
)
def test_a_loss_that_is_none_is_named(returned: object, words: str) -> None:
    with pytest.raises(JeatError) as caught:
        objective(returned)
    assert f"`loss` of the method `Given` {words}" in caught.value.message
    assert caught.value.hint


def test_numbers_of_python_are_logged() -> None:
    loss, logged = objective((LOSS, {"share": 0.5, "count": 3, "own": LOSS.detach()}))
    assert loss is LOSS
    assert {name: value.item() for name, value in logged.items()} == {
        "share": 0.5,
        "count": 3,
        "own": 3,
    }
    assert all(value.dtype is torch.float32 for value in logged.values())


@pytest.mark.parametrize(
    ("name", "words", "fix"),
    [
        ("Bare", "`Bare` of the method `outside` is not a dataclass", "write `@dataclass`"),
        ("Plain", "the field `weight` of `Plain` of the method `outside`", "= setting(DEFAULT"),
    ],
)
def test_a_method_whose_fields_are_no_options(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str, fix: str
) -> None:
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS))
    METHODS.add("outside", Entry("Outside", f"{HERE}:{name}"))
    for ask in (lambda: options_of("outside", {}, {}, None), lambda: make("outside", {})):
        with pytest.raises(UsageProblem, match=words) as caught:
            ask()
        assert fix in str(caught.value.hint)


def flat(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, shape.classes))


def test_a_network_that_is_none_of_ours_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ARCHITECTURES, "_entries", dict(ARCHITECTURES))
    ARCHITECTURES.add("flat", Architecture("Flat", f"{HERE}:flat"))
    with pytest.raises(JeatError, match="of the network `flat` makes Sequential") as caught:
        build("flat", Shape((1, 8, 8), 10, "batch", "relu"))
    assert "with `features` and `head`" in str(caught.value.hint)
