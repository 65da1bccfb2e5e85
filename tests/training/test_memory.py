"""A batch that does not fit is told with one that does; `--profile` tells where time goes."""

from __future__ import annotations

import json
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import STANDARD, here, refused
from helpers.training import config

from jeatcli.cli.failures import translate
from jeatcli.core.models.classifier import Classifier
from jeatcli.errors import JeatError, no_memory
from jeatcli.methods.standard import Standard
from jeatcli.training import memory, setup
from jeatcli.training.optimizers import optimizer_tensors
from jeatcli.training.train import train


def room_for(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a loss of more than `most` images run out of memory; return the sizes tried."""
    loss, tried = Standard.loss, []

    def scarce(self: Any, model: Any, x: torch.Tensor, *rest: Any) -> Any:
        tried.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return loss(self, model, x, *rest)

    monkeypatch.setattr(Standard, "loss", scarce)
    return tried


def test_not_even_one_image_may_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(0, monkeypatch)
    with pytest.raises(JeatError, match=r"batches of 1 image\n.*not even one image fits"):
        train(config(batch_size=1), tmp_path / "run")


@pytest.mark.parametrize(("most", "told"), [(20, 20), (31, 30), (16, 16), (1, 1)])
def test_the_largest_batch_that_fits_is_named(
    most: int, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = room_for(most, monkeypatch)
    with pytest.raises(JeatError, match="out of memory with batches of 32 images") as caught:
        train(config(), tmp_path / "run")
    assert f"`--batch-size {told}`" in (caught.value.hint or "")
    assert len(tried) <= 9
    monkeypatch.undo()
    assert train(config(batch_size=told, max_steps=2), tmp_path / "smaller").images == 2 * told


def test_the_probe_has_what_the_failed_step_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves room for what the optimiser keeps, which its first step makes."""
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    loss = Standard.loss

    def scarce(self: Any, model: Any, x: torch.Tensor, *rest: Any) -> Any:
        if not held:
            held.append(weakref.ref(x))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        alive.append(held[0]() is not None)
        return loss(self, model, x, *rest)

    monkeypatch.setattr(Standard, "loss", scarce)
    with pytest.raises(JeatError, match="out of memory") as caught:
        train(config(), tmp_path / "run")
    assert alive
    assert not any(alive)
    assert caught.value.__context__ is None


def test_of_several_processes_each_tries_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = setup.build(config(), tmp_path / "run", torch.device("cpu")).trainer
    trainer.loader.parts = 2
    tried = room_for(10, monkeypatch)
    assert memory.largest_batch(trainer) == 20
    assert max(tried) < 16
    assert any(True for _ in optimizer_tensors(trainer.optimizer))


def test_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        room_for(3, monkeypatch)
        with pytest.raises(JeatError):
            train(config(), tmp_path / "run")
    assert train(config(), tmp_path / "run").epochs == 2


def test_no_size_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(0, monkeypatch)
    refused(here(*STANDARD, "-o", "run"), 1, "out of memory", "not even one image fits")


def test_other_errors_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Standard, "loss", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        train(config(), tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_all_that_torch_says_where_there_is_no_memory(text: str) -> None:
    assert no_memory(RuntimeError(text))
    assert not no_memory(ValueError(text))
    assert "out of memory" in translate(RuntimeError(text)).message


def test_what_watches_a_run_takes_no_larger_batches_than_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation and the grids would run out of memory where the training does not."""
    seen: list[int] = []
    forward = Classifier.forward

    def watched(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Classifier, "forward", watched)
    settings = config(batch_size=16, val_split=40, eval_every=1, sample_every=1, epochs=1)
    train(settings, tmp_path / "run")
    assert (tmp_path / "run" / "samples" / "epoch-001.png").exists()
    assert max(seen) == 16


def test_profile_tells_where_the_time_goes(tmp_path: Path) -> None:
    short = ("train", "--method", "jeat", "--dataset", "digits", "--limit", 64, "--batch-size", 8)
    more = ("--max-steps", 9, "--eval-every", 0, "--sample-every", 0, "--buffer-size", 50)
    said = here(*short, *more, "--profile", "-o", tmp_path / "run")
    assert said.exit_code == 0, said.stderr
    assert "where the time goes, 5 steps (cpu):" in said.stderr
    # Name, own share, own time, share, time, ...; names of operations may have spaces in them.
    rows = re.findall(r"^ *(\S.*?)  +[\d.]+% +\S+ +([\d.]+)%", said.stderr, re.MULTILINE)
    share = {name: float(number) for name, number in rows}
    assert share["attack"] + share["chain"] < share["loss"] <= 100.5
    assert share["chain"] > 5
    assert any("convolution" in name for name in share)
    trace = json.loads((tmp_path / "run" / "profile.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"attack", "chain", "aten::convolution"} <= names


@pytest.mark.parametrize(("steps", "words"), [(1, "1 step"), (3, "3 steps")])
def test_a_run_too_short_to_profile_says_so(steps: int, words: str, tmp_path: Path) -> None:
    said = here(*STANDARD, "--max-steps", steps, "--profile", "-o", tmp_path / "run")
    assert said.exit_code == 0
    assert f"a run of {words} is too short" in said.stderr
    assert not (tmp_path / "run" / "profile.json").exists()
