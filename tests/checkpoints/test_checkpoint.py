"""Round trips, and every kind of file that is not a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.training import run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from jeatcli.checkpoints import checkpoint, runs
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run."""
    return Path(run(tmp_path_factory.mktemp("runs") / "digits-at", "at").run)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def rewrite(path: Path, **changes: object) -> None:
    with safe_open(path, "pt") as handle:
        meta = json.loads(handle.metadata()["jeat"])
    save_file(load_file(path), path, {"jeat": json.dumps({**meta, "digest": None, **changes})})


def test_the_classifier_comes_back(trained: Path) -> None:
    model = checkpoint.load(trained)
    images = load_images("digits", "test")
    logits = model.classifier(images.x / 255)
    assert (logits.argmax(1) == images.y).float().mean() > 0.5
    assert not model.classifier.training
    assert model.meta.classes == images.classes
    assert model.meta.threat.eps == 0.15
    assert model.statistics.mean.shape == (10, 1, 8, 8)
    again = checkpoint.load(trained / runs.MODEL_FILE)
    assert torch.equal(again.classifier(images.x / 255), logits)
    assert again.name == model.name == "digits-at"


def test_every_file_of_a_run_may_be_read_by_whom_the_umask_lets(trained: Path) -> None:
    usual = trained.parent / "touched"
    usual.touch()
    files = [path for path in trained.rglob("*") if path.is_file()]
    assert {runs.MODEL_FILE, "config.toml"} <= {path.name for path in files}
    assert {path.stat().st_mode for path in files} == {usual.stat().st_mode}


def test_class_statistics_travel_with_the_weights(trained: Path) -> None:
    images = load_images("digits", "train").first(128)
    mean = checkpoint.load(trained).statistics.mean[3]
    known = (images.x[images.y == 3].float() / 255).mean(0)
    torch.testing.assert_close(mean, known, atol=1e-3, rtol=0)


def test_a_dot_is_the_directory_that_one_is_in(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    assert runs.resolve(".") == trained / runs.MODEL_FILE
    (trained / "below").mkdir()
    monkeypatch.chdir(trained / "below")
    assert runs.resolve("..").samefile(trained / runs.MODEL_FILE)
    (trained / "below").rmdir()


def test_the_latest_finished_run_is_meant_where_none_is_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JEAT_RUNS_DIR", str(trained.parent))
    assert checkpoint.load().path == trained / runs.MODEL_FILE
    assert checkpoint.load("digits-at").path == trained / runs.MODEL_FILE
    assert runs.names() == ["digits-at"]
    with pytest.raises(JeatError, match="there is no run `digits-ta`") as caught:
        checkpoint.load("digits-ta")
    assert "did you mean `digits-at`?" in (caught.value.hint or "")


def test_no_checkpoint_there(tmp_path: Path) -> None:
    with pytest.raises(JeatError, match="there is no run or checkpoint at"):
        checkpoint.load(tmp_path / "nowhere")


def test_an_empty_and_a_half_written_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JeatError, match=r"holds no `model\.safetensors` \(empty\)"):
        checkpoint.load(tmp_path / "empty")
    (folder / runs.MODEL_FILE).unlink()
    with pytest.raises(JeatError, match="has not saved a model there yet"):
        checkpoint.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
def test_a_truncated_file(folder: Path, share: float) -> None:
    path = folder / runs.MODEL_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(JeatError, match="is cut short"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["classifier.", "statistics.mean"])
def test_a_bit_that_flipped(name: str, folder: Path) -> None:
    """In the lowest of a number, which no check of values can notice."""
    path = folder / runs.MODEL_FILE
    content = bytearray(path.read_bytes())
    size = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:size])
    name = min(key for key in entries if key.startswith(name))
    content[size + entries[name]["data_offsets"][0]] ^= 1
    path.write_bytes(content)
    with pytest.raises(JeatError, match="have changed since it was written") as caught:
        checkpoint.load(folder)
    assert "resume the run with `jeat train`" in (caught.value.hint or "")


def test_a_digit_of_the_header_that_flipped(folder: Path) -> None:
    path = folder / runs.MODEL_FILE
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"std\\": [0.3', b'\\"std\\": [0.2'))
    assert path.read_bytes() != content
    with pytest.raises(JeatError, match="have changed since it was written"):
        checkpoint.load(folder)


def test_a_file_of_an_early_version_has_no_digest(folder: Path) -> None:
    rewrite(folder / runs.MODEL_FILE, digest=None)
    checkpoint.load(folder)


def test_a_newer_schema(folder: Path) -> None:
    rewrite(folder / runs.MODEL_FILE, schema=99, version="7.0")
    with pytest.raises(JeatError, match=r"schema 99, written by jeat 7\.0") as caught:
        checkpoint.load(folder)
    assert "upgrade" in (caught.value.hint or "")


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n" + bytes(1000))
    (tmp_path / "words.txt").write_text("a checkpoint, honestly\n" * 10)
    for name in ("picture.png", "words.txt"):
        with pytest.raises(JeatError, match="is not a jeat checkpoint"):
            checkpoint.load(tmp_path / name)


def test_weights_that_do_not_fit_their_header(folder: Path) -> None:
    rewrite(folder / runs.MODEL_FILE, arch="wrn-10-1")
    with pytest.raises(JeatError, match="does not fit its own header"):
        checkpoint.load(folder)


def test_a_header_that_lacks_a_key(folder: Path) -> None:
    path = folder / runs.MODEL_FILE
    save_file(load_file(path), path, {"jeat": json.dumps({"schema": 1})})
    with pytest.raises(JeatError, match="is missing"):
        checkpoint.load(folder)


@pytest.mark.parametrize("device", ["cuda:7", "cuda", "tpu", "gpu"])
def test_a_device_that_does_not_exist(trained: Path, device: str) -> None:
    if torch.cuda.is_available() and device == "cuda":
        pytest.skip("there is one")
    with pytest.raises(JeatError) as caught:
        checkpoint.load(trained, device=device)
    assert device in str(caught.value)
