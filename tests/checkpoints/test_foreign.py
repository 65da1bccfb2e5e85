"""Other people's checkpoints: every way to write one that is understood."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import checkpoints as strangers
from helpers.checkpoints import PLAIN, X, is_ours, load, renamed, weights, written
from helpers.runs import Listener
from safetensors.torch import save_file

from jeatcli.checkpoints import checkpoint, matching
from jeatcli.checkpoints.settings import Foreign, per_channel
from jeatcli.data import facts as datasets
from jeatcli.data.images import load_images
from jeatcli.errors import UsageProblem
from jeatcli.sampling import initializers, sample


def under(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Put a state dict into dictionaries of those names, with what else scripts save."""

    def wrap(found: dict[str, Any]) -> dict[str, Any]:
        momentum = {0: {"momentum_buffer": torch.zeros(3)}}
        for name in reversed(names):
            optimizer = {"state": momentum, "param_groups": [{"lr": 0.1}]}
            found = {"epoch": 9, "best_acc": torch.tensor(0.5), "optimizer": optimizer, name: found}
        return found

    return wrap


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        OrderedDict,
        *map(under, ("state_dict", "model_state_dict", "model", "net", "ema", "last", "anything")),
        under("checkpoint", "state_dict"),
    ],
)
def test_places_in_the_file(tmp_path: Path, wrap: Callable[[dict[str, Any]], Any]) -> None:
    is_ours(load(written(tmp_path, wrap(weights()))))


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "model.", "net.", "_orig_mod.", "module.model.", "_orig_mod.module."),
        *("1.module.", "_forward_module.module.model.encoder.net."),  # Fabric, DeepSpeed, Lightning
    ],
)
def test_prefixes(tmp_path: Path, prefix: str) -> None:
    is_ours(load(written(tmp_path, weights(prefix=prefix))))


@pytest.mark.parametrize("by", ["orig_mod", "fsdp_wrapped_module", "checkpoint_wrapped_module"])
def test_a_part_that_was_wrapped(tmp_path: Path, by: str) -> None:
    found = renamed(weights(), "block1.", f"block1._{by}.")
    is_ours(load(written(tmp_path, found)))


@pytest.mark.parametrize("name", ["theirs.pt", "theirs.pth", "theirs.th", "theirs.ckpt", "a.tar"])
@pytest.mark.parametrize("legacy", [False, True])
def test_formats(tmp_path: Path, name: str, legacy: bool) -> None:
    torch.save(weights(), tmp_path / name, _use_new_zipfile_serialization=not legacy)
    is_ours(load(tmp_path / name))


def test_safetensors(tmp_path: Path) -> None:
    save_file(weights(prefix="model."), tmp_path / "model.safetensors", {"format": "pt"})
    is_ours(load(tmp_path / "model.safetensors"))


def test_the_content_of_a_file_counts_and_not_its_ending(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "pickled.safetensors")
    is_ours(load(tmp_path / "pickled.safetensors"))
    save_file(weights(), tmp_path / "safe.bin")
    is_ours(load((tmp_path / "safe.bin").rename(tmp_path / "safe.pt")))


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = {key: value.half() for key, value in weights().items()}
    logits = load(written(tmp_path, half)).classifier(X)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, strangers.net()(X), rtol=0.05, atol=0.05)


def test_names_of_trades_and_robustbench(tmp_path: Path) -> None:
    found = weights()
    unused = {f"sub_{key}": value for key, value in found.items() if key.startswith("block1.")}
    assert unused
    is_ours(load(written(tmp_path, unused | found)))
    is_ours(load(written(tmp_path, renamed(found, "convShortcut", "conv_shortcut"))))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_first_layer_twice(tmp_path: Path, prefix: str) -> None:
    """As Andriushchenko and Flammarion (2020) have it."""
    found = weights("resnet-18-wong")
    twice = {"model_preact_hl1.1.weight": found["conv1.weight"]} | found
    path = written(tmp_path, {prefix + key: value for key, value in twice.items()})
    is_ours(load(path, replace(PLAIN, arch="resnet-18-wong")), "resnet-18-wong")
    with pytest.raises(UsageProblem) as caught:
        checkpoint.load(path)
    assert "--arch resnet-18-wong" in str(caught.value.hint)


