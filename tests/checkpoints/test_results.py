"""`results.json`: what the commands found of a run, beside its model."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import LATEST, done, here, one

from jeatcli.checkpoints import results as store
from jeatcli.checkpoints.checkpoint import load, save_model
from jeatcli.checkpoints.header import read_header
from jeatcli.checkpoints.listing import list_runs
from jeatcli.checkpoints.results import add_results, is_of_run, read_results
from jeatcli.cli import output
from jeatcli.errors import JeatError

ATTACK = ("attack", "-n", 20, "--attack", "fgsm")
MEASURED = [
    ATTACK,
    ("sample", "-n", 4, "--steps", 1),
    ("landscape", "--grid", 5),
    ("score", "--calibration", "-n", 20),
    ("score", "--features", "standard", "-n", 20),
]


@pytest.fixture
def model(home: Path) -> Path:
    return home / LATEST / "model.safetensors"


def test_the_same_command_replaces_its_results_and_another_adds_to_them(model):
    for command, found in (("a", 0.1), ("b", 0.2), ("a", 0.3)):
        add_results(model, "attack", [{"robust": found}, {"robust": found / 2}], command)
    kept = read_results(model.parent)["attack"]
    assert [(item["command"], item["robust"]) for item in kept] == [
        *(("b", 0.2), ("b", 0.1), ("a", 0.3), ("a", 0.15))
    ]
    assert {(item["model"], item["epoch"]) for item in kept} == {("model.safetensors", 1)}


def test_where_files_lay_is_not_kept(model):
    judge = {"path": str(model.parent / "inception.pth"), "sha256": "ab"}
    found = {"path": str(model), "protocol": {"features": judge, "path": None}, "n": [judge, 1]}
    add_results(model, "score", [found], "jeat score")
    kept = read_results(model.parent)["score"][0]
    named = {"path": "inception.pth", "sha256": "ab"}
    assert kept["protocol"] == {"features": named, "path": None}
    assert kept["n"] == [named, 1]
    assert "path" not in kept


def test_no_more_than_the_latest_are_kept(model, monkeypatch):
    monkeypatch.setattr(store, "_KEPT", 3)
    for number in range(5):
        add_results(model, "sample", [{"n": number}], f"jeat sample -n {number}")
    assert [item["n"] for item in read_results(model.parent)["sample"]] == [2, 3, 4]


def test_two_commands_at_once_lose_nothing(model):
    def add(number: int) -> None:
        add_results(model, "sample", [{"n": number}], f"jeat sample --seed {number}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {item["n"] for item in read_results(model.parent)["sample"]} == set(range(8))


@pytest.mark.parametrize("text", ["", "3}", '"attack": 3}', '"attack": [4]}', "[" * 100_000])
def test_of_a_damaged_file_nothing_is_read_and_the_next_result_replaces_it(model, text):
    (model.parent / "results.json").write_text('{\n "schema": 1, ' + text if text else "")
    assert not any(read_results(model.parent).values())
    add_results(model, "attack", [{"robust": 0.5}], "jeat attack")
    assert read_results(model.parent)["attack"][0]["robust"] == 0.5


def test_a_file_of_the_user_is_no_file_of_ours(model):
    (model.parent / "results.json").write_text('{"years": "of notes"}')
    with pytest.raises(JeatError, match="was not written by `jeat`"):
        add_results(model, "attack", [{"robust": 0.5}], "jeat attack")
    assert (model.parent / "results.json").read_text() == '{"years": "of notes"}'


def test_only_the_models_of_a_run_have_results(model, tmp_path):
    assert is_of_run(model)
    alone = tmp_path / "mine.safetensors"
    alone.write_bytes(model.read_bytes())
    assert not is_of_run(alone)


def test_every_command_leaves_its_result_with_the_command_that_was_typed(home):
    run = home / LATEST
    printed = one(*ATTACK, "--eps", 0.1, "--eps", 0.2)
    done("sample", LATEST, "-n", 4, "-q")
    done("landscape", "standard", LATEST, "--grid", 5, "-o", run / "plane.png")
    kept = read_results(run)
    commands = {verb: [item["command"] for item in found] for verb, found in kept.items()}
    assert commands["train"][0].startswith("jeat train --method jeat")
    weak = f"jeat attack {LATEST} -n 20 --attack fgsm --eps 0.1 --eps 0.2"
    assert commands["attack"] == [weak, weak]
    assert commands["sample"] == [f"jeat sample {LATEST} -n 4"]
    assert [item["robust"] for item in kept["attack"]] == [
        item["robust"] for item in printed["results"]
    ]
    assert kept["sample"][0]["outputs"] == {"images": "samples/all-seed0.png"}
    drawn = kept["landscape"][0]
    assert drawn["outputs"] == {"picture": "plane.png", "numbers": "plane.npz"}
    assert drawn["run"] == LATEST
    assert {"centre", "ball"} <= {*drawn}
    assert read_results(home / "standard")["landscape"][0]["outputs"] == {}
    assert str(home) not in json.dumps({verb: kept[verb] for verb in ("train", "attack", "sample")})


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return what lets something happen to a run after it was measured, before that is kept."""

    def happens(what: Callable[[], object]) -> None:
        emit = output.emit

        def after(*arguments: Any) -> None:
            what()
            emit(*arguments)

        monkeypatch.setattr(output, "emit", after)

    return happens


