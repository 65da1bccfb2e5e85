"""Commands in processes of their own, copies of one that has imported torch: two seconds less.

That process computes nothing, so that its copies have all their threads before them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

_IMPORTED = (
    "cli",
    "training.train",
    "robustness.evaluate",
    "sampling.writers",
    "landscapes.landscape",
)


class Forked:
    """A command that runs: what tests ask of a `subprocess.Popen`."""

    def __init__(self, *arguments: object, env: dict[str, str]) -> None:
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([f"jeatcli.{name}" for name in _IMPORTED])
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        words = [str(each) for each in arguments]
        self._process = context.Process(target=_run, args=(words, env, os.getcwd(), self._files))
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end; return what it has said on stdout and on stderr."""
        self._process.join(timeout)
        late = self.returncode is None
        self.kill()
        self._process.join()
        with self._folder:
            said, heard = (file.read_text() if file.exists() else "" for file in self._files)
        assert not late, heard
        return said, heard


def _run(words: list[str], env: dict[str, str], folder: str, outputs: list[Path]) -> None:
    """Be `jeat` with that environment, in that folder."""
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    # Those of a process that was started elsewhere may be a terminal's, or nothing.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    import torch

    from jeatcli.__main__ import run

    torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    sys.argv = ["jeat", *words]
    run()
