"""Files that bring their network; nothing in them runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import written
from helpers.cli import here, refused
from helpers.strangers import DESCRIBED, Net, exported
from torch import nn
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from jeatcli import Foreign, JeatError, load
from jeatcli.checkpoints import program


def test_a_program_for_one_size_of_batches_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fixed.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.rand(2, 1, 8, 8),)), path)
    said = here("attack", path, *DESCRIBED)
    refused(said, 1, "takes a batch of 2 images, but not one of 3", "Dim.DYNAMIC")


class Dropped(nn.Module):
    """Linear layers with layers between that are of another function in training."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *between, nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


PROGRAM = Foreign(None, "digits", (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("between", "words"),
    [
        ([nn.BatchNorm1d(64)], "training mode: `batch_norm` of its graph"),
        ([nn.Dropout(), nn.BatchNorm1d(64)], "training mode: `batch_norm` and `dropout` of its"),
        ([nn.BatchNorm1d(64, track_running_stats=False)], "depend on the other images"),
        ([nn.Dropout(0.0)], None),
    ],
    ids=["norm", "both", "no statistics", "no share"],
)
def test_a_program_in_training_mode_is_refused(
    tmp_path: Path, between: list[nn.Module], words: str | None
) -> None:
    path = exported(Dropped(*between).train(), tmp_path / "train.pt2", (1, 8, 8))
    if words is None:
        assert load(path, device="cpu", foreign=PROGRAM)
        return
    with pytest.raises(JeatError, match=words) as caught:
        load(path, device="cpu", foreign=PROGRAM)
    assert "`net.eval()`" in str(caught.value.hint)


class Named(Dropped):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": super().forward(x)}


def test_a_program_with_attention_is_read(tmp_path: Path) -> None:
    """The sizes in its graph are products with the open size of the batch."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.Flatten(2), nn.Flatten(0, 1), nn.Unflatten(1, (8, 8)), layer)
    net = nn.Sequential(net, nn.Flatten(), nn.Linear(64, 10)).eval()
    model = load(exported(net, tmp_path / "net.pt2", (1, 8, 8)), device="cpu", foreign=PROGRAM)
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.classifier(x), net(x))


class Branching(nn.Module):
    """Linear layers of which a condition of the weights chooses, and a loop over the result."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch_map(lambda x: x + 1, x.flatten(1))
        x, added = scan(lambda sum, x: (sum + x, 2 * sum), x, torch.stack([x, -2 * x]), dim=0)
        x = x + added[1]
        x = torch.cond(x.shape[0] > 3, lambda x: 1 * x, lambda x: 1 * x, (x,))
        positive = self.one.weight.sum() > 0
        logits = torch.cond(positive, lambda x: self.one(x), lambda x: self.other(x), (x,))
        start = (torch.tensor(0), logits)
        looped: torch.Tensor = while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x * 0.9), start)[
            1
        ]
        return looped


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.filterwarnings("ignore")
def test_a_program_with_branches_and_loops_is_read(tmp_path: Path, sign: float) -> None:
    net = Branching().eval()
    net.one.weight.data = sign * net.one.weight.data.abs()
    model = load(exported(net, tmp_path / "net.pt2", (1, 8, 8)), device="cpu", foreign=PROGRAM)
    x, y = (torch.rand(5, 1, 8, 8).requires_grad_() for _ in range(2))
    y.data = x.data
    for image in (x, x[:1], x[:4]):
        torch.testing.assert_close(model.classifier(image), net(image))
    ours = torch.autograd.grad(model.classifier(x).square().sum(), x)
    torch.testing.assert_close(ours, torch.autograd.grad(net(y).square().sum(), y))
    parts = [part for part in model.classifier.modules() if isinstance(part, torch.fx.GraphModule)]
    targets = {type(node.target) for part in parts for node in part.graph.nodes}
    assert not {kind for kind in targets if issubclass(kind, torch._ops.HigherOrderOperator)}


@pytest.mark.filterwarnings("ignore")
def test_an_operation_in_a_branch_is_checked(tmp_path: Path) -> None:
    """Whatever is inside of one is as good as outside."""
    path = exported(Branching().eval(), tmp_path / "net.pt2", (1, 8, 8))
    harmful = tmp_path / "harmful.pt2"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(harmful, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            changed.writestr(name, content.replace(b"torch.ops.aten.linear.default", b"os.system"))
    with pytest.raises(JeatError, match=r"holds the operation `os\.system`"):
        load(harmful, device="cpu", foreign=PROGRAM)


@pytest.mark.parametrize("text", ["1" * 60 + "!", "Mod" * 40 + "!", "Integer(9)**Integer(9)"])
def test_an_expression_is_refused_at_once(text: str) -> None:
    assert not program._EXPRESSION.fullmatch(text)


def test_a_program_that_returns_a_dictionary_is_named(tmp_path: Path) -> None:
    path = exported(Named(), tmp_path / "named.pt2", (1, 8, 8))
    with pytest.raises(JeatError, match="`named` returns a dict, not logits"):
        load(path, device="cpu", foreign=PROGRAM)


def test_a_program_in_half_precision_is_named(tmp_path: Path) -> None:
    sizes, path = ({0: torch.export.Dim.DYNAMIC},), tmp_path / "half.pt2"
    net, x = Dropped().half().eval(), torch.rand(2, 1, 8, 8).half()
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=sizes), path)
    with pytest.raises(JeatError, match=r"was exported in float16: `half` fails on") as caught:
        load(path, device="cpu", foreign=PROGRAM)
    assert "`net.float().eval()`" in str(caught.value.hint)


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_program_in_training_mode_or_half_precision_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    axes = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    x = torch.rand(2, 1, 8, 8)
    train = {"training": torch.onnx.TrainingMode.TRAINING, "opset_version": 13}
    torch.onnx.export(Dropped(nn.BatchNorm1d(64)), (x,), tmp_path / "train.onnx", **axes, **train)
    with pytest.raises(JeatError, match="was exported in training mode") as caught:
        load(tmp_path / "train.onnx", device="cpu", foreign=PROGRAM)
    assert "`net.eval()`" in str(caught.value.hint)
    half = Dropped().half().eval()
    torch.onnx.export(half, (x.half(),), tmp_path / "half.onnx", **axes, opset_version=13)
    with pytest.raises(JeatError, match="was exported in float16: `half` fails on"):
        load(tmp_path / "half.onnx", device="cpu", foreign=PROGRAM)
    (tmp_path / "bad.onnx").write_bytes(b"no program")
    with pytest.raises(JeatError, match="cannot be read as an ONNX program"):
        load(tmp_path / "bad.onnx", device="cpu", foreign=PROGRAM)


