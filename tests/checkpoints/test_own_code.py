"""Networks by code of the user's own: run only where it is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import written
from helpers.cli import done, here, refused
from helpers.runs import Listener
from helpers.strangers import DESCRIBED
from safetensors.torch import save_file

from jeatcli import Foreign, load
from jeatcli.errors import JeatError, UsageProblem

CODE = """
import torch
from torch import nn
from beside import classes
import os
os.makedirs({marker!r}, exist_ok=True)

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def fails():
    raise RuntimeError("no weights here")

def nothing():
    return None
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("classes = 10\n")
    (tmp_path / "mine.py").write_text(CODE.format(marker=str(tmp_path / "marker")))
    return tmp_path / "mine.py"


def test_what_is_missing_beside_own_code_is_named(code: Path, tmp_path: Path, home: Path) -> None:
    file = written(tmp_path, {"1.weight": torch.randn(10, 64), "1.bias": torch.zeros(10)})
    fix = ("name their data set: ", "mine.py:make --dataset DATASET`")
    refused(here("attack", file, "--arch", f"{code}:make"), 2, *fix)
    for run, arch in ((code, "mine.py:FUNCTION"), ("mine.py:make", "mine.py:make")):
        refused(here("attack", run, "--dataset", "digits"), 1, f"the code by `--arch {arch}`")
    said = here("train", "--arch", f"{code}:make", "--dataset", "digits")
    refused(said, 2, "a network of your own code", "docs/extending.md#a-network")
    assert not (tmp_path / "marker").exists()


def test_code_runs_only_where_it_is_named(code: Path, tmp_path: Path) -> None:
    weights = {"module.1.weight": torch.randn(10, 64), "module.1.bias": torch.zeros(10)}
    file = written(tmp_path, weights)
    refused(here("attack", file, *DESCRIBED), 2, "does not say what it is")
    assert not (tmp_path / "marker").exists()
    options = (*DESCRIBED, "-n", "8", "--steps", "1", "--json")
    found = json.loads(done("attack", file, "--arch", f"{code}:make", *options))
    assert found["n"] == 8
    (tmp_path / "marker").rmdir()
    assert str(tmp_path) not in sys.path
    for function, words in (
        ("fails", "failed: RuntimeError: no weights here"),
        ("nothing", "returned NoneType, not a torch.nn.Module"),
        ("absent", "has no function `absent`"),
    ):
        said = here("attack", file, "--arch", f"{code}:{function}", *DESCRIBED)
        refused(said, 2 if function == "absent" else 1, words, "Hint: ")
        (tmp_path / "marker").rmdir()
    refused(
        here("attack", file, "--arch", "no:where:x", *DESCRIBED),
        2,
        "there is no network `no:where:x`",
    )


def test_weights_that_do_not_fit_the_code_are_named(code: Path, tmp_path: Path) -> None:
    file = written(tmp_path, {"1.weight": torch.randn(10, 64), "2.weight": torch.zeros(3, 3)})
    said = here("attack", file, "--arch", f"{code}:make", *DESCRIBED)
    refused(said, 1, "1 missing: 1.bias", "1 not known to it: 2.weight")


def test_a_normalisation_is_asked_for(code: Path, tmp_path: Path) -> None:
    weights = {"1.weight": torch.randn(10, 64), "1.bias": torch.zeros(10)}
    given = ("--arch", f"{code}:make", "--dataset", "digits")
    said = here("attack", written(tmp_path, weights), *given)
    refused(said, 2, "the normalisation of `", "--mean")
    found = load(
        written(tmp_path, weights | {"mean": torch.tensor([0.3]), "std": torch.tensor([0.5])}),
        device="cpu",
        foreign=Foreign(f"{code}:make", "digits"),
    )
    assert found.meta.mean == pytest.approx((0.3,))


def test_what_is_left_out_of_a_file_or_taken_from_it_is_said(code: Path, tmp_path: Path) -> None:
    net = {"net.1.weight": torch.randn(10, 64), "net.1.bias": torch.zeros(10)}
    beside = {"ema_net.1.weight": torch.zeros(10, 64), "train_loss.sum": torch.zeros(2)}
    beside |= {"net.energy_output.bias": torch.zeros(1), "net.again.bias": net["net.1.bias"]}
    copy = {f"copy.{key}": value for key, value in net.items()}
    numbers = {"mean": torch.tensor([0.3]), "std": torch.tensor([0.5])}
    path = written(tmp_path, net | beside | copy | numbers)
    ignored = (
        "`theirs.pt`: ignored, beside the network: ema_net.1.weight, train_loss.sum, "
        "net.energy_output.bias, net.again.bias, copy.net.1.weight, copy.net.1.bias"
    )
    for given, words in (
        ((None, None), "normalisation of `theirs.pt`: `--mean 0.3 --std 0.5`"),
        (
            ((0.0,), (1.0,)),
            "`theirs.pt` contains the normalisation `--mean 0.3 --std 0.5`; the given one is used",
        ),
    ):
        listener = Listener()
        foreign = Foreign(f"{code}:make", "digits", *given)
        load(path, device="cpu", foreign=foreign, reporter=listener)
        assert listener.said == [ignored, words]


