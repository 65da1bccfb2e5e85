"""Training from its settings to its end."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.compare_runs import lines, same
from helpers.runs import Listener
from helpers.training import StopAfter, config, run
from torch import Tensor

from jeatcli.acceleration.ways import Way, Wish, Work
from jeatcli.checkpoints.checkpoint import load
from jeatcli.data.images import load_images
from jeatcli.errors import Interrupted, JeatWarning, UsageProblem
from jeatcli.training import setup
from jeatcli.training.resolve import resolve
from jeatcli.training.settings import TrainConfig
from jeatcli.training.train import train
from jeatcli.training.trainer import Trainer, numbers


def test_only_a_long_run_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works: list[Work] = []

    def choose(*asked: Any) -> Way:
        works.append(asked[2])
        assert asked[3] == Wish("auto", None)
        return asked[3].unmeasured

    monkeypatch.setattr(setup, "choose", choose)
    options = {"attack_steps": 3, "sgld_steps": 2, "buffer_size": 99}
    for epochs, most in ((2, 0), (2, 3)):
        settings = config("jeat", limit=64, epochs=epochs, max_steps=most, options=options)
        setup.build(settings, tmp_path, torch.device("cpu"))
        images = settings.batch_size * (most or epochs * (64 // settings.batch_size))
        assert works.pop() == ((1, 8, 8), settings.batch_size, 5 * images, images)


def test_training_learns_the_digits(tmp_path: Path) -> None:
    result = run(tmp_path / "run", epochs=6, limit=0, batch_size=64, eval_every=6)
    assert result.metrics["test_clean"] > 0.95
    assert result.images == 6 * 21 * 64


def test_settings_without_the_options_of_their_method_get_them(tmp_path: Path) -> None:
    settings = TrainConfig(
        "at", "digits", epochs=1, max_steps=1, sample_every=0, kernel="library", compile=False
    )
    train(settings, tmp_path / "run")
    assert load(tmp_path / "run").meta.options["eps"] == 0.15
    assert train(settings, tmp_path / "run").already_done
    for given in (None, "at", ["at"]):
        with pytest.raises(UsageProblem, match="cannot be of the type"):
            train(given)  # type: ignore[arg-type]


def test_a_set_smaller_than_a_batch_is_counted_as_it_is(tmp_path: Path) -> None:
    assert run(tmp_path / "run", limit=20).images == 2 * 20


def test_the_generators_of_others_are_left_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seeded(seed: int) -> None:
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    before = torch.get_rng_state()
    run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_callers_autocast_does_not_keep_the_first_weights(tmp_path: Path, enabled: bool) -> None:
    """Torch empties its cache of rounded weights only where the outermost autocast ends."""
    run(tmp_path / "alone", precision="bf16")
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        run(tmp_path / "within", precision="bf16")
    same(tmp_path / "alone", tmp_path / "within")


def test_a_run_is_not_tested_on_the_first_classes_in_silence(tmp_path: Path) -> None:
    test = load_images("digits", "test")
    order = test.y.argsort()
    archive = {
        "train_images": test.x.numpy(),
        "train_labels": test.y.numpy(),
        "test_images": test.x[order].numpy(),
        "test_labels": test.y[order].numpy(),
    }
    np.savez(tmp_path / "sorted.npz", **archive)
    with pytest.warns(JeatWarning, match="order of their classes, and the first 128 are of 4 of"):
        run(tmp_path / "run", dataset=f"npz:{tmp_path}/sorted.npz", epochs=1, limit=64)


def test_the_grids_of_a_run_do_not_call_it_unfinished(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", JeatWarning)
        run(tmp_path / "run", sample_every=1)
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2


def test_max_steps_end_a_run_within_an_epoch_as_its_own_end(tmp_path: Path) -> None:
    """Six steps of four an epoch: the rate has come down, the model is saved and evaluated."""
    settings = config(max_steps=6, eval_every=1, sample_every=1)
    assert train(settings, tmp_path / "straight").epochs == 2
    ends = [(line["epoch"], line["step"]) for line in lines(tmp_path / "straight")]
    assert ends == [(1, 4), (2, 6)]
    grids = sorted(path.name for path in (tmp_path / "straight" / "samples").iterdir())
    assert grids == ["epoch-001.png", "epoch-002.png"]
    assert lines(tmp_path / "straight")[-1]["lr"] < settings.lr / 2
    assert "test_robust" in lines(tmp_path / "straight")[-1]
    assert load(tmp_path / "straight").meta.finished
    for stop in (3, 2):
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "stopped", should_stop=StopAfter(stop))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")
    assert train(settings, tmp_path / "stopped").already_done


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-3), ("bf16", 0.02)])
def test_a_compiled_network_learns_the_same(
    tmp_path: Path, precision: str, rounding: float
) -> None:
    settings = {"dataset": "digits", "method": "at", "max_steps": 3, "precision": precision}
    settings["options"] = {"attack_steps": 1}
    plain, compiled = (
        train(resolve(settings | {"compile": flag}), tmp_path / str(flag), device="cpu").metrics
        for flag in (False, True)
    )
    for name in ("loss", "grad_norm"):
        assert compiled[name] == pytest.approx(plain[name], rel=rounding)
    assert load(tmp_path / "True").classifier(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("first_stage", [0, 2])
def test_a_figure_is_the_mean_over_the_steps_that_have_it(
    first_stage: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DAT has no energies in its first stage, which ends within an epoch of four steps."""
    steps: list[dict[str, float]] = []
    update = Trainer.update

    def recorded(trainer: Trainer, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        metrics = update(trainer, x, y)
        steps.append(numbers(metrics))
        return metrics

    settings = config("dat", epochs=1, options={"first_stage": first_stage})
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", recorded)
        train(settings, tmp_path / "straight")
    (line,) = lines(tmp_path / "straight")
    for name in ("loss", "accuracy", "energy", "energy_sgld", "auc"):
        had = [step[name] for step in steps if name in step]
        assert len(had) == 4 - (0 if name in ("loss", "accuracy") else first_stage)
        assert line[name] == pytest.approx(sum(had) / len(had)), name
    with pytest.raises(Interrupted):  # after the third step
        train(settings, tmp_path / "stopped", should_stop=StopAfter(3 * 3))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


def test_batches_of_one_image_without_batch_statistics_are_refused(tmp_path: Path) -> None:
    """The last features of `resnet-18` are 1x1 for digits; larger ones have statistics."""
    one = {"norm_layer": "batch", "batch_size": 1, "limit": 2, "epochs": 1}
    with pytest.raises(UsageProblem, match=r"batches of one image\n.*--batch-size"):
        run(tmp_path / "run", arch="resnet-18", **one)
    assert not (tmp_path / "run").exists()
    run(tmp_path / "run", **one)


def test_pixels_are_normalised_by_images_of_all_classes(tmp_path: Path) -> None:
    """An archive that is sorted: its first 5,000 images are black."""
    images = np.zeros((10_001, 8, 8, 3), np.uint8)
    images[5_001:] = 200, 100, 0
    labels = np.arange(10_001) // 5_001
    archive = {"train_images": images, "train_labels": labels}
    archive |= {"test_images": images[::2000] + 1, "test_labels": labels[::2000]}
    np.savez(tmp_path / "sorted.npz", **archive)
    settings = config(dataset=f"npz:{tmp_path}/sorted.npz", limit=0)
    ready = setup.build(settings, tmp_path / "run", torch.device("cpu"))
    meta = ready.model().meta
    assert meta.mean == pytest.approx((200 / 510, 100 / 510, 0), rel=1e-3)
    assert meta.std == pytest.approx((200 / 510, 100 / 510, 1e-3), rel=1e-3)


@pytest.mark.parametrize(
    ("method", "options", "warned"),
    [
        ("at", {"norm": "l2", "eps": "8/255"}, "eps l2 8/255 is small: 1/255 per pixel"),
        ("jeat", {"norm": "l2", "eps": 8}, "eps l2 8 is large"),
        ("at", {"norm": "l2", "eps": 0.6}, ""),
        ("at", {"eps": 0}, ""),
        ("standard", {}, ""),
    ],
)
def test_a_radius_of_another_scale_is_said_before_training(
    method: str, options: dict[str, Any], warned: str, tmp_path: Path
) -> None:
    """Such a run has no adversary, or one that no network withstands."""
    listener, settings = Listener(), config(method, epochs=1, limit=32, options=options)
    train(settings, tmp_path / "run", reporter=listener)
    assert [text.startswith(warned) for text in listener.said if "per pixel" in text] == (
        [True] if warned else []
    )


@pytest.mark.parametrize(
    ("method", "kind"), [("standard", "clean"), ("noise", "noisy"), ("at", "robust")]
)
def test_an_epoch_says_which_accuracy_it_had(method: str, kind: str, tmp_path: Path) -> None:
    listener = Listener()
    train(config(method, epochs=1, limit=64, eval_every=1), tmp_path / "run", reporter=listener)
    (line,) = (text for text in listener.said if text.startswith("epoch 1/1"))
    assert f" % {kind}  test " in line
    assert len(line) <= 80


@pytest.mark.parametrize(
    ("most", "length"), [(3, "the first 3 steps of 2 epochs"), (8, "2 epochs")]
)
def test_the_summary_says_where_a_run_ends(most: int, length: str, tmp_path: Path) -> None:
    listener = Listener()
    train(config(max_steps=most), tmp_path / "run", reporter=listener)
    assert f" weights), {length} of 4 steps, " in listener.said[0]
