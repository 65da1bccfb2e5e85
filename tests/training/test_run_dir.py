"""The directory of a run: what it holds, whose it is, and what is left alone."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import everything
from helpers.compare_runs import lines, same, tensors
from helpers.runs import Listener
from helpers.training import StopAfter, config, run
from PIL import Image

from jeatcli.checkpoints import runs
from jeatcli.checkpoints.checkpoint import load
from jeatcli.errors import Interrupted, JeatError, UsageProblem
from jeatcli.training import run_dir, setup
from jeatcli.training.resolve import read_config, resolve, to_toml
from jeatcli.training.train import train


def test_the_run_directory_holds_what_it_should(tmp_path: Path) -> None:
    result = run(tmp_path / "run", "jeat", sample_every=1, eval_every=1)
    folder = Path(result.run)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {"config.toml", "metrics.jsonl", "model.safetensors", "state.safetensors"}
    expected |= {"state-before.safetensors", "metrics.csv"}
    assert files == expected | {"samples/epoch-001.png", "samples/epoch-002.png", ".lock"}
    with Image.open(folder / "samples" / "epoch-002.png") as grid:
        about = json.loads(grid.info["settings"])
    # Where the chains of digits start, and not where samples do.
    assert about["init"] == "uniform"
    # A row of ten for each 60 images that the network has seen, as a trial is to be short.
    assert about["n"] == 10 * (2 * 128 // 60)
    assert [line["epoch"] for line in lines(folder)] == [1, 2]
    assert {"loss", "energy_gap", "test_clean", "test_robust", "lr"} <= set(lines(folder)[-1])
    model = load(folder)
    assert model.meta.method == "jeat"
    assert model.meta.finished
    assert model.meta.threat.eps == 0.15


def test_config_toml_repeats_the_run(tmp_path: Path) -> None:
    run(tmp_path / "first", "jeat")
    again = read_config(tmp_path / "first" / "config.toml")
    assert to_toml(again) == (tmp_path / "first" / "config.toml").read_text()
    # Editors of Windows lead UTF-8 by a mark.
    text = (tmp_path / "first" / "config.toml").read_text()
    (tmp_path / "marked.toml").write_text(text, encoding="utf-8-sig")
    assert read_config(tmp_path / "marked.toml") == again
    train(again, tmp_path / "second")
    same(tmp_path / "first", tmp_path / "second")


def test_a_finished_run_says_so_and_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = (tmp_path / "run" / runs.MODEL_FILE).stat().st_mtime_ns
    again = run(tmp_path / "run")
    assert again.already_done
    assert again.images == 0
    assert (tmp_path / "run" / runs.MODEL_FILE).stat().st_mtime_ns == before


def test_another_configuration_is_refused_by_name_unless_forced(tmp_path: Path) -> None:
    run(tmp_path / "run", "at")
    before = tensors(tmp_path / "run")
    with pytest.raises(
        JeatError, match=r"it has .*eps=0.15, lr=0.003, not .*eps=0.1, lr=0.5"
    ) as caught:
        run(tmp_path / "run", "at", lr=0.5, options={"eps": 0.1, "attack_step_size": 0.1875})
    assert "--force" in (caught.value.hint or "")
    with pytest.raises(JeatError, match=r"it has .*init_from=none, .* not .*init_from=pretrained"):
        run(tmp_path / "run", "at", init_from="pretrained")
    assert tensors(tmp_path / "run").keys() == before.keys()
    train(config("at", epochs=1), tmp_path / "run", force=True)
    assert load(tmp_path / "run").meta.epochs == 1
    assert load(tmp_path / "run~1").meta.epochs == 2


def test_the_command_that_goes_on_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    run_dir.create(folder, config())
    with pytest.raises(JeatError) as caught:
        run_dir.compare(folder, config(seed=1))
    again = f"jeat train -c '{folder}/config.toml' -o '{folder}'"
    assert f"`{again}`" in str(caught.value.hint)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...")
    with pytest.raises(JeatError, match=r"no `config\.toml`"):
        run(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "..."


@pytest.mark.parametrize("name", ["two\nlines", "escape\x1b[31m", 'q"\\', "\x7f\u3000é😀"])
def test_whatever_a_folder_is_called_its_settings_are_read_back(name: str, tmp_path: Path) -> None:
    settings = resolve({"dataset": f"folder:{tmp_path / name}", "method": "standard"})
    (tmp_path / "config.toml").write_text(to_toml(settings), encoding="utf-8")
    assert read_config(tmp_path / "config.toml") == settings


def test_a_folder_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="not UTF-8"):
        resolve({"dataset": f"folder:{tmp_path}/bad\udcff"})


def test_a_home_that_holds_hidden_files_alone_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".profile").write_text("mine")
    with pytest.raises(JeatError, match="exists but is not a run"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".profile"]


@pytest.mark.parametrize("name", ["", " ", "-n", "lr~1", "a\nb", "\x1b[31m", "sub/\u202ex"])
def test_names_by_which_no_run_is_found_again(name: str, tmp_path: Path) -> None:
    where = tmp_path / name if "/" in name else name
    with pytest.raises(UsageProblem, match="the name of a run"):
        train(config(), where)


@pytest.mark.parametrize("place", [".", "..", "~", "/", "runs", "pets"])
def test_no_place_that_holds_more_than_the_run_is_moved_aside(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "inner").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JEAT_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path / "runs" / "inner")
    pets = replace(config(), dataset=f"folder:{tmp_path / 'pets'}")
    where = tmp_path / place if place in ("runs", "pets") else place
    with pytest.raises(UsageProblem, match="`--force` would move"):
        train(pets, where, force=True)


def test_bad_data_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem):
        run(tmp_path / "run", limit=10**6)
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_made_meanwhile_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the place empty; the other is done when this one has the lock."""
    build = setup.build

    def slow(*args: Any, **kwargs: Any) -> Any:
        ready = build(*args, **kwargs)
        monkeypatch.setattr(setup, "build", build)
        train(config(lr=0.5), tmp_path / "run")
        return ready

    monkeypatch.setattr(setup, "build", slow)
    with pytest.raises(JeatError, match=r"a run with other settings: it has lr=0\.5"):
        train(config(), tmp_path / "run")


