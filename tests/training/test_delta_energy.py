"""E(x), E(x^) and their difference in the log, and the warning when it runs away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.compare_runs import lines, same
from helpers.runs import Listener
from helpers.training import config, run

from jeatcli.core import energy
from jeatcli.core.jeat import AdversarialExamples
from jeatcli.errors import Interrupted
from jeatcli.methods import METHODS
from jeatcli.training import callbacks, setup
from jeatcli.training.callbacks import DeltaEnergy, runs_away
from jeatcli.training.log import Log
from jeatcli.training.train import train
from jeatcli.training.trainer import Trainer

NAMES = {"energy_clean", "energy_attacked", "energy_delta"}


def trained(folder: Path, listener: Listener) -> tuple[DeltaEnergy, Trainer]:
    """Train one epoch; check what the callback has logged."""
    settings = config("at", epochs=1, arch="wrn-10-1", norm_layer="batch")
    trainer = setup.build(settings, folder, torch.device("cpu")).trainer
    callback = DeltaEnergy(Log(folder / "metrics.jsonl", listener), listener)
    trainer.fit([callback])
    assert isinstance(trainer.method, AdversarialExamples)
    assert trainer.method.latest is not None
    assert trainer.model.training
    x, moved = trainer.method.latest
    assert len(x) == 32
    assert 0 < (moved - x).abs().max() <= 0.15 + 1e-6
    net = trainer.model.eval()
    clean, attacked = (energy.marginal(net(images)).mean().item() for images in (x, moved))
    known = {"energy_clean": clean, "energy_attacked": attacked, "energy_delta": clean - attacked}
    assert callback.log.extra == pytest.approx(known)
    return callback, trainer


def test_the_energies_are_those_of_the_last_batch(tmp_path: Path) -> None:
    listener = Listener()
    trained(tmp_path, listener)
    assert not listener.said


def test_a_difference_that_runs_away_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "runs_away", lambda delta, earlier: earlier == [5, 6, 8])
    entries = [{"epoch": 1, "energy_delta": value} for value in (5, 6, 8)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
    listener = Listener()
    callback, trainer = trained(tmp_path, listener)
    (said,) = listener.said
    assert "after epoch 1, in the epochs before 6 (median)" in said
    callback.on_epoch(trainer)
    assert len(listener.said) == 1


def test_a_run_that_was_stopped_at_the_end_of_an_epoch_logs_them_too(tmp_path: Path) -> None:
    """In the evaluation: the run goes on there, without the step that made the images."""
    settings = config("at", eval_every=1)
    train(settings, tmp_path / "straight")
    asked = iter([False] * 11 + [True] * 9)
    with pytest.raises(Interrupted, match="at the end of epoch 1"):
        train(settings, tmp_path / "stopped", should_stop=lambda: next(asked))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize(
    ("delta", "earlier", "away"),
    [
        (-6.4, [-0.9, -2.1, -1.9, -3.7, -5.1], True),
        (-5.6, [-0.9, -2.1, -1.9, -3.7, -5.1], False),
        (1.25, [-0.001, 0.02, 0.14], True),
        (0.9, [-0.001, 0.02, 0.14], False),
        (100.0, [0.1, 0.2], False),
        (2.1, [-1.0, -1.0, -1.0], True),
    ],
)
def test_what_runs_away(delta: float, earlier: list[float], away: bool) -> None:
    assert runs_away(delta, earlier) == away


@pytest.mark.parametrize("method", METHODS)
def test_every_adversarial_run_logs_them(method: str, tmp_path: Path) -> None:
    run(tmp_path / "run", method)
    adversarial = issubclass(METHODS.load(method), AdversarialExamples)
    for line in lines(tmp_path / "run"):
        assert NAMES & line.keys() == (NAMES if adversarial else set())
