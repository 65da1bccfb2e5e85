"""Runs and checkpoints that are none, in every way, are told with the fix and left alone."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.cli import (
    STANDARD,
    here,
    refused,
    untouched,
)
from helpers.runs import Trained

LATEST = "digits-jeat-small"


def rewritten(model: bytes, **changes: object) -> bytes:
    """Return the bytes of a checkpoint with other entries in its header."""
    (length,) = struct.unpack("<Q", model[:8])
    header = json.loads(model[8 : 8 + length])
    meta = json.loads(header["__metadata__"]["jeat"]) | {"digest": None} | changes
    raw = json.dumps(header | {"__metadata__": {"jeat": json.dumps(meta)}}).encode()
    return struct.pack("<Q", len(raw)) + raw + model[8 + length :]


@pytest.fixture(scope="module")
def broken(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with everything that is not quite a run."""
    folder = tmp_path_factory.mktemp("broken")
    run = trained.runs / "standard"
    model = (run / "model.safetensors").read_bytes()
    for name in ("empty", "half", "state-only", "no-run", "cut", "begun", "newer"):
        (folder / name).mkdir()
    shutil.copy(run / "config.toml", folder / "half")
    shutil.copy(run / "state.safetensors", folder / "state-only")
    (folder / "no-run" / "thesis.tex").write_text("precious")
    (folder / "cut" / "model.safetensors").write_bytes(model[:-1])
    (folder / "begun" / "model.safetensors").write_bytes(model[:8])
    newer = rewritten(model, schema=99, version="9.1")
    (folder / "newer" / "model.safetensors").write_bytes(newer)
    (folder / "words.txt").write_text("a checkpoint, honestly\n" * 10)
    (folder / "web.pt").write_text("<html>")
    return folder


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("empty", "empty` holds no `model.safetensors` (empty)", "name the directory of a run"),
        ("half", "(training has not saved a model there yet)", "train it further with `jeat train"),
        ("state-only", "(it is not a run)", "name the directory of a run"),
        ("no-run", "(it is not a run)", "name the directory of a run"),
        ("state-only/state.safetensors", "is the state of a training run", "`model.safetensors`"),
        ("cut", "model.safetensors` is cut short at", "copy the file again"),
        ("begun", "model.safetensors` is cut short at 8 bytes", "copy the file again"),
        ("newer", "has schema 99, written by jeat 9.1", "upgrade: `pip install -U jeat-cli`"),
        ("words.txt", "words.txt` is not a jeat checkpoint", "name a run directory"),
        ("web.pt", "web.pt` is a web page", "download it again"),
        ("nowhere", "there is no run or checkpoint at `", "known: "),
        ("no/where", "there is no run or checkpoint at `", "jeat train"),
        ("digits-jeta-small", "digits-jeta-small`", "did you mean the run `digits-jeat-small`?"),
    ],
)
@pytest.mark.parametrize("verb", ["attack", "sample", "landscape", "score", "judge"])
def test_what_is_no_run(
    home: Path, broken: Path, verb: str, name: str, error: str, hint: str
) -> None:
    if "did you mean" in hint:
        broken = home.parent
    before = {"judge": ["score", LATEST, "--features"]}.get(verb, [verb])
    after = ["--features", LATEST] if verb == "score" else []
    with untouched(broken), untouched(home):
        said = here(*before, broken / name, *after)
    refused(said, 1, "Error: ", error, "Hint: ", hint)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("standart", "standard"),
        ("digits-jaet", LATEST),
        ("small", LATEST),
        ("STANDARD", "standard"),
    ],
)
def test_a_misspelt_run(home: Path, name: str, meant: str) -> None:
    for verb in ("attack", "sample", "landscape", "score"):
        said = here(verb, name)
        refused(said, 1, f"there is no run `{name}` in `{home}`", f"did you mean `{meant}`?")


def test_what_else_a_run_is_taken_for(home: Path) -> None:
    refused(here("attack", "https://a.org/net.pt"), 1, "no run or checkpoint", "download the file")
    refused(here("attack", ""), 2, "the name of a run is empty")
    said = here("score", LATEST, "--features", "inceptoin")
    refused(said, 1, "no run `inceptoin`", "did you mean the features `inception`?")
    refused(here("train", "digits"), 2, "extra argument (digits): settings are options")


def test_no_finished_run(home: Path) -> None:
    """One that is under way is not passed over for the package's network."""
    for path in home.glob("*/model.safetensors"):
        path.write_bytes(rewritten(path.read_bytes(), finished=False))
    for verb in ("attack", "sample", "landscape"):
        refused(here(verb), 1, "there is no finished run", "jeat train --dataset digits")


def test_no_run_of_that_name() -> None:
    for verb in ("attack", "sample", "landscape"):
        refused(here(verb, "any"), 1, "there is no run `any`", "make one with `jeat train`")


def flip(path: Path) -> None:
    """Flip the last bit of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def without_the_one_before(run: Path) -> None:
    cut(run / "state.safetensors")
    (run / "state-before.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "code", "error", "hint"),
    [
        (lambda run: cut(run / "state.safetensors"), 1, "is cut short", "save before by `mv"),
        (
            lambda run: flip(run / "state.safetensors"),
            1,
            "contents have changed",
            "save before by `mv",
        ),
        (without_the_one_before, 1, "is cut short", "copy it again, or start over with `--force`"),
        (lambda run: (run / "config.toml").unlink(), 1, "has no `config.toml`", "`--force`"),
        (
            lambda run: (run / "config.toml").write_text("lr ="),
            2,
            "is not valid TOML",
            "correct it",
        ),
        (
            lambda run: (run / "config.toml").write_text("lrr = 1"),
            2,
            "unknown setting `lrr` in `",
            "did you mean `lr`?",
        ),
    ],
    ids=[
        "state cut short",
        "a bit of the state",
        "both states",
        "no settings",
        "bad TOML",
        "bad key",
    ],
)
def test_training_on_with_a_damaged_run(
    home: Path, damage: Callable[[Path], object], code: int, error: str, hint: str
) -> None:
    run = home / "standard"
    (run / "model.safetensors").unlink()
    damage(run)
    with untouched(home):
        refused(here(*STANDARD, "-o", "standard"), code, error, "Hint: ", hint)


def test_training_does_not_write_over_a_newer_or_foreign_model(home: Path) -> None:
    path = home / "standard" / "model.safetensors"
    for content, error in (
        (rewritten(path.read_bytes(), schema=99), "has schema 99"),
        (b"words " * 99, "is not a jeat checkpoint"),
    ):
        path.write_bytes(content)
        with untouched(home):
            refused(here(*STANDARD, "-o", "standard"), 1, error)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])
