"""Images of no class, as which the negatives of DAT start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import done, here, refused
from helpers.compare_runs import same
from helpers.training import config
from PIL import Image

from jeatcli.data.images import unlabelled
from jeatcli.errors import Interrupted, JeatError, UsageProblem
from jeatcli.training import setup
from jeatcli.training.train import train


def pictures(folder: Path, shade: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(5):
        pixels = np.full((8, 8), 40 * k + shade, np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


def test_a_run_takes_its_outliers_and_resumes(tmp_path: Path) -> None:
    options = {"ood": f"folder:{pictures(tmp_path / 'photos')}", "grow_at": 0.0, "grow_over": 1}
    settings = config("dat", options=options)
    method = setup.build(settings, tmp_path, torch.device("cpu")).trainer.method
    assert sorted(method.outliers[:, 0, 0, 0].tolist()) == [0, 40, 80, 120, 160]
    train(settings, tmp_path / "straight")
    asked = iter([False] * 9 + [True] * 99)
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=lambda: next(asked))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")
    without = config("dat", options=options | {"ood": ""})
    train(without, tmp_path / "without")
    with pytest.raises(AssertionError):
        same(tmp_path / "straight", tmp_path / "without")


def test_a_run_goes_on_with_its_own_outliers_alone(tmp_path: Path) -> None:
    settings = config("dat", options={"ood": f"folder:{pictures(tmp_path / 'photos')}"})
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "run", should_stop=lambda: True)
    pictures(tmp_path / "photos", 1)
    with pytest.raises(JeatError, match="are not those"):
        train(settings, tmp_path / "run")


def test_outliers_are_a_data_set_pictures_or_an_archive(tmp_path: Path) -> None:
    shape = (1, 8, 8)
    assert len(unlabelled("digits", shape)) == 1400
    np.savez(tmp_path / "more.npz", image=np.zeros((3, 8, 8, 1), np.uint8))
    assert len(unlabelled(f"npz:{tmp_path / 'more.npz'}", shape)) == 3
    for name in ("a", "b"):
        pictures(tmp_path / "classes" / "train" / name)
        pictures(tmp_path / "classes" / "test" / name)
    assert len(unlabelled(f"folder:{tmp_path / 'classes'}", shape)) == 10
    with pytest.raises(UsageProblem, match="1x8x8, not 3x32x32"):
        unlabelled("digits", (3, 32, 32))


def test_ood_is_a_flag_of_dat_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos")
    given = ("train", "--dataset", "digits", "--ood", "folder:photos", "--dry-run")
    assert f'ood = "folder:{tmp_path / "photos"}"' in done(*given, "--method", "dat")
    refused(here(*given, "--method", "at"), 2, "method `at` has no option `ood`", "has it: `dat`")


def test_the_training_images_are_no_outliers(tmp_path: Path) -> None:
    settings = config("dat", options={"ood": "digits"})
    with pytest.raises(UsageProblem, match="`ood` is `digits`"):
        train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
