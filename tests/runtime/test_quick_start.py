"""Torch is imported without the garbage collector, and by every command in that way."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

from jeatcli.cli import COMMANDS

LOADED = """
import gc, json
from jeatcli.runtime.quick_start import import_torch
phases = []
gc.callbacks.append(lambda phase, info: phases.append(phase))
import_torch()
collections = len(phases)
import torch
import_torch()
print(json.dumps([collections, gc.get_freeze_count(), gc.isenabled()]))
"""

# How many MB of the 200 that tensors of 8 MB took the process still has when they are freed.
HELD = """
import json
from pathlib import Path
from jeatcli.runtime.freed_memory import keep_freed_memory
keep_freed_memory()
import torch

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3

before = resident()
tensors = [torch.ones(2_000_000) for _ in range(25)]
taken = resident() - before
del tensors
print(json.dumps([taken, resident() - before]))
"""

# Torch is not imported at all, but refused: what counts is how it is asked for.
ASKED = """
import gc, json, sys
from click.testing import CliRunner
from jeatcli.cli import main

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            collecting.append(gc.isenabled())
            raise ImportError("refused")

sys.meta_path.insert(0, Refuse())
first = {}
for command in sys.argv[1:]:
    collecting = []
    arguments = ["--dataset", "digits"] if command == "train" else ["pretrained"]
    CliRunner(env={"JEAT_RUNS_DIR": "."}).invoke(main, [command, *arguments])
    first[command] = collecting[0]
print(json.dumps([first, gc.isenabled()]))
"""

# What a small attack or a grid of samples of a run imports: neither a compiler nor statistics.
LIGHT = """
import json, sys
from jeatcli import attack, sample, train
run = train({"method": "at", "dataset": "digits", "limit": 8, "epochs": 1, "sample_every": 0,
             "eval_every": 0}, sys.argv[1])
attack(sys.argv[1], attacks="fgsm", num=2)
sample(sys.argv[1], num=1, steps=1)
print(json.dumps(sorted({"scipy", "sympy", "torch._dynamo", "matplotlib"} & set(sys.modules))))
"""


def told(code, *arguments, cwd=None):
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_torch_is_imported_without_a_collection():
    collections, frozen, collecting = told(LOADED)
    assert collections == 0
    assert frozen > 100_000
    assert collecting


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_for_the_next_tensors(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    taken, held = told(HELD)
    assert held > 150 < taken
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    taken, held = told(HELD)  # the user's own setting stands
    assert held < 50 < 150 < taken


def test_every_command_imports_torch_this_way(tmp_path):
    first, collecting = told(ASKED, *COMMANDS, cwd=tmp_path)
    assert first == dict.fromkeys(COMMANDS, False)
    assert collecting


def test_small_commands_import_no_compiler_and_no_statistics(tmp_path):
    # torch 2.9 imports sympy for what 2.14 does without.
    major, minor = map(int, version("torch").split(".")[:2])
    old = {"sympy"} if (major, minor) < (2, 14) else set()
    assert set(told(LIGHT, f"{tmp_path}/run")) <= old
