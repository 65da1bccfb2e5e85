"""Networks that draw (dropout, stochastic depth): the seed decides what they draw, too."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.cli import done
from helpers.compare_runs import same
from helpers.training import StopAfter, config, run
from torch import Tensor, nn

from jeatcli.core.models import ARCHITECTURES, Architecture
from jeatcli.core.models.classifier import Network
from jeatcli.core.models.layers import Shape
from jeatcli.core.rng import drawing_by
from jeatcli.errors import Interrupted
from jeatcli.robustness.evaluate import attack
from jeatcli.training.train import train


class Drawing(Network):
    """Dropout, a layer that some batches skip, the first one too, and noise also in evaluation."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(torch.Size(shape.image).numel(), width)
        self.skipped, self.drop = nn.Linear(width, width), nn.Dropout(0.2)
        self.out = nn.Linear(width, shape.classes)
        self.batches: Tensor
        self.register_buffer("batches", torch.tensor(0))

    def features(self, x: Tensor) -> Tensor:
        hidden = self.drop(self.hidden(x.flatten(1)).relu())
        hidden = hidden + 0.1 * torch.randn(hidden.shape)
        self.batches += self.training
        if self.training and (self.batches == 1 or torch.rand(()) < 1 / 3):
            return hidden
        return hidden + self.skipped(hidden).relu()

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.out(features)
        return logits


@pytest.fixture(autouse=True)
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("jeat_drawing")
    vars(module).update(Drawing=Drawing)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    ARCHITECTURES.add("drawing-W", Architecture("It draws", "jeat_drawing:Drawing"))
    yield
    ARCHITECTURES.remove("drawing-W")


@pytest.mark.parametrize("method", ["standard", "at"])
def test_the_seed_decides_all_of_it(method: str, tmp_path: Path) -> None:
    settings = config(method, arch="drawing-16", eval_every=1, optimizer="sgd")
    train(settings, tmp_path / "straight")
    torch.manual_seed(7)  # of the caller
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(5))
    torch.manual_seed(8)
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


def test_another_seed_draws_otherwise(tmp_path: Path) -> None:
    x = torch.rand(2, 3)
    found = []
    for seed in (0, 1, 0):
        before = torch.get_rng_state()
        with drawing_by(seed, x.device):
            found.append(nn.functional.dropout(x))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_an_attack_on_it_is_the_same_again(tmp_path: Path) -> None:
    run(tmp_path / "run", arch="drawing-16", epochs=1)
    asked = (tmp_path / "run", "--attack", "pgd", "--steps", 2, "-n", 100, "--eps", 0.05)
    found, printed = [], []
    for seed in (7, 8):
        torch.manual_seed(seed)
        result = attack(tmp_path / "run", attacks=["pgd"], steps=2, num=100, eps=0.05)
        found.append((result.clean, result.robust, result.samples))
        torch.manual_seed(seed)
        record = json.loads(done("attack", *asked, "--json"))
        printed.append((record["clean"], record["robust"]))
    assert found[0] == found[1]
    assert printed[0] == printed[1]
