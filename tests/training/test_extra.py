"""Training on generated images beside those of the data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.compare_runs import same
from helpers.runs import Listener
from helpers.training import config, run

from jeatcli.checkpoints.header import read_header
from jeatcli.errors import Interrupted, JeatError, UsageProblem
from jeatcli.training import setup
from jeatcli.training.resolve import read_config, resolve
from jeatcli.training.train import train


def archive(path: Path, **arrays: Any) -> Path:
    pixels = np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8, 1)
    np.savez(path, **{"image": pixels, "label": np.arange(40) % 10, **arrays})
    return path


def test_a_run_has_its_share_of_extra_images_and_resumes(tmp_path: Path) -> None:
    file = archive(tmp_path / "more.npz")
    settings = config("at", extra=str(file))
    assert settings.extra_share == 0.7
    loader = setup.build(settings, tmp_path, torch.device("cpu")).trainer.loader
    assert loader.extra is not None
    assert np.array_equal(loader.extra.x[:, 0].numpy(), np.load(file)["image"][..., 0])
    assert loader.from_extra.sum() == 22  # of 32
    train(settings, tmp_path / "straight")
    asked = iter([False] * 4 + [True] * 9)
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=lambda: next(asked))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")
    said = read_header(tmp_path / "straight" / "model.safetensors")["extra"]
    assert said == {"file": "more.npz", "images": 40, "share": 0.7, "digest": loader.extra.digest}
    run(tmp_path / "without", "at")
    with pytest.raises(AssertionError):
        same(tmp_path / "straight", tmp_path / "without")


def test_a_run_goes_on_with_its_own_extra_images_alone(tmp_path: Path) -> None:
    settings = config(extra=str(archive(tmp_path / "more.npz")))
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "run", should_stop=lambda: True)
    archive(tmp_path / "more.npz", label=np.zeros(40, np.int64))
    with pytest.raises(JeatError, match=r"images of `digits` or `.*more.npz` are not those"):
        train(settings, tmp_path / "run")
    (tmp_path / "more.npz").unlink()
    with pytest.raises(JeatError, match=r"more.npz`: there is no such file"):
        train(settings, tmp_path / "run")


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"label": np.zeros(39, np.int64)}, "the shape 39 for 40 images"),
        ({"label": np.zeros(40)}, "float64"),
        ({"label": np.full(40, 10)}, "from 10 to 10, but there are 10 classes"),
        ({"image": np.zeros((40, 1, 8, 8), np.uint8)}, "holds uint8"),
        ({"image": np.zeros((0, 8, 8, 1), np.uint8), "label": np.zeros(0, int)}, "no images"),
    ],
)
def test_other_images_are_refused(tmp_path: Path, arrays: dict[str, Any], what: str) -> None:
    file = archive(tmp_path / "more.npz", **arrays)
    with pytest.raises(JeatError, match=what):
        run(tmp_path / "run", extra=str(file))
    assert not (tmp_path / "run").exists()


def test_images_of_jeat_sample_are_read_too(tmp_path: Path) -> None:
    pixels = np.zeros((5, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "drawn.npz", arr_0=pixels, arr_1=np.arange(5))
    run(tmp_path / "run", epochs=1, extra=str(tmp_path / "drawn.npz"), extra_share=0.5)


def test_the_file_and_the_share_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in ({"extra_share": 0.5}, {"extra": "more.npz", "extra_share": 0}):
        with pytest.raises(UsageProblem, match="go together"):
            resolve({"dataset": "digits", **given})
    monkeypatch.chdir(tmp_path)
    assert resolve({"extra": "more.npz"}).extra == str(tmp_path / "more.npz")
    text = 'method = "at"\ndataset = "digits"\nextra = ""\nextra_share = 0.0\n'
    (tmp_path / "old.toml").write_text(text)
    known = {"method": "at", "dataset": "digits", "kernel": "library"}  # as of runs without one
    assert read_config(tmp_path / "old.toml") == resolve(known)


def test_a_share_without_one_image_of_a_batch_is_refused(tmp_path: Path) -> None:
    """The file would be read, and named in the model, and never be trained on."""
    settings: dict[str, Any] = {"extra": str(archive(tmp_path / "more.npz")), "epochs": 1}
    with pytest.raises(UsageProblem, match=r"0\.01 is less than an image of a batch of 32"):
        run(tmp_path / "run", extra_share=0.01, **settings)
    assert not (tmp_path / "run").exists()
    listener = Listener()
    train(config(extra_share=0.02, **settings), tmp_path / "run", reporter=listener)
    said = f"128 training images, 0.02 of a batch from `{settings['extra']}`, not augmented"
    assert said in listener.said