def test_a_normalisation_among_settings_is_named(code: Path, tmp_path: Path) -> None:
    weights = {"1.weight": torch.randn(10, 64), "1.bias": torch.zeros(10)}
    path = written(tmp_path, {"state_dict": weights, "args": {"mean": [0.3], "std": [0.5]}})
    with pytest.raises(UsageProblem, match=r"records a normalisation, `--mean 0\.3"):
        load(path, device="cpu", foreign=Foreign(f"{code}:make", "digits"))


TIED = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.out = nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.out(self.second(self.first(x.flatten(1))))
"""


@pytest.fixture
def tied(tmp_path: Path) -> tuple[Foreign, dict[str, torch.Tensor]]:
    """Return a network of which two layers share a weight, and weights that it may have."""
    (tmp_path / "tied.py").write_text(TIED)
    sizes = {"first": (64, 64), "second": (64, 64), "out": (10, 64)}
    weights = {f"{name}.weight": torch.randn(size) for name, size in sizes.items()}
    weights |= {f"{name}.bias": torch.zeros(size[0]) for name, size in sizes.items()}
    return Foreign(f"{tmp_path / 'tied.py'}:Tied", "digits", (0.0,), (1.0,)), weights


def test_a_network_that_shares_what_the_file_has_twice_is_refused(
    tied: tuple[Foreign, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    foreign, weights = tied
    with pytest.raises(
        JeatError, match=r"other numbers than the file's in first\.weight"
    ) as caught:
        load(written(tmp_path, weights), device="cpu", foreign=foreign)
    assert "share one tensor" in str(caught.value.hint)
    # Equal ones, in another type, and such as are no numbers are the network's.
    weights["second.weight"] = weights["first.weight"] = torch.randn(64, 64).double()
    load(written(tmp_path, weights), device="cpu", foreign=foreign)
    weights["first.weight"][0, 0] = torch.nan
    with pytest.raises(JeatError, match="holds NaN or infinity in"):
        load(written(tmp_path, weights), device="cpu", foreign=foreign)


def test_a_second_name_of_a_shared_weight_may_be_missing(
    tied: tuple[Foreign, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    """As in the files of safetensors' `save_model`."""
    foreign, weights = tied
    del weights["second.weight"]
    save_file(weights, tmp_path / "theirs.safetensors", {"second.weight": "first.weight"})
    model = load(tmp_path / "theirs.safetensors", device="cpu", foreign=foreign)
    held = model.classifier.state_dict()
    for name in ("first", "second"):
        assert torch.equal(held[f"net.module.{name}.weight"], weights["first.weight"])
    del weights["first.weight"]
    with pytest.raises(JeatError, match=r"2 missing: first\.weight, second\.weight"):
        load(written(tmp_path, weights), device="cpu", foreign=foreign)


def test_a_network_that_normalises_inside_keeps_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "inside.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(64, 10)\n"
        "        self.register_buffer('mean', torch.zeros(1))\n"
        "        self.register_buffer('std', torch.ones(1))\n"
        "    def forward(self, x):\n"
        "        return self.fc(((x - self.mean) / self.std).flatten(1))\n"
    )
    weights = {"fc.weight": torch.randn(10, 64), "fc.bias": torch.zeros(10)}
    numbers = {"mean": torch.tensor([0.3]), "std": torch.tensor([0.5])}
    file = written(tmp_path, weights | numbers)
    named = f"{tmp_path / 'inside.py'}:Net"
    model = load(file, device="cpu", foreign=Foreign(named, "digits", (0.0,), (1.0,)))
    x = torch.rand(2, 1, 8, 8)
    expected = ((x - 0.3) / 0.5).flatten(1) @ weights["fc.weight"].T
    torch.testing.assert_close(model.classifier(x), expected)
    with pytest.raises(UsageProblem, match="the normalisation of `"):
        load(file, device="cpu", foreign=Foreign(named, "digits"))


def test_a_header_names_no_code(code: Path, home: Path) -> None:
    """A file that says it is of `FILE.py:FUNCTION` does not make it run."""
    file = home / "standard" / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    about = json.loads(header["__metadata__"]["jeat"]) | {"arch": f"{code}:make", "digest": None}
    header["__metadata__"]["jeat"] = json.dumps(about)
    raw = json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + size :])
    refused(here("attack", "standard"), 1, "header of", "a network of your own code")
    assert not (code.parent / "marker").exists()