@pytest.mark.filterwarnings("ignore")
def test_the_weights_of_an_onnx_program_may_be_missing(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    axes = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    whole, path = tmp_path / "whole.onnx", tmp_path / "apart.onnx"
    torch.onnx.export(Dropped().eval(), (torch.rand(2, 1, 8, 8),), whole, **axes, opset_version=13)
    apart = {"save_as_external_data": True, "location": "apart.data", "size_threshold": 0}
    onnx.save(onnx.load(whole), path, **apart)
    assert load(path, device="cpu", foreign=PROGRAM).foreign
    (tmp_path / "apart.data").unlink()
    with pytest.raises(JeatError, match=r"lacks the file of its weights: .*apart\.data"):
        load(path, device="cpu", foreign=PROGRAM)


class Bomb:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a program with other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    bad = path.with_name("bad.pt2")
    with zipfile.ZipFile(bad, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"bad/{name}", content)
    return bad


def replaced(old: str, new: str) -> Callable[[dict[str, bytes], Path], None]:
    def change(entries: dict[str, bytes], marker: Path) -> None:
        text = entries["models/model.json"].decode()
        assert old in text
        entries["models/model.json"] = text.replace(old, new % {"marker": marker}).encode()

    return change


def pickled(entries: dict[str, bytes], marker: Path) -> None:
    entries["data/sample_inputs/model.pt"] = pickle.dumps(Bomb(marker))


def weights_pickled(entries: dict[str, bytes], marker: Path) -> None:
    config = entries["data/weights/model_weights_config.json"]
    entries["data/weights/model_weights_config.json"] = config.replace(
        b'"use_pickle": false', b'"use_pickle": true'
    )
    entries["data/weights/weight_0"] = pickle.dumps(Bomb(marker))


def library(entries: dict[str, bytes], marker: Path) -> None:
    entries["data/aotinductor/model/code.so"] = b"\x7fELF"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pickled, "more than tensors in `data/sample_inputs/model.pt`"),
        (weights_pickled, "pickled weights"),
        (library, "`data/aotinductor/model/code.so`"),
        (
            replaced("Symbol('s", "__import__('os').mkdir('%(marker)s') or Symbol('s"),
            "the expression",
        ),
        (replaced("torch.ops.aten.flatten.using_ints", "torch.os.mkdir"), "the operation"),
        (replaced("torch.ops.aten.flatten.using_ints", "torch.ops.aten.save.default"), "the op"),
        (replaced('"x"', "\"x=__import__('os').mkdir('%(marker)s')\""), "the name"),
        (replaced('"guards_code": []', '"guards": ["print(1)"]'), "the name"),
    ],
    ids=["pickle", "weights", "library", "expression", "function", "writes", "name", "guard"],
)
def test_a_program_with_code_in_it_is_refused_and_nothing_runs(
    tmp_path: Path, change: Callable[[dict[str, bytes], Path], None], words: str
) -> None:
    good = exported(Net().eval(), tmp_path / "good.pt2", (1, 8, 8))
    marker = tmp_path / "marker"
    bad = changed(good, lambda entries: change(entries, marker))
    said = here("attack", bad, *DESCRIBED)
    refused(said, 1, f"holds {words}", "could run code", "Hint: ")
    assert not marker.exists()
    whole = changed(good, lambda entries: None)
    assert load(whole, device="cpu", foreign=Foreign(None, "digits", (0.0,), (1.0,)))


def test_a_pickled_module_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for content in ({"state_dict": {}, "net": Bomb(marker)}, Bomb(marker), nn.Linear(2, 2)):
        said = here("attack", written(tmp_path, content), *DESCRIBED, "--arch", "small")
        refused(said, 1, "holds more than tensors", "save only the weights")
    assert not marker.exists()


def test_a_program_takes_no_other_network_and_no_entry(tmp_path: Path) -> None:
    path = exported(Net().eval(), tmp_path / "net.pt2", (1, 8, 8))
    for option in (("--arch", "small"), ("--entry", "ema")):
        said = here("attack", path, *DESCRIBED, *option)
        refused(said, 2, "an exported program, contains its network", option[0])
    refused(here("attack", path), 2, "does not say what its classes are", "--dataset")
    refused(here("attack", path, "--dataset", "digits"), 2, "the normalisation of `", "--mean")
