"""A method, a network and a norm from outside the package: rows of three tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.training import run
from torch import Tensor, nn

from jeatcli import methods
from jeatcli.catalogue import Catalogue, Entry
from jeatcli.checkpoints.checkpoint import load
from jeatcli.core import energy, pgd
from jeatcli.core.jeat import AdversarialExamples, Metrics
from jeatcli.core.models import ARCHITECTURES, Architecture
from jeatcli.core.models.classifier import Classifier, Network
from jeatcli.core.models.layers import Shape
from jeatcli.core.rng import BatchRng, Rng
from jeatcli.core.threat import NORMS, Threat
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.methods import METHODS
from jeatcli.settings import setting
from jeatcli.training.resolve import resolve


@dataclass
class Smooth(AdversarialExamples):
    """CE(x^) and a weight of the mean square of E(x^)."""

    weight: float = setting(0.5, "Weight of the mean square of E(x^)", section="", low=0, high=10)

    def loss(
        self, model: Classifier, x: Tensor, y: Tensor, rng: BatchRng
    ) -> tuple[Tensor, Metrics]:
        logits = model(self.attack(model, x, y, rng))
        loss, metrics = self.classify(logits, y)
        return loss + self.weight * energy.marginal(logits).square().mean(), metrics


class Flat(Network):
    """A hidden layer of so many units."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(torch.Size(shape.image).numel(), width)
        self.out = nn.Linear(width, shape.classes)

    def features(self, x: Tensor) -> Tensor:
        return self.hidden(x.flatten(1)).relu()

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.out(features)
        return logits


@dataclass(frozen=True)
class L1:
    """The ball of the sum of sizes; its steps change one pixel."""

    eps: float

    def start(self, x: Tensor, rng: Rng) -> Tensor:
        return x.clone()

    def on_sphere(self, x: Tensor, rng: Rng) -> Tensor:
        return (x + self.eps * rng.uniform(x) / x[0].numel()).clamp_(0, 1)

    def step(self, gradient: Tensor, size: float | Tensor) -> Tensor:
        flat = gradient.flatten(1)
        largest = flat.abs().argmax(1, keepdim=True)
        step = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
        return size * step.view_as(gradient)

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        length = self.distance(moved, x).clamp_min(1e-12).view(-1, 1, 1, 1)
        return x + (moved - x) * (self.eps / length).clamp_max(1)

    def distance(self, moved: Tensor, x: Tensor) -> Tensor:
        return (moved - x).flatten(1).abs().sum(1)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add a row to each table, of a module that is no file of the package."""
    module = ModuleType("jeat_from_outside")
    contents = {"Smooth": Smooth, "Flat": Flat, "L1": L1}
    contents |= {"read_width": lambda shapes: (shapes["out.weight"][1],)}
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tables: tuple[tuple[Catalogue, str, Entry], ...] = (
        (METHODS, "smooth", Entry("CE and small energies", "jeat_from_outside:Smooth")),
        (NORMS, "taxicab", Entry("The sum of sizes", "jeat_from_outside:L1")),
        (
            ARCHITECTURES,
            "flat-N",
            Architecture(
                "A hidden layer", "jeat_from_outside:Flat", "jeat_from_outside:read_width"
            ),
        ),
    )
    for table, name, entry in tables:
        table.add(name, entry)
    yield
    for table, name, _ in tables:
        table.remove(name)


def test_a_run_of_a_method_and_a_network_from_outside(rows: None, tmp_path: Path) -> None:
    options = {"weight": "0.25", "norm": "taxicab", "eps": "2", "attack_steps": 2}
    trained = run(tmp_path / "flat", "smooth", arch="flat-20", options=options)
    model = load(trained.run)
    assert isinstance(model.classifier.net, Flat)
    assert model.meta.method == "smooth"
    assert str(model.meta.threat) == "taxicab 2"
    assert ARCHITECTURES["flat-N"].numbers({"out.weight": (10, 20)}) == (20,)


@pytest.mark.parametrize("more", [-1, 2])
def test_a_network_with_other_classes_is_refused_before_there_is_a_run(
    rows: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: int
) -> None:
    """More logits than classes would train, and be energies of classes that are not there."""

    def make(shape: Shape, width: int) -> Network:
        return Flat(replace(shape, classes=shape.classes + more), width)

    monkeypatch.setattr(sys.modules["jeat_from_outside"], "Flat", make)
    message = f"`flat-20` returns 2x{10 + more} for 2 images, not 2x10"
    with pytest.raises(JeatError, match=message) as raised:
        run(tmp_path / "flat", "standard", arch="flat-20")
    assert raised.value.hint == (
        "it must have the 10 classes of the data set, or of `wrap(..., classes=K)`"
    )
    assert not (tmp_path / "flat").exists()


def test_a_run_of_a_network_that_got_other_classes_is_refused(
    rows: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained = run(tmp_path / "flat", "standard", arch="flat-20")
    monkeypatch.setattr(Flat, "head", lambda self, features: self.out(features)[:, :8])
    with pytest.raises(JeatError, match="`flat` returns 2x8 for 2 images, not 2x10"):
        load(trained.run)


def test_options_from_outside_are_checked(rows: None) -> None:
    config = resolve({"method": "smooth", "dataset": "digits"})
    assert config.options["weight"] == 0.5
    with pytest.raises(UsageProblem, match="`weight` must be at least 0 and at most 10, not 11"):
        resolve({"method": "smooth", "options": {"weight": "11"}})
    assert methods.sampling_of("smooth") == ("pgd", "ce")
    assert not methods.has_chain("smooth")


def test_a_norm_from_outside_has_its_ball(rows: None) -> None:
    x = torch.full((2, 1, 3, 3), 0.5)
    weights = torch.arange(9.0).view(1, 3, 3)
    moved = pgd.ascend(
        lambda images: (weights * images).flatten(1).sum(1),
        x,
        pgd.ball(Threat("taxicab", 0.3)),
        steps=5,
        step_size=0.1,
    )
    expected = x.clone()
    expected[:, 0, 2, 2] = 0.8
    torch.testing.assert_close(moved, expected)
