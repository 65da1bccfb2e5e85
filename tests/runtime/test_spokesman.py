"""One of several processes reports a failure, whichever of them meet it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.cli import environment
from helpers.forked import Forked
from helpers.runs import save_run

from jeatcli.errors import Diverged, JeatError, RankLost
from jeatcli.runtime import interrupts, spokesman

FAILURE = JeatError("the disk is full")


@pytest.fixture(autouse=True)
def met(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this be one of the later of three processes that have met."""
    for name, value in {"WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(spokesman, "_WAIT", 0.3)
    spokesman.meet(torch.distributed.HashStore())
    yield
    spokesman.meet(None)


def test_the_first_reports_what_all_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    late = threading.Timer(0.1, spokesman.told, [FAILURE])
    late.start()
    assert not spokesman.speaks(FAILURE)
    late.join()
    monkeypatch.setenv("RANK", "0")
    assert spokesman.speaks(FAILURE)


def test_one_of_the_others_reports_what_the_first_does_not_meet() -> None:
    assert spokesman.speaks(FAILURE)
    assert not spokesman.speaks(FAILURE)  # as the third process
    assert spokesman.speaks(JeatError("the file is not there"))
    assert not spokesman.speaks(Diverged("which all processes meet, however late the first is"))


def test_a_lost_process_that_has_told_why_is_not_reported() -> None:
    spokesman.told(FAILURE)
    assert not spokesman.speaks(RankLost("another process of the command has died"))


def test_a_lost_process_that_was_killed_is_reported() -> None:
    assert spokesman.speaks(RankLost("another process of the command has died"))


@pytest.mark.parametrize(("local", "told"), [("0", True), ("1", False)])
def test_before_they_meet_one_on_each_machine_reports(
    local: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spokesman.meet(None)
    monkeypatch.setenv("LOCAL_RANK", local)
    # What `torchrun` sends once the first process of the machine has ended.
    ended = threading.Timer(0.1, signal.raise_signal, [signal.SIGTERM])
    with interrupts.answered_by():
        ended.start()
        assert spokesman.speaks(FAILURE) is told
        ended.cancel()


def test_none_waits_for_a_first_one_that_may_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "was_interrupted", lambda: True)
    monkeypatch.setattr(spokesman, "wait_for_first", lambda failure: pytest.fail("waits"))
    assert not spokesman.speaks(Diverged("all"))


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["01", "0", "1"])
def test_two_processes_report_an_error_of_both_once(failing: str, tmp_path: Path) -> None:
    plugin = tmp_path / "faulty.py"
    plugin.write_text(
        "import os\n"
        "from jeatcli.robustness.evaluator import Evaluator\n"
        "found = Evaluator._attack_part\n"
        "def attack_part(self, *given):\n"
        f"    if os.environ['RANK'] in {failing!r}:\n"
        "        raise ValueError('odd')\n"
        "    return found(self, *given)\n"
        "Evaluator._attack_part = attack_part\n"
    )
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "JEAT_PLUGINS": str(plugin)}
    command = ("attack", save_run("net"), "-n", 40, "--steps", 1, "--device", "cpu")
    ranks = [
        Forked(*command, env=environment(RANK=number, LOCAL_RANK=number, **shared))
        for number in "01"
    ]
    heard = [rank.communicate(timeout=200)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    lines = "".join(heard).splitlines()
    told = [line for line in lines if line.startswith("Error: ")]
    # The first one says why it ends, too, where another has failed alone.
    assert len(told) == (2 if failing == "1" else 1)
    assert sum("failed: ValueError: odd" in line for line in told) == 1
