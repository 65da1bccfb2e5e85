"""What is written of each epoch: `metrics.csv`, `curves.png`, and the services of `--track`."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from helpers.cli import QUICK, done, here, refused, stopped_after
from helpers.training import config, run
from PIL import Image
from safetensors.torch import load_file

from jeatcli.errors import JeatError
from jeatcli.plots import curves
from jeatcli.runtime.files import append
from jeatcli.training import trackers
from jeatcli.training.settings import TRACKERS, Tracker
from jeatcli.training.train import train

TOLD: list[Any] = []


@contextmanager
def listening(run: trackers.Tracked) -> Iterator[trackers.Sink]:
    TOLD.append(run)
    print("a service that prints on stdout")
    yield lambda lines: TOLD.append(lines[-1]["step"])
    TOLD.append("closed")


@contextmanager
def broken(run: trackers.Tracked) -> Iterator[trackers.Sink]:
    def fail(lines: Sequence[Any]) -> None:
        TOLD.append(len(lines))
        raise ConnectionError("the service is gone")

    yield fail


@contextmanager
def closed(run: trackers.Tracked) -> Iterator[trackers.Sink]:
    raise ValueError("no key")
    yield print


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    """Three services from outside the package."""
    TOLD.clear()
    for name in ("listening", "broken", "closed"):
        TRACKERS.add(name, Tracker(name, f"{__name__}:{name}", "json"))
    yield
    for name in ("listening", "broken", "closed"):
        TRACKERS.remove(name)


def weights(folder: Path) -> dict[str, Any]:
    return {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}


def test_a_resumed_run_has_the_same_identity_and_goes_on_where_it_stopped():
    quick = ("--epochs", 3, "-o", "followed", "--track", "listening")
    train = ("train", "--method", "standard", *QUICK, *quick)
    with stopped_after(6):
        assert here(*train).exit_code == 130
    assert done(*train, "--json").startswith("{")
    first, *before, end, second, third, fourth, again = TOLD
    assert (before, end) == ([4], "closed")
    assert (third, fourth, again) == (8, 12, "closed")
    assert first.identity == second.identity
    assert (first.step, second.step) == (0, 6)
    assert second.settings()["method"] == "standard"


def test_a_service_that_fails_is_left_out_and_changes_nothing(tmp_path, recwarn):
    warned: list[str] = []
    terminal = SimpleNamespace(**vars(trackers.SILENT), warn=warned.append)
    for name in ("track", "say", "detail"):
        setattr(terminal, name, getattr(trackers.SILENT, name))
    train(config(track=["broken"], epochs=3), tmp_path / "a", reporter=terminal)
    run(tmp_path / "b", epochs=3)
    assert TOLD == [1]
    assert warned == ["`broken` is not kept up any more: the service is gone"]
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_curves_that_cannot_be_drawn_end_no_training(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no fonts")

    monkeypatch.setattr(curves, "draw", fail)
    said = here("train", "--method", "standard", *QUICK, "--epochs", 3, "-o", tmp_path / "a")
    assert said.exit_code == 0
    assert said.stderr.count("Warning: `curves.png` is not kept up any more: no fonts") == 1
    assert not (tmp_path / "a" / "curves.png").exists()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("wandbb", 2, "did you mean `wandb`?"),
        ("absent", 1, "needs the package `jeat_absent`, which is not installed"),
        ("closed", 1, "`--track closed` does not start: no key"),
    ],
)
def test_a_service_that_is_not_there_is_an_error_before_the_training(name, code, words, tmp_path):
    TRACKERS.add("absent", Tracker("Absent", "jeat_absent:track", "jeat_absent"))
    try:
        folder = tmp_path / "never"
        refused(here("train", *QUICK, "--track", name, "-o", folder), code, words)
        assert not (folder / "metrics.jsonl").exists()
    finally:
        TRACKERS.remove("absent")


def test_a_directory_of_the_services_name_is_not_the_service(tmp_path, monkeypatch):
    (tmp_path / "jeat_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    TRACKERS.add("folder", Tracker("Folder", "jeat_folder:track", "jeat_folder"))
    try:
        with pytest.raises(Exception, match="is not installed"):
            trackers.check_trackers(["folder"])
    finally:
        TRACKERS.remove("folder")


def test_the_table_has_a_row_for_each_line_of_the_log(tmp_path):
    folder = tmp_path / "a"
    run(folder, "jeat", epochs=3, eval_every=2)
    with (folder / "metrics.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    read = [{key: float(value) for key, value in row.items() if value} for row in rows]
    assert read == lines
    assert "test_robust" in rows[0]
    with Image.open(folder / "curves.png") as picture:
        assert json.loads(picture.info["jeat"]) == {"epochs": 3}
    assert not [*folder.glob(".*.tmp")]


def followed(folder: Path, lines: list[dict[str, float]], sink: trackers.Sink) -> tuple[int, str]:
    """Return which file the table is after it was told of these epochs, and what it holds."""
    sink(lines)
    table = folder / trackers.TABLE
    return table.stat().st_ino, table.read_text("utf-8")


def test_a_row_is_added_and_the_table_rewritten_only_if_that_does_not_do(tmp_path):
    lines = [{"epoch": epoch, "loss": 0.5} for epoch in range(1, 4)]
    tell = partial(followed, tmp_path)
    with trackers.table(trackers.Tracked(tmp_path, "", 0, 9, config())) as sink:
        first, _ = tell(lines[:1], sink)
        again, text = tell(lines[:2], sink)
        assert (again, text) == (first, "epoch,loss\n1,0.5\n2,0.5\n")
        lines[2] = {"epoch": 3, "test_robust": 0.25}
        wider, text = tell(lines, sink)
        assert text == "epoch,loss,test_robust\n1,0.5,\n2,0.5,\n3,,0.25\n"
        lines.append({"epoch": 4, "loss": 0.125})
        longer, text = tell(lines, sink)
        assert (longer, text.splitlines()[-1]) == (wider, "4,0.125,")
        assert wider != first
        # Rolled back: epoch 2 comes again.
        assert tell([lines[0], {"epoch": 2, "loss": 9.0}], sink)[1] == "epoch,loss\n1,0.5\n2,9.0\n"
    # A kill may leave a part of a row; the resumed run does not go on behind it.
    (tmp_path / trackers.TABLE).write_text("epoch,loss\n1,0.5\n2,9", "utf-8")
    with trackers.table(trackers.Tracked(tmp_path, "", 0, 9, config())) as sink:
        assert tell(lines[:2], sink)[1] == "epoch,loss\n1,0.5\n2,0.5\n"


def test_a_row_that_does_not_fit_on_the_disk_is_none(tmp_path, monkeypatch):
    lines = [{"epoch": epoch, "loss": 0.25} for epoch in (1, 2)]

    def full(path: Path, text: str) -> None:
        append(path, text[:4])
        raise JeatError("no space left on the disk")

    with trackers.table(trackers.Tracked(tmp_path, "", 0, 9, config())) as sink:
        _, text = followed(tmp_path, lines[:1], sink)
        monkeypatch.setattr(trackers, "append", full)
        with pytest.raises(JeatError, match="no space"):
            sink(lines)
    assert (tmp_path / trackers.TABLE).read_text("utf-8") == text


def test_a_run_killed_at_its_end_has_curves_once_it_is_finished(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    folder = tmp_path / "a"
    with monkeypatch.context() as patched:
        patched.setattr(curves, "draw", kill)
        with pytest.raises(Killed):
            run(folder, epochs=3)
    assert not (folder / "curves.png").exists()
    assert not run(folder, epochs=3).already_done
    assert (folder / "curves.png").exists()


def test_curves_are_drawn_no_more_often_than_they_cost(tmp_path, monkeypatch):
    drawn: list[int] = []
    seconds = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr(trackers, "time", clock)
    monkeypatch.setattr(curves, "draw", lambda lines, *_: drawn.append(len(lines)))
    following = trackers.curves(trackers.Tracked(tmp_path, "", 0, 1000, config()))
    with following as sink:
        for epoch in range(200):
            sink([{"step": epoch}] * (epoch + 1))
    # Every look at the clock takes a second here, and a drawing two, the fiftieth of a hundred.
    assert drawn == [27, 126, 200]


def fake(name: str, monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    module = ModuleType(name)
    vars(module).update(functions, __spec__=ModuleSpec(name, None, origin=name))
    monkeypatch.setitem(sys.modules, name, module)


def test_wandb_is_told_which_run_it_is(tmp_path, monkeypatch):
    calls: list[Any] = []

    class Run:
        def __enter__(self) -> Run:
            return self

        def __exit__(self, *_: object) -> None:
            calls.append("finished")

        def define_metric(self, *given: Any, **named: Any) -> None:
            calls.append((given, named))

        def log(self, figures: dict[str, float]) -> None:
            calls.append(figures["step"])

    def init(**about: Any) -> Run:
        calls.append(about)
        return Run()

    fake("wandb", monkeypatch, init=init, Settings=dict)
    run(tmp_path / "a", track=["wandb"])
    identity = json.loads((tmp_path / "a" / "tracking.json").read_text())["wandb"]
    about = calls[0]
    assert (about["id"], about["name"], about["resume"]) == (identity, "a", "allow")
    assert about["config"]["lr"] > 0
    assert calls[1:] == [(("*",), {"step_metric": "step"}), 4, 8, "finished"]


def test_trackio_is_told_which_run_it_is(tmp_path, monkeypatch):
    calls: list[Any] = []
    fake(
        "trackio",
        monkeypatch,
        init=lambda **about: calls.append(about),
        log=lambda figures, step: calls.append(step),
        finish=lambda: calls.append("finished"),
    )
    run(tmp_path / "a", track=["trackio"])
    identity = json.loads((tmp_path / "a" / "tracking.json").read_text())["trackio"]
    assert (calls[0]["name"], calls[0]["resume"]) == (f"a-{identity}", "allow")
    assert calls[1:] == [4, 8, "finished"]


def test_event_files_can_be_read_back(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "a"
    run(folder, track=["tensorboard"], epochs=3)
    events = reading.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (line["step"], pytest.approx(line["loss"])) for line in lines
    ]


def test_trackio_keeps_one_run_for_real(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("trackio")
    sqlite3 = pytest.importorskip("sqlite3")
    run(tmp_path / "a", track=["trackio"])
    kept = sqlite3.connect(tmp_path / "trackio" / "jeat.db")
    assert kept.execute("select step from metrics order by step").fetchall() == [(4,), (8,)]


@pytest.mark.parametrize("text", ["track = ['listening']", 'track = "listening"'])
def test_the_service_of_a_settings_file(text, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    out = done("train", "-c", file, *QUICK, "--method", "standard", "--dry-run")
    assert "track = ['listening']" in out
