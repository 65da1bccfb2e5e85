"""The saved state of a killed attack, damaged in any way, never changes a verdict."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import Listener, load_run
from safetensors import safe_open
from safetensors.torch import save_file
from test_attack_resume import Stopped, stop_after

from jeatcli.checkpoints.model import Model
from jeatcli.robustness import evaluate
from jeatcli.robustness.result import Robustness

SETTINGS: dict[str, Any] = {"attacks": ["fgsm", "pgd"], "num": 100, "batch_size": 1, "eps": 0.3}


@pytest.fixture
def model() -> Model:
    return load_run("model", gain=2.0)


@pytest.fixture
def killed(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Robustness]:
    """Return the directory of the state of an attack that was killed, and the whole result."""
    settings = SETTINGS | {"images_to": tmp_path / "images.safetensors"}
    whole = evaluate.attack(model, **settings)
    with monkeypatch.context() as patch:
        stop_after(patch, sum(whole.samples["correct"]) + 2)
        with pytest.raises(Stopped):
            evaluate.attack(model, **settings, progress=tmp_path)
    (folder,) = tmp_path.glob("attack-*")
    return folder, whole


def resumed(model: Model, folder: Path, whole: Robustness) -> list[str]:
    """Resume; check the verdicts, and return what was said."""
    listener = Listener()
    settings = SETTINGS | {"images_to": folder.parent / "images.safetensors"}
    result = evaluate.attack(model, **settings, progress=folder.parent, reporter=listener)
    assert result.samples == whole.samples
    assert result.robust == whole.robust
    assert not folder.exists()
    return listener.said


def test_a_state_of_version_0_1_0_is_resumed(model: Model, killed: tuple[Path, Robustness]) -> None:
    """It had no digest."""
    folder, whole = killed
    file = folder / "progress.json"
    record = json.loads(file.read_text())
    assert record.pop("digest")
    file.write_text(json.dumps(record))
    said = resumed(model, folder, whole)
    assert "resuming the attack where it was interrupted" in said


def changed(**values: Any) -> Callable[[Path], None]:
    """Change the state, without its digest, as a state of version 0.1.0 would have it."""

    def change(folder: Path) -> None:
        record = json.loads((folder / "progress.json").read_text())
        record.pop("digest")
        record["progress"] |= values
        (folder / "progress.json").write_text(json.dumps(record))

    return change


def verdict(folder: Path) -> None:
    """Change one verdict, and nothing of the digest."""
    record = json.loads((folder / "progress.json").read_text())
    broken_by = record["progress"]["broken_by"]
    broken_by[broken_by.index(0)] = -1
    (folder / "progress.json").write_text(json.dumps(record))


def cut(folder: Path) -> None:
    text = (folder / "progress.json").read_text()
    (folder / "progress.json").write_text(text[: len(text) // 2])


def empty(folder: Path) -> None:
    (folder / "progress.json").write_text("")


def brackets(folder: Path) -> None:
    (folder / "progress.json").write_text("[" * 100_000)


def no_text(folder: Path) -> None:
    (folder / "progress.json").write_bytes(b"\xff\xfe\x00")


def images_gone(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def images_cut(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])


def images_of_others(folder: Path) -> None:
    save_file({}, next(folder.glob("*.safetensors")))


def other_pixels(folder: Path) -> None:
    """Change an image of a batch, and nothing of its digest."""
    file = next(folder.glob("*.safetensors"))
    with safe_open(file, "pt") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        about = handle.metadata()
    tensors["images"] = torch.full_like(tensors["images"], torch.nan)
    save_file(tensors, file, about)


DAMAGES = {
    "other pixels": other_pixels,
    "cut": cut,
    "empty": empty,
    "brackets": brackets,
    "no text": no_text,
    "one verdict": verdict,
    "images gone": images_gone,
    "images cut": images_cut,
    "images of others": images_of_others,
    "finished 99": changed(finished=99),
    "finished -1": changed(finished=-1),
    "finished a text": changed(finished="1"),
    "done 10^30": changed(done=10**30),
    "done -1": changed(done=-1),
    "batch 0": changed(batch_size=0),
    "batch beyond int64": changed(batch_size=10**30),
    "parts": changed(parts=10**6),
    "no counts": changed(counts=[]),
    "counts of texts": changed(counts=[{"forward": "x"}, {}]),
    "seconds of NaN": changed(counts=[{"forward": 1, "backward": 1, "nan": 0, "seconds": 1e30}]),
    "fewer images": changed(correct=[True], broken_by=[-1]),
    "numbers for truths": changed(correct=[1] * 100),
    "broken by a later one": changed(broken_by=[7] * 100),
    "another key": changed(whatever=1),
    "bf16 a number": changed(bf16=3),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_state_is_told_and_not_used(
    damage: Callable[[Path], None], model: Model, killed: tuple[Path, Robustness]
) -> None:
    folder, whole = killed
    damage(folder)
    said = " ".join(resumed(model, folder, whole))
    assert "is damaged" in said
    assert "starting over" in said
    assert "resuming" not in said


def test_a_state_that_is_gone_is_begun_anew(model: Model, killed: tuple[Path, Robustness]) -> None:
    folder, whole = killed
    shutil.rmtree(folder)
    assert "resuming" not in " ".join(resumed(model, folder, whole))


def test_flipped_bits_change_no_verdict(model: Model, killed: tuple[Path, Robustness]) -> None:
    folder, whole = killed
    content = (folder / "progress.json").read_bytes()
    chance = random.Random(0)
    kept = folder.parent / "kept"
    shutil.copytree(folder, kept)
    for _ in range(12):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        place = chance.randrange(len(content))
        flipped = bytearray(content)
        flipped[place] ^= 1 << chance.randrange(8)
        (folder / "progress.json").write_bytes(bytes(flipped))
        resumed(model, folder, whole)
