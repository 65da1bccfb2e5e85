"""An attack that is killed goes on where it was, and ends as one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import EXECUTABLE, done, environment, here
from helpers.forked import Forked
from helpers.runs import Listener, load_run, save_run
from safetensors.torch import load_file

from jeatcli.acceleration.ways import Way, Work
from jeatcli.checkpoints.runs import MODEL_FILE
from jeatcli.errors import JeatError
from jeatcli.robustness import certificate, evaluate, evaluator, state
from jeatcli.robustness.attacks import surrogate
from jeatcli.robustness.attacks.attack import Attack
from jeatcli.robustness.attacks.batch import Batch
from jeatcli.robustness.result import Robustness
from jeatcli.robustness.state import BatchOutcome, StateFiles

# By norm: between them every attack that has a schedule; some seconds of work, so that ten lives of
# a tenth of a second do not come to its end on a machine that has other things to do.
ARGUMENTS = {
    "linf": "--attack fgsm --attack apgd-ce --attack square --queries 800 --eps 0.08 -n 150",
    "l2": "--attack apgd-t --attack fab-t --eps 0.5 -n 250",
}


def record(run: Path, name: str = "attack.json") -> dict[str, Any]:
    """Return what was found, without the seconds."""
    found: dict[str, Any] = json.loads((run / name).read_text())
    del found["seconds"]
    for attack in found["per_attack"].values():
        del attack["seconds"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_killed_at_random_and_gone_on_to_the_same_end(norm: str, tmp_path: Path) -> None:
    """Ten kills each."""
    arguments = (*ARGUMENTS[norm].split(), "--norm", norm, "--batch-size", "1", "--steps", "20")
    # Two runs might measure another way each.
    arguments += ("--kernel", "fused", "--no-compile")
    run = save_run("whole", gain=2.0).parent
    copy = save_run("killed", gain=2.0).parent
    command = [str(EXECUTABLE), "attack", "killed", *arguments]
    command += ["--save", str(tmp_path / "k.safetensors")]
    done("attack", "whole", *arguments, "--save", tmp_path / "w.safetensors")
    whole = record(run)
    assert 0 < whole["robust"] < whole["clean"]
    kills, said = 0, ""
    chance = random.Random(0)
    while kills < 10:
        process = Forked(*command[1:], env=environment(JEAT_DEVICE="cpu"))
        wait_for_progress(copy, process)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == -signal.SIGKILL
        kills += 1
        assert not (copy / "attack.json").exists()
    last = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment(JEAT_DEVICE="cpu")
    )
    assert last.returncode == 0, last.stderr
    assert "resuming the attack where it was interrupted" in last.stderr + said
    assert record(copy) | {"run": "whole"} == whole
    assert not list(copy.glob("attack-*"))
    images, again = (load_file(tmp_path / f"{name}.safetensors") for name in "wk")
    assert all(torch.equal(images[key], again[key]) for key in images)


def wait_for_progress(run: Path, process: Forked) -> None:
    """Wait until the process has got on by a batch or two."""
    seen: set[int] = set()
    deadline = time.monotonic() + 300
    while len(seen) < 2 and time.monotonic() < deadline and process.poll() is None:
        for file in run.glob("attack-*/progress.json"):
            seen.add(file.stat().st_mtime_ns)
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"


class Stopped(Exception):
    """The attack is to stop here."""


def stop_after(
    monkeypatch: pytest.MonkeyPatch, batches: int, by: type[BaseException] = Stopped
) -> None:
    """Let the attack end in an exception after so many batches."""
    run, count = evaluator.Evaluator._attack_part, 0

    def counted(self: evaluator.Evaluator, *arguments: Any) -> BatchOutcome:
        nonlocal count
        if count == batches:
            raise by
        count += 1
        return run(self, *arguments)

    monkeypatch.setattr(evaluator.Evaluator, "_attack_part", counted)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.8])
def test_stopped_after_any_batch(
    share: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = load_run("model", gain=2.0)
    settings: dict[str, Any] = {"attacks": ["fgsm", "pgd"], "num": 100, "batch_size": 2}
    settings |= {"eps": 0.3}
    whole = evaluate.attack(model, **settings, images_to=tmp_path / "whole.safetensors")
    # What the first batches broke must count when the attack is resumed.
    assert whole.per_attack["fgsm"]["broken"] > 2
    total = total_batches(whole)
    batches = int(share * total)
    settings |= {"progress": tmp_path, "images_to": tmp_path / "parts.safetensors"}
    with monkeypatch.context() as patch:
        stop_after(patch, batches)
        with pytest.raises(Stopped):
            evaluate.attack(model, **settings)
    assert len(list(tmp_path.glob("attack-*/progress.json"))) == 1
    runs: list[int] = []
    monkeypatch.setattr(Attack, "__call__", watched(Attack.__call__, runs))
    resumed = evaluate.attack(model, **settings)
    assert resumed.samples == whole.samples
    for name, found in whole.per_attack.items():
        again = resumed.per_attack[name]
        assert {**again, "seconds": 0} == {**found, "seconds": 0}
    parts, all_ = (load_file(tmp_path / f"{name}.safetensors") for name in ("parts", "whole"))
    assert torch.equal(parts["images"], all_["images"])
    assert len(runs) == total - batches
    assert not list(tmp_path.glob("attack-*"))


def test_an_attack_goes_on_by_the_kernel_that_it_began_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = load_run("model", gain=2.0)
    settings: dict[str, Any] = {"attacks": ["fgsm", "pgd"], "num": 20, "steps": 3, "eps": 0.3}
    works: list[Work] = []
    seen: list[Way] = []
    accelerate = surrogate.accelerate

    def choose(*asked: Any) -> Way:
        works.append(asked[2])
        return Way("winograd-32")

    def watched(classifier: Any, dtype: Any, way: Way) -> Any:
        seen.append(way)
        return accelerate(classifier, dtype, way)

    monkeypatch.setattr(surrogate, "accelerate", watched)
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "choose", choose)
        stop_after(patch, 1)
        with pytest.raises(Stopped):
            evaluate.attack(model, **settings, batch_size=2, progress=tmp_path)
    # One step of FGSM, three of PGD, of which about a half are taken.
    correct = evaluate.attack(model, attacks=["fgsm"], num=20).clean * 20
    assert works == [((1, 8, 8), 2, pytest.approx(2 * correct), 0)]
    resumed = evaluate.attack(model, **settings, batch_size=2, progress=tmp_path)
    assert (resumed.kernel, resumed.compiled) == ("winograd-32", False)
    assert seen == [Way("winograd-32"), Way(), Way("winograd-32")]


def watched(call: Any, runs: list[int]) -> Any:
    def counted(self: Attack, search: Any, batch: Batch, plan: Any) -> Any:
        runs.append(len(batch))
        return call(self, search, batch, plan)

    return counted


def total_batches(result: Robustness) -> int:
    """Return how many batches of 2 the two attacks take."""
    left = sum(result.samples["correct"])
    first = -(-left // 2)
    left -= result.per_attack["fgsm"]["broken"]
    return first + -(-left // 2)


def test_progress_of_another_model_or_setting_is_not_taken_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, other = load_run("model", gain=2.0), load_run("other", gain=2.0, seed=1)
    # The weights do not tell which function of them the network is.
    activated = replace(model, meta=replace(model.meta, activation="relu"))
    keys = set()
    for subject, settings in [
        (model, {}),
        (other, {}),
        (activated, {}),
        (model, {"seed": 1}),
        (model, {"eps": 0.03}),
        (model, {"num": 30}),
        (model, {"only": "1"}),
        (model, {"attacks": ["pgd"], "steps": 3}),
        (model, {"target": "3"}),
        (model, {"exact": True}),
        (model, {"transfer_from": other}),
        (model, {"images_to": tmp_path / "x.safetensors"}),
    ]:
        chosen: dict[str, Any] = {"attacks": ["fgsm"], "num": 20, **settings}
        keys.add(evaluate.attack(subject, **chosen).key)
    assert len(keys) == 12
    # A file of another kind in the place of the progress is none.
    files = StateFiles(tmp_path, "0" * 16)
    files.folder.mkdir()
    for text in ("[]", '{"key": "something else"}'):
        (files.folder / state.STATE).write_text(text)
        assert files.read(20, 1) is None


def test_progress_that_cannot_be_written_is_only_warned_of(tmp_path: Path) -> None:
    run = save_run("model").parent
    (tmp_path / "jeat-cache").write_text("")
    said = here("attack", "model", "-n", 5, "--attack", "fgsm")
    assert said.exit_code == 0
    (run / MODEL_FILE).rename(tmp_path / "alone.safetensors")
    said = here("attack", tmp_path / "alone.safetensors", "-n", 5, "--attack", "fgsm")
    assert said.exit_code == 0, said.stderr
    assert "the attack cannot be resumed" in " ".join(said.stderr.split())


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run("model", gain=2.0).parent
    command = ("attack", "model", "--attack", "fgsm", "-n", 50, "--batch-size", 2)
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt)
        said = here(*command)
    assert said.exit_code == 130
    assert "what it had finished is saved" in " ".join(said.stderr.split())
    assert len(list(run.glob("attack-*/progress.json"))) == 1
    again = here(*command)
    assert "resuming the attack where it was interrupted" in again.stderr
    assert not list(run.glob("attack-*/"))


def test_a_run_of_others_that_is_only_read_goes_on_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = save_run("theirs", gain=2.0).parent
    access = os.access

    def only_read(path: Any, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and Path(path).resolve() == run)

    monkeypatch.setattr(os, "access", only_read)
    command = ("attack", "theirs", "--attack", "fgsm", "-n", 50, "--batch-size", 2)
    mine = tmp_path / "mine.json"
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt)
        assert here(*command, "-o", mine).exit_code == 130
    again = here(*command, "-o", mine)
    assert again.exit_code == 0
    assert "resuming the attack where it was interrupted" in again.stderr
    assert "cannot" not in again.stderr
    assert json.loads(mine.read_text())["n"] == 50
    assert not list(run.glob("attack*"))


@pytest.mark.parametrize("smaller", [3, None])
def test_an_attack_goes_on_in_smaller_batches(
    smaller: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What ran out of memory goes on with the size that is given; without one, with the old."""
    model = load_run("model", gain=2.0)
    settings: dict[str, Any] = {"attacks": ["fgsm", "pgd"], "num": 100, "eps": 0.3}
    whole = evaluate.attack(model, **settings, batch_size=8)
    settings |= {"progress": tmp_path}
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Stopped):
            evaluate.attack(model, **settings, batch_size=8)
    runs: list[int] = []
    monkeypatch.setattr(Attack, "__call__", watched(Attack.__call__, runs))
    # What is correct at the edge between two classes may depend on the size: it is not asked anew.
    monkeypatch.delattr(evaluator.Evaluator, "_correct")
    resumed = evaluate.attack(model, **settings, batch_size=smaller)
    # Images that are not classified correctly leave a batch smaller.
    assert 0 < max(runs) <= (smaller or 8)
    assert resumed.samples == whole.samples


