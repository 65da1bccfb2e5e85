"""What code of the user's own may be: how it is imported, and the kinds of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import written
from helpers.cli import here, refused
from helpers.strangers import DESCRIBED

from jeatcli import Foreign, attack, load, wrap
from jeatcli.checkpoints.networks import run_code
from jeatcli.errors import JeatError, UsageProblem

COMMAND = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
args = parser.parse_args()
"""
LINEAR = """
import torch
from torch import nn
{before}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.flatten(1))
"""


@pytest.mark.parametrize(
    ("text", "words", "fix"),
    [
        (COMMAND, "failed: SystemExit: 2", '`if __name__ == "__main__":`'),
        ("import sys; sys.exit('set a path')", "SystemExit: set a path", "__main__"),
        ("from .beside import classes", "ImportError: attempted", "PACKAGE.MODULE:FUNCTION"),
        ("def make(:", "SyntaxError: invalid syntax", "it must import on its own"),
    ],
)
def test_code_that_cannot_be_imported(tmp_path: Path, text: str, words: str, fix: str) -> None:
    """A script reads the command line of `jeat`, and would end it without an error."""
    file = written(tmp_path, {"linear.weight": torch.randn(10, 64), "linear.bias": torch.ones(10)})
    (tmp_path / "beside.py").write_text("classes = 10\n")
    (tmp_path / "mine.py").write_text(text)
    refused(
        here("attack", file, "--arch", f"{tmp_path}/mine.py:make", *DESCRIBED),
        1,
        words,
        "Hint: ",
        fix,
    )


def test_a_file_of_code_without_a_function(tmp_path: Path) -> None:
    file = written(tmp_path, {"linear.weight": torch.randn(10, 64), "linear.bias": torch.ones(10)})
    for arch in ("mine.py", "mine.py:", "mine.py:Net()", "mine:models.make"):
        with pytest.raises(UsageProblem, match="there is no network `mine") as caught:
            load(file, foreign=Foreign(arch, "digits", (0,), (1,)))
        assert "`FILE.py:FUNCTION`" in str(caught.value.hint)


@pytest.mark.parametrize(
    "before",
    ["", "torch.set_default_dtype(torch.float64)", "torch.set_grad_enabled(False)"],
)
@pytest.mark.parametrize("name", ["Net", "net"])
def test_code_may_make_its_network_or_set_something_when_imported(
    tmp_path: Path, before: str, name: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(LINEAR.format(before=before) + "\n\nnet = Net()\n")
    weights = {"linear.weight": torch.randn(10, 64), "linear.bias": torch.randn(10)}
    model = load(
        written(tmp_path, weights),
        device="cpu",
        foreign=Foreign(f"{path}:{name}", "digits", (0,), (1,)),
    )
    x = torch.rand(3, 1, 8, 8)
    expected = x.flatten(1) @ weights["linear.weight"].T + weights["linear.bias"]
    torch.testing.assert_close(model.classifier(x), expected)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32


KINDS = """
import torch
from torch import nn
from mine import Net


def part():
    net = Net()
    net.linear = torch.compile(net.linear, backend="eager")
    return net


def whole():
    return torch.compile(Net(), backend="eager")


class Kinds(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.arange(64))
        self.register_buffer("filter", torch.ones(64, dtype=torch.complex64))

    def forward(self, x):
        return super().forward((x.flatten(1)[:, self.order] * self.filter).real)


class Keeps(Net):
    def get_extra_state(self):
        return {"scale": 3}

    def set_extra_state(self, state):
        pass
"""


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(LINEAR.format(before=""))
    (tmp_path / "kinds.py").write_text(KINDS)
    return tmp_path / "kinds.py"


def rest(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the weights of the linear layer, and more."""
    return {"linear.weight": torch.randn(10, 64), "linear.bias": torch.randn(10)} | more


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's compiler looks at it
@pytest.mark.parametrize("name", ["part", "whole"])
@pytest.mark.parametrize("wrapper", ["", "_orig_mod."])
def test_code_that_compiles_its_network(kinds: Path, name: str, wrapper: str) -> None:
    weights = rest()
    if name == "part":
        file = {key.replace("linear.", f"linear.{wrapper}"): w for key, w in weights.items()}
    else:
        file = {wrapper + key: weight for key, weight in weights.items()}
    foreign = Foreign(f"{kinds}:{name}", "digits", (0,), (1,))
    model = load(written(kinds.parent, file), device="cpu", foreign=foreign)
    x = torch.rand(3, 1, 8, 8)
    expected = x.flatten(1) @ weights["linear.weight"].T + weights["linear.bias"]
    torch.testing.assert_close(model.classifier(x), expected)


def test_weights_that_are_complex_or_whole_numbers(kinds: Path) -> None:
    order, phases = torch.randperm(64), torch.randn(64, dtype=torch.complex64)
    foreign = Foreign(f"{kinds}:Kinds", "digits", (0,), (1,))
    for stored in (order, order.half(), order.double()):
        weights = rest(order=stored, filter=phases)
        model = load(written(kinds.parent, weights), device="cpu", foreign=foreign)
        x = torch.rand(3, 1, 8, 8)
        seen = x.flatten(1)[:, order] * phases.real
        expected = seen @ weights["linear.weight"].T + weights["linear.bias"]
        torch.testing.assert_close(model.classifier(x), expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"order": torch.arange(64) + 0.5}, "`order` as float32, where the network has int64"),
        ({"order": (torch.arange(64) + 300).bfloat16()}, "`order` as bfloat16"),
        ({"filter": torch.ones(64)}, "`filter` as float32, where the network has complex64"),
    ],
)
def test_numbers_of_another_kind(kinds: Path, change: dict[str, Any], words: str) -> None:
    weights = rest(order=torch.arange(64), filter=torch.ones(64, dtype=torch.complex64)) | change
    foreign = Foreign(f"{kinds}:Kinds", "digits", (0,), (1,))
    with pytest.raises(JeatError, match=words):
        load(written(kinds.parent, weights), device="cpu", foreign=foreign)


def test_a_state_that_is_no_tensor(kinds: Path) -> None:
    foreign = Foreign(f"{kinds}:Keeps", "digits", (0,), (1,))
    with pytest.raises(JeatError, match="`_extra_state` among its weights"):
        load(written(kinds.parent, rest()), device="cpu", foreign=foreign)
    net = run_code(f"{kinds}:Keeps")
    model = wrap(net, dataset="digits", mean=0, std=1)
    x, y = torch.rand(4, 1, 8, 8), [0, 1, 2, 3]
    assert 0 <= attack(model, images=x, labels=y, steps=1).robust <= 1
    before, changed = model.fingerprint, type(net)
    changed.get_extra_state = lambda self: {"scale": 4}  # type: ignore[attr-defined]
    assert model.fingerprint != before
