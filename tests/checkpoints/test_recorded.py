"""Normalisations that files record: in words and other forms, among the weights and beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import PLAIN, X, is_ours, load, net, weights, written
from safetensors.torch import save_file

from jeatcli.checkpoints.recorded import recorded
from jeatcli.errors import UsageProblem

ASKED = replace(PLAIN, mean=None, std=None)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
LIST, OTHER = "0.4914, 0.4822, 0.4465", "0.2470 0.2435 0.2616"


@pytest.mark.parametrize(
    "settings",
    [
        {"mean": LIST, "std": OTHER},
        {"mean": f"[{LIST}]", "std": f"({OTHER})"},
        {"MEAN": LIST, "STD": [*STD]},
        {"hyper_parameters": {"data": {"image_mean": [*MEAN], "image_std": [*STD]}}},
        {"mean": MEAN, "inv_std": [1 / value for value in STD]},
        {"rgb_mean": MEAN, "rgb_var": [value**2 for value in STD]},
        {"mean_rgb": MEAN, "std_rgb": STD},
        {"transform": f"Compose(ToTensor(), Normalize(mean=[{LIST}], std=[{OTHER}]))"},
        {"config": json.dumps({"mean": MEAN, "std": STD})},
        {"pipeline": [{"type": "Resize"}, {"type": "Normalize", "mean": MEAN, "std": STD}]},
        {"normalize": [list(MEAN), list(STD)]},
        {"mean": "125.307/255 122.961/255 113.8575/255", "std": OTHER},
        {"result": {"mean": 0.8, "std": 0.1}, "mean": torch.tensor(MEAN), "std": STD},
    ],
)
def test_forms_of_settings(settings: dict[str, Any]) -> None:
    found = recorded(settings)
    assert found
    for values, expected in zip(found, (MEAN, STD), strict=True):
        assert values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mean": 0.1307, "std": 0.3081}, ((0.1307,), (0.3081,))),
        ({"mean": "imagenet", "std": "imagenet"}, ((), ())),
        ({"mean": 0.0, "std": 0.02}, None),
        ({"metrics": {"mean": 0.8, "std": 0.01}}, None),
        ({"test_acc": [{"mean": 0.8, "std": 0.01}]}, None),
        ({"mean": None, "std": None}, None),
        ({"mean": True, "std": True}, None),
        ({"mean": "", "std": ""}, None),
        ({"mean": [0.5] * 9, "std": [0.5] * 9}, None),
        ({"norm_layers": [["batch"], ["group"]], "stats": [1, 2]}, None),
        ({"mean": "1" * 5000 + "x"}, None),
        ({"a": {"b": {"c": {"d": {"mean": [0.5], "std": [0.5]}}}}}, None),
    ],
)
def test_numbers_that_are_none_of_pixels(settings: dict[str, Any], expected: object) -> None:
    assert recorded(settings) == expected


def test_settings_in_words_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, {"state_dict": weights(), "args": {"mean": "0.5", "std": "0.2"}})
    with pytest.raises(UsageProblem, match=r"records a normalisation, `--mean 0.5 --std 0.2`"):
        load(path, ASKED)
    is_ours(load(path))


@pytest.mark.parametrize("name", ["inv_std", "istd"])
def test_a_layer_that_keeps_the_inverse_is_applied(tmp_path: Path, name: str) -> None:
    inside = {"norm.mean": torch.full((1, 1, 1, 1), 0.5), f"norm.{name}": torch.full((1,), 4.0)}
    model = load(written(tmp_path, inside | weights(prefix="net.")), ASKED)
    assert (model.meta.mean, model.meta.std) == ((0.5,), (0.25,))
    torch.testing.assert_close(model.classifier(X), net()((X - 0.5) * 4))


def test_a_layer_whose_inverse_is_zero_is_refused(tmp_path: Path) -> None:
    inside = {"norm.mean": torch.full((1,), 0.5), "norm.inv_std": torch.zeros(1)}
    with pytest.raises(UsageProblem, match="is not of pixels"):
        load(written(tmp_path, inside | weights(prefix="net.")), ASKED)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_file_beside_the_weights(tmp_path: Path, name: str) -> None:
    save_file(weights(), tmp_path / "model.safetensors", {"format": "pt"})
    about = {"pretrained_cfg": {"mean": [0.5], "std": [0.2]}}
    if "pre" in name:
        about = {"image_mean": [0.5], "image_std": [0.2]}
    (tmp_path / name).write_text(json.dumps(about))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(UsageProblem, match=rf"{name}` records .*`--mean 0.5 --std 0.2`"):
            load(path, ASKED)
        is_ours(load(path))
    (tmp_path / name).write_text("{")
    assert load(tmp_path, ASKED)


@pytest.mark.parametrize(
    "about",
    [{"mean": "[0.5]", "std": "[0.2]"}, {"config": '{"norm": {"mean": [0.5], "std": [0.2]}}'}],
)
def test_the_metadata_of_safetensors(tmp_path: Path, about: dict[str, str]) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file(weights(), path, about | {"format": "pt"})
    with pytest.raises(UsageProblem, match=r"theirs.safetensors` records .*`--mean 0.5 --std 0.2`"):
        load(path, ASKED)
    is_ours(load(path))
