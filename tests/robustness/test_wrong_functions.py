"""Networks that compute the wrong function, or none: refused or flagged, never in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import weights, written
from helpers.cli import LATEST, STANDARD, done, here, one, refused
from helpers.prototypes import Prototypes, classifier, stranger
from helpers.runs import Listener, load_run, save_run
from PIL import Image
from torch import Tensor, nn

from jeatcli.checkpoints import checkpoint
from jeatcli.checkpoints.checkpoint import load_each
from jeatcli.checkpoints.model import Model
from jeatcli.checkpoints.settings import Foreign
from jeatcli.errors import JeatError
from jeatcli.robustness import evaluate


def flags(model: Model, **settings: Any) -> dict[str, str]:
    """Return what is flagged of a model, by the names of the flags."""
    result = evaluate.attack(model, attacks=["fgsm"], num=20, **settings)
    return {flag["name"]: flag["text"] for flag in result.warnings}


def test_random_weights_are_flagged_before_anything_is_attacked() -> None:
    listener = Listener()
    found = flags(load_run("model"), reporter=listener)
    assert "low-clean-accuracy" in found
    assert "(chance: 1" in found["low-clean-accuracy"]
    assert "normalisation" in found["low-clean-accuracy"]
    assert any("low-clean-accuracy" in text for text in listener.said)


def test_a_good_network_is_not_flagged_however_few_images_are_attacked() -> None:
    model = stranger(Prototypes())
    for settings in ({}, {"only": "3"}, {"target": "3", "batch_size": 1}):
        assert flags(model, **settings) == {}


def test_images_of_one_class_are_classified_no_worse_for_it() -> None:
    model = stranger(Prototypes())
    test = model.test_images(None, None)
    threes = test.take((test.y == 3).nonzero().flatten()[:30])
    result = evaluate.attack(model, images=threes.x, labels=threes.y, attacks=["fgsm"])
    assert result.clean > 0.8
    assert "low-clean-accuracy" not in {flag["name"] for flag in result.warnings}


def test_classes_in_another_order_are_recognised() -> None:
    net = Prototypes()
    net.means.copy_(net.means.roll(1, 0))
    assert "their order is not the network's" in flags(stranger(net))["low-clean-accuracy"]


def test_an_accuracy_below_what_the_file_says_is_flagged(tmp_path: Path) -> None:
    good = stranger(Prototypes())
    assert flags(replace(good, stated_accuracy=0.9)) == {}
    blurred = Prototypes()
    blurred.means.add_(0.35 * torch.randn(10, 64, generator=torch.Generator().manual_seed(0)))
    low = replace(good, classifier=classifier(blurred), stated_accuracy=0.9)
    assert "(stated: 90.0 %)" in flags(low)["low-clean-accuracy"]
    assert flags(replace(low, stated_accuracy=None)) == {}


@pytest.mark.parametrize(
    ("beside", "accuracy"),
    [
        ({"acc": 91.5}, 0.915),
        ({"best_prec1": torch.tensor(91.7)}, 0.917),
        ({"best_acc": 0.9, "acc": 10.0}, 0.9),
        ({"acc": "good"}, None),
        ({"acc": -1.0}, None),
        ({}, None),
    ],
)
def test_the_accuracy_that_training_scripts_put_beside_the_weights(
    tmp_path: Path, beside: dict[str, Any], accuracy: float | None
) -> None:
    file = tmp_path / "theirs.pt"
    torch.save({"state_dict": weights(), **beside}, file)
    foreign = Foreign("wrn-10-1", "digits", mean=(0.0,), std=(1.0,))
    (model,) = load_each([file], foreign=foreign, device="cpu")
    assert model.stated_accuracy == (None if accuracy is None else pytest.approx(accuracy))


def test_a_run_that_was_stopped_in_its_epochs_is_flagged(home: Path, tmp_path: Path) -> None:
    model = checkpoint.load("standard", device="cpu")
    assert model.statistics is not None
    meta = replace(model.meta, finished=False, epoch=2, epochs=5)
    path = tmp_path / "half" / "model.safetensors"
    checkpoint.save_model(path, model.classifier, meta, model.statistics)
    said = here("attack", path.parent, "--attack", "fgsm", "-n", 10)
    text = " ".join(said.stderr.split())
    assert "Warning: `half` was stopped after 2 of 5 epochs" in text
    found = one("attack", path.parent, "--attack", "fgsm", "-n", 10)
    assert "a-run-that-is-not-finished" in [flag["name"] for flag in found["warnings"]]
    # The best weights of a run are of an epoch in its midst.
    path.rename(path.with_name("best.safetensors"))
    found = one("attack", path.with_name("best.safetensors"), "--attack", "fgsm", "-n", 10)
    assert "a-run-that-is-not-finished" not in [flag["name"] for flag in found["warnings"]]


def broken_run(name: str) -> Path:
    """Save a run with weights of NaN."""
    path = save_run(name)
    model = checkpoint.load(path)
    next(model.classifier.parameters()).fill_(torch.nan)
    assert model.statistics is not None
    checkpoint.save_model(path, model.classifier, model.meta, model.statistics)
    return path


@pytest.mark.parametrize(
    "command",
    [
        "attack broken",
        f"attack {LATEST} --transfer-from broken",
        f"attack {LATEST} broken",
        "sample broken --sampler pgd -n 2",
        "sample broken --sampler sgld -n 2",
        "landscape broken",
        "score broken --calibration",
        f"score {LATEST} -n 20 --features broken",
    ],
)
def test_a_network_of_nan_is_refused_in_every_verb(home: Path, command: str) -> None:
    broken_run("broken")
    refused(here(*command.split()), 1, "`broken` gives logits that are NaN or infinite")


def test_a_strangers_file_of_nan_is_refused(tmp_path: Path) -> None:
    tensors = weights()
    next(iter(tensors.values())).fill_(torch.nan)
    theirs = written(tmp_path, tensors)
    described = ("--arch", "wrn-10-1", "--dataset", "digits", "--mean", 0, "--std", 1)
    refused(here("attack", theirs, *described), 1, "holds NaN or infinity in conv1.weight")


def test_a_strangers_file_whose_logits_overflow_is_refused(tmp_path: Path) -> None:
    tensors = weights()
    [*tensors.values()][-1].fill_(3e38)
    [*tensors.values()][-2].fill_(3e38)
    theirs = written(tmp_path, tensors)
    described = ("--arch", "wrn-10-1", "--dataset", "digits", "--mean", 0, "--std", 1)
    refused(here("attack", theirs, *described), 1, "gives logits that are NaN or infinite")


class Normalised(Prototypes):
    """With batch statistics, it computes another function in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def features(self, x: Tensor) -> Tensor:
        return super().features(self.norm(x))


