"""A stopped run resumes to the same bits, one of an earlier version too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import done
from helpers.compare_runs import same
from helpers.training import StopAfter, config, run
from PIL import Image
from safetensors.torch import load_file, save_file

from jeatcli.acceleration.ways import Way
from jeatcli.checkpoints import runs
from jeatcli.checkpoints.header import read_header
from jeatcli.core.jeat import Jeat
from jeatcli.errors import Interrupted, JeatError
from jeatcli.methods import METHODS
from jeatcli.runtime.distributed import ProcessGroup
from jeatcli.training import setup, state
from jeatcli.training.resolve import read_config, read_toml, resolve, to_toml
from jeatcli.training.state import Saver
from jeatcli.training.train import train
from jeatcli.training.trainer import Trainer


@pytest.mark.parametrize("method", METHODS)
def test_stopped_and_resumed_equals_straight_bit_for_bit(method: str, tmp_path: Path) -> None:
    """Stopped within the first epoch, at its end, and within the second."""
    settings = config(method, eval_every=1)
    whole = train(settings, tmp_path / "straight")
    # Steps of these methods, whose attacks and chains take two each, ask more than once.
    questions = 1 + 2 * sum(name in settings.options for name in ("attack_steps", "sgld_steps"))
    for steps in (3, 1, 2):
        with pytest.raises(Interrupted, match="the state is saved"):
            train(settings, tmp_path / "stopped", should_stop=StopAfter(steps * questions))
    result = train(settings, tmp_path / "stopped")
    assert 0 < result.images < whole.images
    same(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_run_resumes_by_the_kernel_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement is made once: a clock that says otherwise later is not asked."""
    settings = config("jeat", arch="wrn-10-1", eval_every=1)
    library = config("jeat", arch="wrn-10-1", eval_every=1, kernel="library")
    train(library, tmp_path / "library")
    monkeypatch.setattr(setup, "choose", lambda *asked: Way("winograd"))
    assert train(settings, tmp_path / "straight").kernel == "winograd"
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(4))
    monkeypatch.undo()  # now there would be too little to do
    result = train(settings, tmp_path / "stopped")
    assert (result.kernel, result.compiled) == ("winograd", False)
    same(tmp_path / "straight", tmp_path / "stopped")
    # Another kernel rounds otherwise, so this would have been noticed.
    weights = [load_file(tmp_path / name / runs.MODEL_FILE) for name in ("straight", "library")]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    with pytest.raises(JeatError, match="has kernel=winograd, not kernel=library"):
        train(library, tmp_path / "straight")


@pytest.mark.parametrize(("compiled", "kernel"), [(False, "library"), (True, "winograd")])
def test_a_run_of_version_0_1_0_keeps_its_kernel(
    tmp_path: Path, compiled: bool, kernel: str
) -> None:
    text = to_toml(config("at", compile=compiled)).replace('kernel = "auto"\n', "")
    (tmp_path / runs.CONFIG_FILE).write_text(text)
    assert "kernel" not in text
    assert read_config(tmp_path / runs.CONFIG_FILE).kernel == kernel


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("question", range(4))
def test_a_stop_within_a_step_takes_back_the_step(question: int, mode: str, tmp_path: Path) -> None:
    """Before a pass of the attack, which may have moved running statistics, or of the chain."""
    settings = config(
        "jeat", arch="wrn-10-1", norm_layer="batch", limit=64, options={"attack_mode": mode}
    )
    train(settings, tmp_path / "straight")
    for whole_step in (5, 0):
        asked = StopAfter(whole_step + question + 1)
        with pytest.raises(Interrupted, match="the state is saved"):
            train(settings, tmp_path / "stopped", should_stop=asked)
        assert read_header(tmp_path / "stopped" / runs.STATE_FILE)["step"] == 1
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("method", METHODS)
def test_a_stop_before_the_first_pass_of_an_attack_or_a_chain(method: str, tmp_path: Path) -> None:
    settings = config(method, epochs=1)
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(1))
    step = read_header(tmp_path / "stopped" / runs.STATE_FILE)["step"]
    assert step == (method in ("standard", "noise"))