@pytest.mark.parametrize("arguments", MEASURED, ids=lambda each: " ".join(map(str, each)))
def test_the_epoch_is_that_of_the_weights_that_were_measured(model, meanwhile, arguments):
    """A run that is being trained replaces them while they are measured."""

    def trained_on() -> None:
        last = load(model)
        meta = replace(last.meta, epoch=2)
        assert last.statistics is not None
        save_model(model, last.classifier, meta, last.statistics)

    meanwhile(trained_on)
    assert json.loads(done(*map(str, arguments), LATEST, "--json"))
    kept = read_results(model.parent)[str(arguments[0])][-1]
    assert (kept["epoch"], read_header(model)["epoch"]) == (1, 2)
    assert list_runs(LATEST)[0].attack is None


@pytest.mark.parametrize("arguments", MEASURED, ids=lambda each: " ".join(map(str, each)))
def test_a_result_that_cannot_be_printed_is_kept(model, meanwhile, arguments):
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    meanwhile(full)
    said = here(*arguments, LATEST)
    assert (said.exit_code, said.stdout) == (1, "")
    assert "Error: no space left on the disk" in said.stderr
    assert read_results(model.parent)[str(arguments[0])][-1]["seconds"] > 0


def test_a_run_that_was_started_over_does_not_get_the_result_of_the_one_before(model, meanwhile):
    config = model.with_name("config.toml")
    meanwhile(lambda: config.write_text(config.read_text()))
    said = here(*ATTACK, LATEST)
    assert said.exit_code == 0
    assert "robust " in said.stdout
    assert "was started over meanwhile: the result is of the weights before" in said.stderr
    assert "attack" not in read_results(model.parent)


def test_a_result_that_cannot_be_kept_is_printed_with_a_warning(home, monkeypatch):
    def full(*_: object) -> None:
        raise JeatError("cannot write `results.json`: No space left on device")

    monkeypatch.setattr(store, "write_atomic", full)
    said = here("sample", LATEST, "-n", 4)
    assert said.exit_code == 0
    assert said.stdout.endswith(".png\n")
    assert "Warning: cannot write `results.json`: No space left on device" in said.stderr


def test_checkpoints_elsewhere_and_the_packages_network_get_no_file(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = tmp_path / "mine.safetensors"
    alone.write_bytes((home / LATEST / "model.safetensors").read_bytes())
    done("sample", alone, "-n", 4)
    done("sample", "pretrained", "-n", 2, "--steps", 1)
    assert not [*Path(os.getcwd()).glob("**/pretrained/results.json"), *tmp_path.glob("results*")]
