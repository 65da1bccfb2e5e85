"""The package's own network: a RUN name, and what is taken where there is no run at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.cli import done, here, one

from jeatcli.checkpoints import runs
from jeatcli.checkpoints.checkpoint import load
from jeatcli.core.rng import ImageRng
from jeatcli.errors import JeatError
from jeatcli.runtime.progress import SILENT
from jeatcli.sampling.sample import sample

MEASURED = ("clean", "pgd-20", "autoattack", "frechet distance")


def test_the_file_is_small_and_says_what_it_is() -> None:
    assert runs.PRETRAINED.stat().st_size <= 8_000_000
    header = runs.read_header(runs.PRETRAINED)
    assert header["finished"]
    assert header["dataset"] == "cifar10"
    about = header["about"]
    assert about["licence"] == "MIT"
    assert about["first stage"].startswith("jeat train --method at ")
    assert about["second stage"].startswith("jeat train --method dat --init-from ")
    assert header["method"] == "dat"
    assert header["seed"] == about["seed"] == 0
    for name in MEASURED:
        assert any(key.startswith(name) and value > 0 for key, value in about.items())
    assert load("pretrained", device="cpu").meta.about == about


def test_it_loads_in_float32_with_statistics_to_start_from() -> None:
    model = load("pretrained", device="cpu")
    assert model.name == "pretrained"
    assert {weight.dtype for weight in model.classifier.parameters()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in model.classifier.state_dict().values())
    statistics = model.statistics
    assert statistics is not None
    assert statistics.factor.shape[:2] == (10, 30)
    # The variance of a class's pixels, which are at most 1/4, is that of directions and rest.
    drawn = statistics.draw(
        torch.full((200,), 5), torch.empty(200, 3, 32, 32), ImageRng(list(range(200)))
    )
    assert 0.02 < drawn.var(0).mean().item() < 0.1


def test_where_there_is_no_run_it_is_taken_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = here("sample", "--class", "dog", "-n", 2, "--steps", 1, "--device", "cpu")
    assert said.exit_code == 0, said.stderr
    told = "there is no run: using the package's network `pretrained` (dat on cifar10, wrn-16-4)"
    assert [line for line in said.stderr.splitlines() if "pretrained" in line] == [told]
    # Not into the package.
    assert Path(said.stdout.strip()) == tmp_path / "pretrained" / "samples" / "dog-seed0.png"
    named = here("sample", "pretrained", "--class", "dog", "-n", 2, "--steps", 1)
    assert "there is no run" not in named.stderr


def test_it_draws_along_the_way_of_its_negatives(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    drawn = one("sample", "pretrained", "-n", 1, "--steps", 1, "--device", "cpu", "-o", file)
    expected = {"sampler": "ascent", "objective": "joint", "init": "pca", "step_size": 0.5}
    assert {key: drawn["settings"][key] for key in expected} == expected


def test_its_dogs_are_dogs_to_itself() -> None:
    """At the default settings, but for fewer images."""
    model = load("pretrained", device="cpu")
    images = sample(model, num=4, classes=["dog"]).images
    assert model.classifier(images).softmax(1)[:, 5].mean() > 0.4


def test_a_run_goes_before_it(home: Path) -> None:
    assert runs.resolve().parent.parent == home
    assert runs.resolve("pretrained") == runs.PRETRAINED
    (home / "standard").rename(home / "pretrained")
    assert runs.resolve("pretrained") == home / "pretrained" / "model.safetensors"


def test_it_is_not_scored_by_itself() -> None:
    assert runs.resolve() == runs.PRETRAINED
    with pytest.raises(JeatError, match="there is no finished run"):
        runs.resolve(None, runs.PRETRAINED, SILENT)


def test_a_run_may_start_with_it() -> None:
    said = done("train", "--init-from", "pretrained", "--dry-run")
    for setting in ('init_from = "pretrained"', 'arch = "wrn-16-4"', 'activation = "silu"'):
        assert setting in said
