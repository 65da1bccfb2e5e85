"""Names in other people's checkpoints: what may be passed over, and what may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import PLAIN, X, is_ours, load, renamed, weights, written
from helpers.runs import Listener

from jeatcli.errors import JeatError


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.module.", "backbone."])
@pytest.mark.parametrize(
    "beside",
    [
        {"n_averaged": torch.tensor(7)},
        {"module.n_averaged": torch.tensor(7)},
        {"n_classes": torch.tensor(10), "mean": torch.zeros(1), "std": torch.ones(1)},
        {"criterion.weight": torch.ones(10)},
        {"train_acc.tp": torch.zeros(10), "metrics.total": torch.zeros(1)},
        {f"ema.module.{key}": value + 1 for key, value in weights().items()},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_a_name_too_many(tmp_path: Path, prefix: str, beside: dict[str, torch.Tensor]) -> None:
    path = written(tmp_path, weights(prefix=prefix) | beside)
    is_ours(load(path))


@pytest.mark.parametrize(
    "more",
    [
        {"block1.layer.0.scale": torch.ones(1)},
        {"block1.layer.0.relu1.weight": torch.ones(1)},
        {"block4.layer.0.conv1.weight": torch.ones(3)},
        {"temperature": torch.ones(1)},
        {"fc2.weight": torch.ones(10, 10)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_weight_too_many(tmp_path: Path, more: dict[str, torch.Tensor]) -> None:
    """What may be part of the function is never passed over."""
    for prefix in ("", "module."):
        found = {prefix + key: value for key, value in (weights() | more).items()}
        with pytest.raises(JeatError, match=f"1 not known to it: {next(iter(more))}"):
            load(written(tmp_path, found))
    found = weights(prefix="1.") | {"2.weight": torch.ones(10, 10)}
    with pytest.raises(JeatError, match=r"1 beside it, not under `1\.`: 2\.weight"):
        load(written(tmp_path, found))


@pytest.mark.parametrize("name", ["temperature", "denoiser.0.weight", "head.weight", "0.weight"])
def test_what_lies_beside_may_be_a_part_of_the_function(tmp_path: Path, name: str) -> None:
    """Who takes the network alone says so."""
    path = written(tmp_path, weights(prefix="net.") | {name: torch.ones(1)})
    with pytest.raises(JeatError, match=rf"1 beside it, not under `net\.`: {name}") as caught:
        load(path)
    assert "`--entry net`" in str(caught.value.hint)
    is_ours(load(path, replace(PLAIN, entry="net")))


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    listener = Listener()
    load(written(tmp_path, weights(prefix="net.") | {"loss.centres": X}), reporter=listener)
    assert "`theirs.pt`: ignored, beside the network: loss.centres" in listener.said


@pytest.mark.parametrize(("name", "known"), [("f.again.weight", True), ("block1.layer.1", False)])
def test_a_layer_under_two_names(tmp_path: Path, name: str, known: bool) -> None:
    """A second name of the same tensor is passed over, but not one layer more."""
    found = weights()
    found[name] = found["block1.layer.0.conv1.weight"]
    path = written(tmp_path, found)
    if known:
        is_ours(load(path))
    else:
        with pytest.raises(JeatError, match="1 not known to it"):
            load(path)


@pytest.mark.parametrize("names", [("fc", "linear"), ("head", "classifier"), ("linear", "fc")])
def test_two_last_layers_are_not_one(tmp_path: Path, names: tuple[str, str]) -> None:
    """Neither is taken for the other, in whichever order they stand."""
    found = renamed(weights(), "fc.", f"{names[0]}.")
    found |= {f"{names[1]}.{kind}": weights()[f"fc.{kind}"] + 1 for kind in ("weight", "bias")}
    with pytest.raises(JeatError, match="2 not known to it"):
        load(written(tmp_path, found))


@pytest.mark.parametrize("name", ["avg_pool.p", "normalize.running_mean", "stem.weight"])
def test_layers_without_a_prefix_are_no_averages(tmp_path: Path, name: str) -> None:
    with pytest.raises(JeatError, match=f"1 not known to it: {name}"):
        load(written(tmp_path, weights() | {name: torch.full((1,), 3.0)}))


@pytest.mark.parametrize("head", ["classifier", "head", "last_linear", "linear"])
def test_names_of_the_last_layer(tmp_path: Path, head: str) -> None:
    is_ours(load(written(tmp_path, renamed(weights(), "fc.", f"{head}."))))


def test_networks_of_the_same_names_are_said(tmp_path: Path) -> None:
    listener, path = Listener(), written(tmp_path, weights("resnet-18"))
    load(path, replace(PLAIN, arch="resnet-18"), reporter=listener)
    (said,) = listener.said
    assert "fits `--arch resnet-18-raw`" in said
    assert "compare the clean accuracy" in said
