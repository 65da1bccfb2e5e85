"""Fine-tuning: the weights of another network, and everything else anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import weights, written
from helpers.cli import QUICK, here, refused, stopped_after
from helpers.compare_runs import same
from helpers.training import config, run
from PIL import Image

from jeatcli.checkpoints.checkpoint import load
from jeatcli.errors import Interrupted, JeatError, UsageProblem
from jeatcli.training import setup
from jeatcli.training.resolve import read_config, resolve
from jeatcli.training.settings import TrainConfig
from jeatcli.training.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a network that is no default."""
    folder = tmp_path_factory.mktemp("runs") / "source"
    run(folder, "at", arch="wrn-10-1", activation="silu", epochs=1)
    return folder


def from_source(source: Path, **settings: object) -> TrainConfig:
    return config("dat", init_from=str(source), **settings)


def started(settings: TrainConfig, folder: Path) -> setup.Setup:
    ready = setup.build(settings, folder, CPU)
    ready.take_first_weights()
    return ready


def test_the_averaged_weights_are_the_first_ones(source: Path, tmp_path: Path) -> None:
    known = load(source).classifier.state_dict()
    ready = started(from_source(source), tmp_path / "new")
    for net in (ready.trainer.model, ready.trainer.average.model):
        assert all(torch.equal(value, known[key]) for key, value in net.state_dict().items())
    assert ready.trainer.step == 0
    assert not ready.trainer.optimizer.state
    before = setup.build(from_source(source), tmp_path / "new", CPU).trainer.model
    assert any(not torch.equal(known[key], value) for key, value in before.state_dict().items())


def test_the_network_decides_what_nobody_says(source: Path) -> None:
    found = resolve({"init_from": str(source)})
    assert (found.dataset, found.arch, found.activation) == ("digits", "wrn-10-1", "silu")
    assert found.norm_layer == "batch"
    assert resolve({"init_from": str(source), "activation": "relu"}).activation == "relu"
    assert resolve({"init_from": "", "dataset": "digits"}).arch == "small"


@pytest.mark.parametrize(
    ("said", "what", "fix"),
    [
        ({"activation": "relu"}, "activation", "omit `--activation`, or"),
        ({"arch": "wrn-10-2", "norm_layer": "group"}, "arch", "omit `--arch`, `--norm-layer`, or"),
    ],
)
def test_another_network_is_refused(
    source: Path, tmp_path: Path, said: dict[str, str], what: str, fix: str
) -> None:
    with pytest.raises(JeatError, match=f"differs from this run in {what}") as refused:
        started(from_source(source, **said), tmp_path / "new")
    assert fix in str(refused.value.hint)


def test_a_run_that_cannot_begin_leaves_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(JeatError, match="differs from this run"):
        train(from_source(source, arch="small"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_other_classes_are_refused(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images" / "train"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        Image.new("L", (8, 8)).save(folder / label / "0.png")
    shutil.copytree(folder, folder.with_name("test"))
    settings = {"dataset": f"folder:{folder.parent}", "batch_size": 2, "limit": 0}
    with pytest.raises(JeatError, match="differs from this run in classes") as refused:
        started(from_source(source, **settings), tmp_path / "new")
    assert "train on its data set (`--dataset digits`)" in str(refused.value.hint)


def test_a_run_goes_on_without_the_network_that_it_started_from(
    source: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    settings = from_source(copy)
    train(settings, tmp_path / "whole")
    with stopped_after(5), pytest.raises((Interrupted, KeyboardInterrupt)):
        train(settings, tmp_path / "parts")
    shutil.rmtree(copy)
    train(read_config(tmp_path / "parts" / "config.toml"), tmp_path / "parts")
    same(tmp_path / "whole", tmp_path / "parts")


def test_it_says_that_it_is_no_resume(source: Path, tmp_path: Path) -> None:
    command = ("train", "--method", "standard", *QUICK, "--init-from", source)
    said = here(*command, "-o", tmp_path / "new")
    assert said.exit_code == 0, said.stderr
    assert "starting from the weights of `source`; this is not a resume" in said.stderr
    again = here(*command, "-o", tmp_path / "new")
    assert "not a resume" not in again.stderr


def test_it_does_not_start_over_with_its_own_weights(tmp_path: Path) -> None:
    run(tmp_path / "own", epochs=1)
    settings = config(init_from=str(tmp_path / "own"), epochs=1)
    with pytest.raises(UsageProblem, match="its own weights"):
        train(settings, tmp_path / "own", force=True)
    assert (tmp_path / "own" / "model.safetensors").is_file()


def test_nothing_there_is_told(home: Path) -> None:
    refused(here("train", "--init-from", "no-such-run"), 1, "no-such-run")


def test_a_relative_path_is_made_absolute(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    assert resolve({"init_from": "./source"}).init_from == str(source)
    monkeypatch.setenv("JEAT_RUNS_DIR", str(source.parent))
    assert resolve({"init_from": "source"}).init_from == "source"


def test_the_network_of_a_stranger(tmp_path: Path) -> None:
    """With its own normalisation, which the new run's header has as well."""
    theirs = weights("wrn-10-1")
    path = written(tmp_path, {**theirs, "mean": torch.tensor([0.25]), "std": torch.tensor([0.5])})
    result = run(tmp_path / "new", init_from=str(path), arch="wrn-10-1", epochs=1, lr=1e-9, ema=0.0)
    model = load(result.run)
    for key, value in model.classifier.net.state_dict().items():
        if "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(value, theirs[key], atol=1e-5, rtol=0)
    normalize = model.classifier.normalize
    assert model.meta.mean == (normalize.mean.item(),) == (0.25,)
    assert model.meta.std == (normalize.std.item(),) == (0.5,)
