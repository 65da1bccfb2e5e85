"""Commands as a user types them: through the installed executable, or faster in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from jeatcli.cli import main

EXECUTABLE = Path(sys.executable).with_name("jeat")
QUICK = (
    *("--dataset", "digits", "--limit", "128", "--epochs", "1", "--batch-size", "32"),
    *("--sample-every", "0", "--eval-every", "0"),
)
STANDARD = ("train", "--method", "standard", *QUICK)
JEAT = (
    *("train", "--method", "jeat", *QUICK),
    *("-O", "sgld_steps=2", "-O", "attack_steps=2", "-O", "buffer_size=50"),
)


def environment(**more: str) -> dict[str, str]:
    """Return the test's environment with one thread, and colours if a command wants them."""
    kept = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def jeat(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the installed executable."""
    return subprocess.run(
        [EXECUTABLE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**more),
    )


def here(*arguments: object, **more: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, [*map(str, arguments)], env=more)


def done(*arguments: object, **more: str) -> str:
    """Run a command in this process that must succeed; return its stdout."""
    result = here(*arguments, **more)
    assert result.exit_code == 0, result.stderr
    return result.stdout