def test_names_of_other_residual_networks(tmp_path: Path) -> None:
    theirs = replace(PLAIN, arch="resnet-18-v1")
    found = renamed(renamed(weights("resnet-18-v1"), "shortcut", "downsample"), "linear", "fc")
    is_ours(load(written(tmp_path, found), theirs), "resnet-18-v1")


@pytest.mark.parametrize("arch", ["resnet-18", "resnet-18-wong", "resnet-18-v1", "cifar-resnet-8"])
def test_names_of_each_network(tmp_path: Path, arch: str) -> None:
    is_ours(load(written(tmp_path, weights(arch)), replace(PLAIN, arch=arch)), arch)


def test_without_the_counters_of_batch_norm(tmp_path: Path) -> None:
    found = {k: v for k, v in weights().items() if "num_batches_tracked" not in k}
    assert len(found) < len(weights())
    is_ours(load(written(tmp_path, found)))


def test_norm_layer_and_activation(tmp_path: Path) -> None:
    shape = replace(strangers.DIGITS, norm_layer="group", activation="silu")
    theirs = strangers.net(shape=shape)
    model = load(
        written(tmp_path, theirs.state_dict()),
        replace(PLAIN, norm_layer="group", activation="silu"),
    )
    torch.testing.assert_close(model.classifier(X), theirs(X))


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ("mu", "sigma"),
        ("mean", "std"),
        ("normalize.mean", "normalize.std"),
        ("module.normalizer.new_mean", "module.normalizer.new_std"),
        ("0.mean", "0.std"),
    ],
)
def test_the_normalisation_that_the_file_holds(tmp_path: Path, mean: str, std: str) -> None:
    stored = {mean: torch.full((1, 1, 1, 1), 0.25), std: torch.full((1, 1, 1, 1), 0.5)}
    path = written(tmp_path, stored | weights(prefix="module."))
    listener = Listener()
    is_ours(load(path, Foreign("wrn-10-1", "digits"), reporter=listener), x=(X - 0.25) / 0.5)
    assert any("--mean 0.25 --std 0.5" in line for line in listener.said)
    is_ours(load(path))


def test_madry_lab_s_attacker_is_a_copy(tmp_path: Path) -> None:
    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    found = {"module.normalizer.new_mean": zero, "module.normalizer.new_std": one}
    found |= {"module.attacker.normalize.new_mean": zero, "module.attacker.normalize.new_std": one}
    found |= weights(prefix="module.model.") | weights(prefix="module.attacker.model.")
    is_ours(load(written(tmp_path, {"model": found}), Foreign("wrn-10-1", "digits")))


def test_without_a_normalisation_that_of_the_data_set(tmp_path: Path) -> None:
    listener = Listener()
    model = load(written(tmp_path, weights()), Foreign("wrn-10-1", "digits"), reporter=listener)
    facts = datasets.DATASETS["digits"]
    is_ours(model, x=(X - facts.mean[0]) / facts.std[0])
    assert any("that of digits is used" in line for line in listener.said)


def test_one_number_is_for_all_channels(tmp_path: Path) -> None:
    theirs = Foreign("wrn-10-1", "cifar10", (0.5,), (0.25,))
    found = strangers.net(shape=replace(strangers.DIGITS, image=(3, 32, 32))).state_dict()
    model = load(written(tmp_path, found), theirs)
    assert (model.meta.mean, model.meta.std) == ((0.5,) * 3, (0.25,) * 3)
    with pytest.raises(UsageProblem, match="3 channels, but a normalisation has 2 values"):
        load(tmp_path / "theirs.pt", replace(theirs, mean=(0.5, 0.5)))
    with pytest.raises(UsageProblem, match="1 channel, but a normalisation has 3 values"):
        per_channel((0.5, 0.5, 0.5), 1)


def test_weights_at_the_top_with_dictionaries_beside_them(tmp_path: Path) -> None:
    inner = {"index": torch.zeros(3)}
    averaged = {"ema": {key: torch.zeros_like(value) for key, value in weights().items()}}
    for content, words in (
        (weights() | {"meta": inner}, "using the weights at the top of `theirs.pt`; `--entry` "),
        (weights() | averaged, "using the weights at the top of `theirs.pt`; `--entry` "),
        ({"net": weights() | {"meta": inner}}, "using `net` of `theirs.pt`; `--entry` "),
        (averaged | {"temperature": torch.ones(1)}, None),
    ):
        listener = Listener()
        model = load(written(tmp_path, content), PLAIN, reporter=listener)
        if words:
            assert any(text.startswith(words) for text in listener.said)
            is_ours(model)
        else:
            assert not model.classifier(X).any()