def test_a_second_process_is_kept_off(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", should_stop=lambda: True)
    with (tmp_path / "run" / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(JeatError, match="another process is training"):
            run(tmp_path / "run")
        before = everything(tmp_path)
        with pytest.raises(JeatError, match="another process is training"):
            train(config(epochs=1), tmp_path / "run", force=True)
        assert everything(tmp_path) == before


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    listener = Listener()
    assert train(config(epochs=1), tmp_path / "run", reporter=listener).epochs == 1
    assert any("cannot be locked (No locks available)" in line for line in listener.said)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole.replace(b'\\"classes\\"', b'\\"clashes\\"'), "`classes` is missing"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "its contents have changed"),
    ],
    ids=["header", "tensors"],
)
def test_a_model_that_is_damaged_is_written_anew_from_the_state(
    damage: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    """As the error of the commands says that use it."""
    run(tmp_path / "run")
    model = tmp_path / "run" / "model.safetensors"
    whole = model.read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    model.write_bytes(damaged)
    with pytest.raises(JeatError, match=f"is damaged: {words}") as caught:
        load(model)
    assert "resume the run with `jeat train`, which rewrites it" in (caught.value.hint or "")
    run(tmp_path / "run")
    assert model.read_bytes() == whole
    (tmp_path / "run" / "state.safetensors").unlink()
    model.write_bytes(damaged)
    with pytest.raises(JeatError, match="is damaged"):
        run(tmp_path / "run")
    assert model.read_bytes() == damaged


def test_a_model_of_another_run_is_not_taken_for_that_of_the_run(tmp_path: Path) -> None:
    """Nor is it overwritten: it may be the only copy."""
    run(tmp_path / "run", "at")
    run(tmp_path / "other", "at", options={"eps": 0.1, "attack_step_size": 0.1}, seed=1)
    model, own = (
        tmp_path / "run" / runs.MODEL_FILE,
        (tmp_path / "run" / runs.MODEL_FILE).read_bytes(),
    )
    theirs = (tmp_path / "other" / runs.MODEL_FILE).read_bytes()
    model.write_bytes(theirs)
    words = r"the model of another run: it has .*eps=0.1, seed=1, not .*eps=0.15, seed=0"
    with pytest.raises(JeatError, match=words) as caught:
        run(tmp_path / "run", "at")
    assert model.read_bytes() == theirs
    assert "move it away" in (caught.value.hint or "")
    model.unlink()
    run(tmp_path / "run", "at")
    assert model.read_bytes() == own


def test_a_state_of_another_run_is_not_resumed(tmp_path: Path) -> None:
    for name, seed in (("run", 0), ("other", 1)):
        with pytest.raises(Interrupted):
            train(config(seed=seed), tmp_path / name, should_stop=StopAfter(3))
    state = tmp_path / "run" / runs.STATE_FILE
    state.write_bytes((tmp_path / "other" / runs.STATE_FILE).read_bytes())
    with pytest.raises(JeatError, match="the state of another run: it has seed=1, not seed=0"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("stop", "change"),
    [
        (True, {"lr": 0.5}),
        (True, {"epochs": 9}),
        (True, {"augment": "crop"}),
        (True, {"schedule": "multi-step", "milestones": (0.1, 0.2)}),
        (False, {"epochs": 9}),
    ],
)
def test_settings_changed_in_the_run_are_refused(
    stop: bool, change: dict[str, Any], tmp_path: Path
) -> None:
    """A run that is half of each would be recorded as if all of it had the new ones."""
    folder = tmp_path / "run"
    with pytest.raises(Interrupted) if stop else nullcontext():
        train(config(), folder, should_stop=StopAfter(3 if stop else 10**6))
    own = (folder / runs.CONFIG_FILE).read_text(encoding="utf-8")
    changed = replace(read_config(folder / runs.CONFIG_FILE), **change)
    (folder / runs.CONFIG_FILE).write_text(to_toml(changed), encoding="utf-8")
    before = everything(tmp_path)
    with pytest.raises(JeatError, match="the state of another run: it has ") as caught:
        train(changed, folder)
    assert all(f"{name}=" in str(caught.value) for name in change)
    assert "put these back into `config.toml`" in (caught.value.hint or "")
    assert everything(tmp_path) == before
    (folder / runs.CONFIG_FILE).write_text(own, encoding="utf-8")
    assert train(config(), folder).epochs == config().epochs


def test_what_only_watches_a_run_may_change(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", should_stop=StopAfter(3))
    assert train(config(save_every=7, retries=1), tmp_path / "run").epochs == config().epochs


@pytest.mark.parametrize(
    ("gone", "hint"),
    [
        ([], "mv .*/state-before.safetensors .*/state.safetensors"),
        (["state-before.safetensors"], "-o NAME` from its weights with `--init-from "),
        (
            ["state-before.safetensors", "model.safetensors"],
            "copy `state.safetensors` back, or start",
        ),
    ],
)
def test_a_run_without_its_state_is_not_begun_anew(
    gone: list[str], hint: str, tmp_path: Path
) -> None:
    """It would write over its weights, and its log would have every epoch twice."""
    unfinished = config(val_split=20, eval_every=1)  # the best epoch so far is saved at once
    with pytest.raises(Interrupted):
        train(unfinished, tmp_path / "run", should_stop=(tmp_path / "run" / runs.MODEL_FILE).exists)
    for name in ["state.safetensors", *gone]:
        (tmp_path / "run" / name).unlink()
    before = everything(tmp_path)
    with pytest.raises(JeatError, match=r"cannot be resumed: it has .*metrics.jsonl") as caught:
        train(unfinished, tmp_path / "run")
    assert re.search(hint, caught.value.hint or "")
    assert everything(tmp_path) == before
    train(unfinished, tmp_path / "run", force=True)
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 2]


def test_a_run_whose_lock_cannot_be_made_names_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that may only be read."""
    run(tmp_path / "run")
    opened = Path.open

    def read_only(path: Path, mode: str = "r", **more: Any) -> Any:
        if path.name == ".lock":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, mode, **more)

    monkeypatch.setattr(Path, "open", read_only)
    before = everything(tmp_path)
    with pytest.raises(JeatError) as caught:
        train(config(), tmp_path / "run", force=True)
    assert everything(tmp_path) == before
    assert caught.value.message.endswith(".lock`: Read-only file system")
    assert caught.value.hint == "name another place"


def test_a_run_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images are not read, nor speeds measured; one that is done is still told to be."""
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "begun", should_stop=StopAfter(3))
    run(tmp_path / "done")
    monkeypatch.setattr(os, "access", lambda *asked: False)
    monkeypatch.setattr(setup, "build", None)
    for force in (False, True):
        with pytest.raises(JeatError, match=r"config.toml`: no permission in `.*begun`"):
            train(config(), tmp_path / "begun", force=force)
    assert run(tmp_path / "done").already_done
