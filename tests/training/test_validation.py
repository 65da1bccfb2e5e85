"""Robust overfitting: images held out of training, and the best state by them kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.compare_runs import lines, same
from helpers.runs import Listener
from helpers.training import StopAfter, config, run
from safetensors.torch import load_file

from jeatcli.checkpoints import runs
from jeatcli.checkpoints.checkpoint import load
from jeatcli.data.images import hold_out, load_images, to_unit_range
from jeatcli.errors import Interrupted, UsageProblem
from jeatcli.robustness import evaluator
from jeatcli.robustness.attacks.batch import AttackOptions
from jeatcli.training import setup
from jeatcli.training.resolve import resolve
from jeatcli.training.train import train


def test_the_split_is_disjoint_random_and_the_same_for_every_seed(tmp_path: Path) -> None:
    setups = [
        setup.build(config(val_split=97, limit=0, seed=s), tmp_path, torch.device("cpu"))
        for s in (0, 1)
    ]
    images = load_images("digits", "train")
    for ready in setups:
        assert (len(ready.trainer.loader.images), len(ready.evaluated)) == (1303, 97)
        both = torch.cat([ready.trainer.loader.images.x, ready.evaluated.x]).flatten(1)
        assert torch.equal(both.sum(0), images.x.flatten(1).sum(0))
    assert torch.equal(setups[0].evaluated.x, setups[1].evaluated.x)
    assert len(setups[0].evaluated.y.unique()) == 10
    places = (images.x.flatten(1) == setups[0].evaluated.x[0].flatten()).all(1).nonzero()
    assert int(places[0]) != 0


@pytest.mark.parametrize(("limit", "evaluated"), [(16, 32), (0, 397)])
def test_a_run_on_few_images_is_evaluated_on_few(
    tmp_path: Path, limit: int, evaluated: int
) -> None:
    ready = setup.build(config(limit=limit), tmp_path, torch.device("cpu"))
    assert torch.equal(ready.evaluated.x, load_images("digits", "test").x[:evaluated])


def test_images_of_the_split_are_not_among_the_first_ones_that_a_limit_keeps() -> None:
    rest, held = hold_out(load_images("digits", "train"), 200)
    seen = {image.numpy().tobytes() for image in held.x}
    assert not any(image.numpy().tobytes() in seen for image in rest.x)


def test_a_split_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="held out"):
        run(tmp_path / "run", val_split=1400)
    assert not (tmp_path / "run").exists()


def test_the_most_robust_weights_are_kept_beside_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Robust accuracy rises and falls, as it does when adversarial training overfits."""
    course = [0.2, 0.5, 0.5, 0.4]
    found = ({"clean": 0.9, "robust": robust} for robust in course)
    monkeypatch.setattr(evaluator, "worst_case", lambda *_, **__: next(found))
    run(tmp_path / "run", epochs=4, val_split=50, eval_every=1)
    assert [line["val_robust"] for line in lines(tmp_path / "run")] == [0.2, 0.5, 0.5, 0.4]
    assert [line["best_epoch"] for line in lines(tmp_path / "run")] == [1, 2, 2, 2]
    assert load(tmp_path / "run").meta.epoch == 4
    best = load(tmp_path / "run" / runs.BEST_FILE)
    assert best.meta.epoch == 2
    with torch.no_grad():
        images = to_unit_range(load_images("digits", "test").x[:10])
        assert not torch.equal(best.classifier(images), load(tmp_path / "run").classifier(images))


def test_what_the_log_says_is_what_the_kept_weights_reach(tmp_path: Path) -> None:
    settings = config("at", epochs=3, val_split=100, limit=0, eval_every=1)
    train(settings, tmp_path / "run")
    log = lines(tmp_path / "run")
    assert not any("test_robust" in line for line in log)
    line = max(log, key=lambda line: line["val_robust"])
    model = load(tmp_path / "run" / runs.BEST_FILE)
    assert model.meta.epoch == line["epoch"]
    _, held = hold_out(load_images("digits", "train"), 100)
    options = AttackOptions(model.meta.threat, steps=10)
    found = evaluator.worst_case(model.classifier, held, ["pgd"], options)
    assert found["robust"] == line["val_robust"]
    assert found["clean"] == line["val_clean"]


def test_the_best_so_far_survives_a_stop(tmp_path: Path) -> None:
    settings = config("at", epochs=4, val_split=40, eval_every=1)
    train(settings, tmp_path / "straight")
    for stop in (6, 3):
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "stopped", should_stop=StopAfter(stop))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")
    left = load_file(tmp_path / "straight" / runs.BEST_FILE)
    assert left.keys() == load_file(tmp_path / "stopped" / runs.BEST_FILE).keys()


def test_without_a_split_nothing_is_chosen_by_the_test_images(tmp_path: Path) -> None:
    run(tmp_path / "run", eval_every=1)
    assert "test_robust" in lines(tmp_path / "run")[-1]
    assert not (tmp_path / "run" / runs.BEST_FILE).exists()


def test_a_split_that_nothing_is_judged_by_is_warned_of(tmp_path: Path) -> None:
    listener = Listener()
    train(config(val_split=100, max_steps=1), tmp_path / "run", reporter=listener)
    assert any("100 training images held out, but never used" in each for each in listener.said)


def test_the_split_is_a_thousand_where_the_set_is_large() -> None:
    splits = {name: resolve({"dataset": name}).val_split for name in ("cifar10", "mnist", "digits")}
    assert splits == {"cifar10": 1000, "mnist": 1000, "digits": 0}