def test_of_two_state_dicts_the_customary_one_or_the_one_that_is_named(tmp_path: Path) -> None:
    other = {key: torch.zeros_like(value) for key, value in weights().items()}
    path = written(tmp_path, {"ema": other, "state_dict": weights()})
    listener = Listener()
    is_ours(load(path, reporter=listener))
    assert "using `state_dict`" in listener.said[0]
    assert "`--entry` names `ema`" in listener.said[0]
    assert not load(path, replace(PLAIN, entry="ema")).classifier(X).any()
    with pytest.raises(UsageProblem, match="unknown entry `emma`") as caught:
        load(path, replace(PLAIN, entry="emma"))
    assert "did you mean `ema`?" in (caught.value.hint or "")
    with pytest.raises(UsageProblem, match="several state dicts: `a`, `b`"):
        load(written(tmp_path, {"a": other, "b": weights()}))


def test_what_is_known_of_it(tmp_path: Path) -> None:
    model = load(written(tmp_path, weights(), "lenient.pt"))
    assert model.foreign
    assert (model.name, model.meta.method, model.statistics) == ("lenient", "foreign", None)
    assert model.meta.classes == load_images("digits", "test").classes
    assert (model.meta.threat.norm, model.meta.threat.eps) == ("linf", 0.15)
    assert not model.classifier.training
    assert not any(weight.requires_grad for weight in model.classifier.parameters())


def test_class_statistics_are_measured_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(written(tmp_path, weights()))
    drawn = sample.sample(model, num=10, steps=0, seed=1).images
    train = load_images("digits", "train")
    means = torch.stack([train.x[train.y == k].float().mean(0) for k in range(10)]) / 255
    nearest = torch.cdist(drawn.flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == torch.arange(10)).float().mean() >= 0.6
    monkeypatch.setattr(
        initializers, "load_images", lambda *args, **settings: pytest.fail("reads the data")
    )
    sample.sample(model, num=2, steps=1, init="uniform")


@pytest.mark.parametrize("name", ["digits", "cifar10", "mnist"])
def test_the_names_of_classes_are_those_of_the_data(
    name: str, request: pytest.FixtureRequest
) -> None:
    root = None if name == "digits" else request.getfixturevalue(f"{name}_root")
    assert datasets.DATASETS[name].classes == load_images(name, "test", data_dir=root).classes


def test_the_names_of_classes_of_the_other_data_sets() -> None:
    from torchvision.datasets import FashionMNIST

    assert datasets.DATASETS["fashion-mnist"].classes == tuple(FashionMNIST.classes)
    fine = datasets.DATASETS["cifar100"].classes
    assert len(set(fine)) == 100
    assert list(fine) == sorted(fine)


@pytest.mark.parametrize(
    "beside",
    [
        {"mean": [0.5], "std": [0.2]},
        {"config": {"data": {"mean": (0.5,), "std": (0.2,)}}},
        {"normalize": {"mean": torch.tensor([0.5]), "std": torch.tensor([0.2])}},
    ],
    ids=["list", "settings", "tensors"],
)
def test_a_normalisation_among_settings_is_asked_for(
    tmp_path: Path, beside: dict[str, Any]
) -> None:
    path = written(tmp_path, {"state_dict": weights()} | beside)
    with pytest.raises(UsageProblem, match=r"records a normalisation, `--mean 0.5 --std 0.2`"):
        load(path, replace(PLAIN, mean=None, std=None))
    is_ours(load(path))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
def test_protocols_and_what_scripts_save_beside(
    tmp_path: Path, protocol: int, legacy: bool
) -> None:
    content = {"state_dict": weights(), "acc": np.float64(0.5), "curve": np.zeros(3), "epoch": 9}
    content["args"] = argparse.Namespace(lr=0.1, output=tmp_path, seeds=[1, 2])
    zipped = not legacy
    path = tmp_path / "theirs.pt"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    is_ours(load(path))


def test_a_dictionary_that_holds_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": weights()}
    content["self"] = content
    is_ours(load(written(tmp_path, content)))


def test_the_networks_that_a_file_may_fit_are_made_once(tmp_path: Path) -> None:
    path = written(tmp_path, weights())
    load(path)
    made = matching._without_content.cache_info().misses
    load(path)
    assert matching._without_content.cache_info().misses == made > 0