def test_a_step_that_has_moved_the_buffer_is_finished_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method may run its attack after its chain."""

    def chain_first(self: Jeat, model: Any, x: torch.Tensor, *rest: Any) -> Any:
        self.negatives(model, x, rest[-1])
        return loss(self, model, x, *rest)

    loss = Jeat.loss
    monkeypatch.setattr(Jeat, "loss", chain_first)
    settings = config("jeat")
    train(settings, tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(4))
    assert read_header(tmp_path / "stopped" / runs.STATE_FILE)["step"] == 1
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


def test_augmentation_and_batch_statistics_resume_too(tmp_path: Path) -> None:
    folder = tmp_path / "set"

    for index in range(24):
        pixels = torch.randint(256, (12, 12, 3), dtype=torch.uint8).numpy()
        place = folder / ("test" if index < 4 else "train") / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index}.png")
    given = {"dataset": f"folder:{folder}", "method": "jeat", "arch": "wrn-10-1", "epochs": 2}
    quick = {"batch_size": 8, "norm_layer": "batch", "eval_every": 0, "sample_every": 0}
    quick["augment"] = "crop+flip"
    options = {"attack_steps": 1, "sgld_steps": 1, "buffer_size": 9, "chain_start": "gaussian"}
    settings = resolve({**given, **quick, "options": options})
    train(settings, tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(1))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


def test_a_run_of_version_0_1_0_keeps_its_augmentation(tmp_path: Path) -> None:
    """Its `config.toml` has every setting but this one; a folder was always augmented."""
    for name, legacy in ((f"folder:{tmp_path}", "crop4+flip"), ("cifar10", "crop+flip")):
        settings = {"dataset": name, "method": "standard", "compile": False, "kernel": "library"}
        text = to_toml(resolve(settings))
        old = tmp_path / "config.toml"
        lines = [line for line in text.splitlines() if not line.startswith("augment")]
        old.write_text("\n".join(lines))
        assert read_config(old).augment == legacy
        assert done("train", "-c", old, "--dry-run") == to_toml(read_config(old))
    # A file of a few settings is no such one.
    old.write_text(f'dataset = "folder:{tmp_path}"')
    assert "augment" not in read_toml(old)
    assert read_config(old).augment == "none"


@pytest.mark.parametrize(
    "damage",
    [
        {"step": None},
        {"step": -1},
        {"step": 10**6},
        {"step": 10**30},
        {"step": "4"},
        {"attempt": [0]},
        {"attempt": 1e9},
        {"attempt": 10**30},
    ],
)
def test_a_state_whose_header_is_damaged_is_refused(damage: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", should_stop=lambda: True)
    path = tmp_path / "run" / runs.STATE_FILE
    header = runs.read_header(path) | {"digest": None} | damage
    save_file(load_file(path), path, {"jeat": json.dumps(header)})
    with pytest.raises(JeatError, match=r"does not fit this run|the header of .* is damaged"):
        run(tmp_path / "run")


def test_ranks_that_find_different_states_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", should_stop=lambda: True)
    monkeypatch.setattr(ProcessGroup, "collect", lambda self, found: [found, (0, 0)])
    with pytest.raises(JeatError, match="different states"):
        run(tmp_path / "run")


def test_short_epochs_are_not_saved_but_at_the_end_and_at_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = state.save_state

    def noted(path: Path, at: Trainer, extra: Any) -> None:
        saved.append(at.step)
        save(path, at, extra)

    monkeypatch.setattr(state, "save_state", noted)
    steps = {}
    for name, rare in (("each", 0.0), ("few", 1e9)):
        monkeypatch.setattr(Saver, "rare", rare)
        run(tmp_path / name, epochs=4)
        steps[name], saved[:] = list(saved), []
    assert steps == {"each": [0, 4, 8, 12, 16], "few": [0, 16]}
    with pytest.raises(Interrupted, match="after epoch 2"):
        train(config(epochs=4), tmp_path / "stopped", should_stop=StopAfter(8))
    assert saved == [0, 8]
    run(tmp_path / "stopped", epochs=4)
    same(tmp_path / "each", tmp_path / "few")
    same(tmp_path / "each", tmp_path / "stopped")


def test_the_state_before_is_the_old_file_and_no_copy_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old: list[int] = []
    save = state.save_state

    def noted(path: Path, at: Trainer, extra: Any) -> None:
        old.extend([path.stat().st_ino] if path.exists() else [])
        save(path, at, extra)

    monkeypatch.setattr(state, "save_state", noted)
    run(tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "state-before.safetensors").stat().st_ino == old[-1]


def test_an_epoch_whose_end_is_left_twice_has_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its evaluations, then killed between its line in the log and the save."""
    settings = config(eval_every=1)
    train(settings, tmp_path / "straight")

    def full(self: Saver, trainer: Trainer) -> None:
        raise OSError("the disk is full")

    # Four questions between steps; the next comes from the evaluations.
    with pytest.raises(Interrupted, match="at the end of epoch 1"):
        train(settings, tmp_path / "left", should_stop=StopAfter(5))
    with monkeypatch.context() as patch:
        patch.setattr(Saver, "on_epoch", full)
        with pytest.raises(OSError, match="full"):
            train(settings, tmp_path / "left")
    train(settings, tmp_path / "left")
    same(tmp_path / "straight", tmp_path / "left")