def test_another_process_at_the_same_attack_is_told(tmp_path: Path) -> None:
    """This one goes its own way to the same verdicts, and leaves the other's state alone."""
    run = save_run("model", gain=2.0).parent
    ask = ("attack", "model", "-n", 8, "--attack", "fgsm", "--json")
    alone = json.loads(done(*ask))
    files, heard = StateFiles(run, alone["key"]), Listener()
    with state.own_state(files, heard) as own:
        assert own is files
        files.folder.joinpath(state.STATE).write_text("theirs")
        said = here(*ask)
        assert "another process is running the same attack" in said.stderr
        assert "resuming" not in said.stderr
        found = json.loads(said.stdout)
        assert found["robust"] == alone["robust"]
        assert files.folder.joinpath(state.STATE).read_text() == "theirs"
    files.remove()
    with state.own_state(files, heard) as own:
        assert own is files
    assert not files.folder.exists()
    assert heard.said == []


def test_a_certificate_goes_on_where_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    save_run("model", gain=2.0)
    ask = ("attack", "model", "--certify", "-n", 4, "--certify-draws", 50, "--alpha", 0.1)
    usual = json.loads(done(*ask, "--json"))
    write = certificate.write_atomic

    def full(path: Path, fill: Any) -> Path:
        if path.name == certificate._FILE:
            raise JeatError(f"cannot write `{path}`: No space left on device")
        return write(path, fill)

    monkeypatch.setattr(certificate, "write_atomic", full)
    said = here(*ask, "--json")
    assert said.exit_code == 0
    assert said.stderr.count("No space left on device; the certificate cannot be resumed") == 1
    found = json.loads(said.stdout)
    assert (found["certificate"], found["robust"]) == (usual["certificate"], usual["robust"])