def test_a_model_in_training_mode_is_evaluated_in_evaluation_mode() -> None:
    net = Normalised()
    model = stranger(net)
    settings: dict[str, Any] = {"attacks": ["fgsm"], "num": 40, "batch_size": 10}
    expected = evaluate.attack(model, **settings)
    model.classifier.train()
    listener = Listener()
    result = evaluate.attack(model, **settings, reporter=listener)
    assert result.samples == expected.samples
    assert any("training mode" in text for text in listener.said)
    assert model.classifier.training
    assert net.norm.training
    assert net.norm.num_batches_tracked == 0


def test_json_holds_the_warnings_that_quiet_hides(home: Path) -> None:
    """Those of the result and all others, once each."""
    folder = home / "zoo"
    for k, split in enumerate(("train", "test") * 20):
        place = folder / split / ("cat" if k % 4 < 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 3 * (k // 2)).save(place / f"{k}.png")
    words = [f"folder:{folder}" if word == "digits" else word for word in STANDARD]
    trained = json.loads(
        done(
            *[word for word in words if word not in ("--limit", "128")],
            "--arch",
            "small",
            "-o",
            "shared",
            "-q",
            "--json",
        )
    )
    assert [flag["name"] for flag in trained["warnings"]] == ["other"]
    assert "images to evaluate on are training images" in trained["warnings"][0]["text"]
    found = json.loads(done("attack", "shared", "--attack", "fgsm", "-q", "--json"))
    assert sum("was trained on 20 of the 20" in flag["text"] for flag in found["warnings"]) == 1


def test_a_part_in_training_mode_is_enough() -> None:
    model = load_run("model")
    next(iter(model.classifier.net.children())).train()
    (copy,) = load_each([model])
    assert copy is not model
    assert not any(module.training for module in copy.classifier.modules())
    assert copy.name == model.name
    model.classifier.eval()
    assert load_each([model])[0] is model


def test_a_network_without_finite_logits_is_refused_by_load() -> None:
    with pytest.raises(JeatError, match="NaN or infinite"):
        checkpoint.load(broken_run("broken"))
