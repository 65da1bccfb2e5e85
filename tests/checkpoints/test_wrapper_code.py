"""Networks that lie in a module of the user's code, and not in the file; averages as never run."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import PLAIN, X, load, weights, written
from helpers.runs import Listener
from torch import nn

from jeatcli.errors import JeatError

CODE = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))

class Logits(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({"net": net()})

    def forward(self, x):
        return 2 * self.model["net"](x)

class Scaled(Logits):
    def __init__(self):
        super().__init__()
        self.register_buffer("temperature", torch.ones(1))
"""


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    net(X + 0.1)
    return net.eval()


@pytest.mark.parametrize("prefix", ["", "module.", "model.net.", "net."])
def test_names_in_the_file_need_not_have_those_of_the_wrapper(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "own.py").write_text(CODE)
    net = network()
    path = written(tmp_path, {f"{prefix}{key}": value for key, value in net.state_dict().items()})
    model = load(path, replace(PLAIN, arch=f"{tmp_path / 'own.py'}:Logits"))
    torch.testing.assert_close(model.classifier(X), 2 * net(X))


def test_a_wrapper_with_numbers_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    path = written(tmp_path, network().state_dict())
    with pytest.raises(JeatError, match="missing: temperature"):
        load(path, replace(PLAIN, arch=f"{tmp_path / 'own.py'}:Scaled"))


def test_two_networks_of_which_the_wrapper_may_be_either_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    net = network().state_dict()
    both = {f"a.{key}": value for key, value in net.items()}
    both |= {f"b.{key}": value + 1 for key, value in net.items()}
    with pytest.raises(JeatError, match="several such networks"):
        load(written(tmp_path, both), replace(PLAIN, arch=f"{tmp_path / 'own.py'}:Logits"))


def test_an_average_whose_batch_norms_were_never_measured_is_said(tmp_path: Path) -> None:
    """Of the parameters alone, beside the buffers of a copy from before training."""
    (tmp_path / "own.py").write_text(CODE)
    described = replace(PLAIN, arch=f"{tmp_path / 'own.py'}:net")
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    average = copy.deepcopy(net)
    net(X)
    for state, warned in ((average.state_dict(), 1), (net.state_dict(), 0)):
        listener = Listener()
        load(written(tmp_path, state), described, reporter=listener)
        assert len(listener.warned) == warned
        assert all("`torch.optim.swa_utils.update_bn`" in text for text in listener.warned)


def test_a_single_layer_is_not_looked_for_among_others(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE + "linear = nn.Sequential(nn.Flatten(), net()[2])\n")
    with pytest.raises(JeatError) as misfit:
        load(written(tmp_path, weights()), replace(PLAIN, arch=f"{tmp_path / 'own.py'}:linear"))
    assert "--entry" not in str(misfit.value.hint)


def test_our_networks_are_checked_for_that_too(tmp_path: Path) -> None:
    found = weights()
    for key, value in found.items():
        if key.endswith(("running_mean", "running_var")):
            value.fill_(key.endswith("var"))
    listener = Listener()
    load(written(tmp_path, found), reporter=listener)
    assert "all batch norms of `theirs.pt`" in listener.warned[0]
