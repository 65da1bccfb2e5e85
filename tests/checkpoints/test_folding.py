"""Weights in parts: weight and spectral normalisation, and pruning, beside torch's own modules."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import X, load, net, weights, written
from helpers.cli import here, refused
from helpers.runs import Listener
from torch import Tensor, nn
from torch.nn import utils
from torch.nn.utils import parametrizations, prune

from jeatcli import Foreign, JeatError
from jeatcli.checkpoints.folding import folded
from jeatcli.checkpoints.state_dict import read
from jeatcli.runtime.progress import SILENT

Change = Callable[[nn.Module], object]


def old(function: Callable[..., object], **settings: object) -> Change:
    """Return a function of torch's that is deprecated, without its warning."""

    def change(layer: nn.Module) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(layer, "weight", **settings)

    return change


CHANGES: dict[str, Change] = {
    "weight_norm": old(utils.weight_norm),
    "weight_norm of columns": old(utils.weight_norm, dim=1),
    "weight_norm of all": old(utils.weight_norm, dim=None),
    "spectral_norm": old(utils.spectral_norm),
    "new weight_norm": parametrizations.weight_norm,
    "new weight_norm of columns": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "new weight_norm of all": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "new spectral_norm": parametrizations.spectral_norm,
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
}


def layers(of: nn.Module) -> list[nn.Module]:
    return [each for each in of.modules() if isinstance(each, nn.Conv2d | nn.Linear)]


def trained(change: Change, module: nn.Module, x: Tensor) -> nn.Module:
    """Return a network of changed layers after some steps, in which power iterations go on."""
    for each in layers(module):
        change(each)
    adam = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(3):
        adam.zero_grad()
        module.train()(x).square().sum().backward()
        adam.step()
    return module.eval()


@pytest.mark.parametrize("name", CHANGES)
def test_a_network_of_ours(tmp_path: Path, name: str) -> None:
    theirs = trained(CHANGES[name], net(), X)
    said = Listener()
    path = written(tmp_path, {f"module.{k}": v for k, v in theirs.state_dict().items()})
    model = load(path, reporter=said)
    for image in X.split(1):
        torch.testing.assert_close(model.classifier(image), theirs(image))
    count = f"{len(layers(net()))} of `{name.split()[1 if 'new' in name else 0]}`"
    assert f"`theirs.pt`: weights computed from their parts: {count}" in said.said
    refused(here("attack", path), 2, "does not say what it is", "`--arch wrn-10-1 --dataset")


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_every_weight_is_that_of_torch(tmp_path: Path, name: str, kind: torch.dtype) -> None:
    """To the bit, in the file's own type."""
    theirs = trained(CHANGES[name], net().to(kind), X.to(kind))
    found = folded(read(written(tmp_path, theirs.state_dict())), tmp_path, SILENT)
    theirs(X.to(kind))  # computes the weights of hooks
    modules = [(k, m) for k, m in theirs.named_modules() if "parametrizations" not in k]
    expected = {f"{k}.weight": m.weight for k, m in modules if hasattr(m, "weight")}
    assert {k.removesuffix(".weight") for k in expected} == {
        k.removesuffix(".weight") for k in found.tensors if k.endswith(".weight")
    }
    for key, weight in expected.items():
        assert torch.equal(found.tensors[key], weight), key
    assert found.tensors.keys() == found.every.keys() == net().state_dict().keys()


@pytest.mark.parametrize("changed", [utils.spectral_norm, parametrizations.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_the_rows_of_a_square_kernel(tmp_path: Path, changed: Callable[..., nn.Module]) -> None:
    """Transposed convolutions take the second dimension for rows, which no shape shows here."""
    torch.manual_seed(0)
    for layer in (nn.ConvTranspose2d(8, 8, 3), nn.Conv2d(8, 8, 3)):
        theirs = changed(layer)
        for _ in range(5):
            theirs.train()(torch.rand(2, 8, 5, 5))
        path = written(tmp_path, theirs.eval().state_dict())
        theirs(torch.rand(2, 8, 5, 5))
        found = folded(read(path), path, SILENT)
        assert torch.equal(found.tensors["weight"], theirs.weight)


OWN = """
import torch
from torch import nn
from torch.nn.utils import parametrizations

def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def normed():
    net = plain()
    parametrizations.weight_norm(net[1])
    return net
"""


@pytest.mark.parametrize("name", ["weight_norm", "new weight_norm", "spectral_norm", "prune"])
@pytest.mark.parametrize("code", ["plain", "normed"])
def test_own_code_has_the_weights_whole_or_in_the_same_parts(
    tmp_path: Path, name: str, code: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    foreign = Foreign(f"{tmp_path / 'own.py'}:{code}", "digits", (0.0,), (1.0,))
    theirs = trained(CHANGES[name], nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), X)
    path = written(tmp_path, theirs.state_dict() | {"mean": torch.zeros(1), "std": torch.ones(1)})
    if code == "normed" and "weight_norm" not in name:
        with pytest.raises(JeatError, match="does not fit"):
            load(path, foreign)
        return
    torch.testing.assert_close(load(path, foreign).classifier(X), theirs(X))


@pytest.mark.parametrize(
    "names",
    [
        ("weight_g",),
        ("weight_orig",),
        ("weight_orig", "weight_u"),
        ("weight_g", "weight_v", "weight_mask"),
        ("parametrizations.weight.original",),
        ("parametrizations.weight.original", "parametrizations.weight.0.base"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1", "weight"),
    ],
)
def test_parts_that_do_not_tell_the_weight_are_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    found = weights()
    weight = found.pop("conv1.weight")
    found |= {f"conv1.{name}": weight.clone() for name in names}
    with pytest.raises(JeatError, match="does not fit `wrn-10-1`"):
        load(written(tmp_path, found))


def test_sizes_of_another_shape_are_refused(tmp_path: Path) -> None:
    found = weights()
    weight = found.pop("conv1.weight")
    found |= {"conv1.weight_g": torch.ones(len(weight)), "conv1.weight_v": weight}
    with pytest.raises(JeatError, match="does not fit") as caught:
        load(written(tmp_path, found))
    assert "remove_weight_norm" in str(caught.value.hint)


def test_half_precision_is_computed_in_float32(tmp_path: Path) -> None:
    theirs = trained(CHANGES["weight_norm"], net(), X)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(halves)
    model = load(written(tmp_path, halves))
    torch.testing.assert_close(model.classifier(X), theirs(X))


def test_groups_of_channels_and_layers_of_one_row(tmp_path: Path) -> None:
    for change in ("weight_norm", "new spectral_norm"):
        for layer in (nn.Conv2d(8, 8, 3, groups=8), nn.Linear(5, 1), nn.Conv1d(1, 1, 1)):
            CHANGES[change](layer)
            path = written(tmp_path, layer.eval().state_dict())
            layer(torch.rand(8, 5) if isinstance(layer, nn.Linear) else torch.rand(*_image(layer)))
            found = folded(read(path), path, SILENT)
            assert torch.equal(found.tensors["weight"], layer.weight)


def _image(layer: nn.Module) -> tuple[int, ...]:
    return (2, 8, 5, 5) if isinstance(layer, nn.Conv2d) else (2, 1, 5)
