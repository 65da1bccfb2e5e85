"""What a `config.json` beside weights says of their network, and where it contradicts the user."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.checkpoints import PLAIN, load, weights, written
from helpers.runs import Listener

from jeatcli.errors import JeatError, UsageProblem

DIGITS = [str(number) for number in range(10)]


def loaded(folder: Path, config: object, name: str = "config.json") -> Listener:
    """Load weights that have a configuration beside them; return what was said."""
    (folder / name).write_text(json.dumps(config))
    listener = Listener()
    load(written(folder, weights()), reporter=listener)
    return listener


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (
            {"architecture": "vit_tiny", "model_args": {"num_classes": 10, "patch_size": 4}},
            "names `--arch timm:vit_tiny`, made with `patch_size=4`",
        ),
        ({"architectures": ["ViTForImageClassification"]}, "its `from_pretrained` returns"),
    ],
)
def test_the_architecture_is_named_where_none_is_given_or_it_does_not_fit(
    tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    path = written(tmp_path, weights())
    with pytest.raises(UsageProblem) as missing:
        load(path, replace(PLAIN, arch=None))
    assert named in str(missing.value.hint)
    code = tmp_path / "net.py"
    code.write_text("from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    with pytest.raises(JeatError) as misfit:
        load(path, replace(PLAIN, arch=f"{code}:net"))
    assert named in str(misfit.value.hint)


def test_a_library_is_asked_for_another_data_set_first(tmp_path: Path) -> None:
    path = written(tmp_path, weights())
    described = replace(PLAIN, arch="torchvision:alexnet", dataset="cifar10")
    with pytest.raises(JeatError) as misfit:
        load(path, described)
    assert str(misfit.value.hint).startswith("check `--dataset`")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("config.json", {"image_size": 224}),
        ("config.json", {"pretrained_cfg": {"input_size": [1, 224, 224]}}),
        ("preprocessor_config.json", {"size": {"height": 224, "width": 224}}),
        ("preprocessor_config.json", {"size": {"shortest_edge": 224}}),
        ("preprocessor_config.json", {"size": 8, "crop_size": 224, "do_center_crop": True}),
    ],
)
def test_images_of_another_size_are_said(tmp_path: Path, name: str, config: object) -> None:
    (warned,) = loaded(tmp_path, config, name).warned
    assert "records images of 224x224, but those of digits are 8x8" in warned


@pytest.mark.parametrize(
    "config",
    [
        {"image_size": 8},
        {"image_size": None},
        {"image_size": [8, 8], "size": "large"},
        {"size": 224, "do_resize": False},
        {"pretrained_cfg": {"input_size": [1, 8, 8]}, "id2label": {"0": "LABEL_0"}},
        {"id2label": dict(zip(DIGITS, DIGITS, strict=True))},
        {"id2label": {"one": "1"}, "architectures": [3, None], "architecture": "a b"},
        ["no", "dictionary"],
    ],
)
def test_what_agrees_or_is_not_understood_is_not_said(tmp_path: Path, config: object) -> None:
    assert not loaded(tmp_path, config).warned


def test_the_preprocessor_knows_the_size_better(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 8, "width": 8}}')
    assert not loaded(tmp_path, {"image_size": 224}).warned


@pytest.mark.parametrize("key", ["id2label", "label_names"])
def test_classes_in_another_order_are_said(tmp_path: Path, key: str) -> None:
    names = [*DIGITS[1:], "0"]
    config = {key: dict(zip(DIGITS, names, strict=True)) if key == "id2label" else names}
    (warned,) = loaded(tmp_path, config).warned
    assert "the classes in another order than digits, 1, 2, 3, 4 ..." in warned
