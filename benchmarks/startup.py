"""Processor seconds of small commands as whole processes, against another checkout.

    python benchmarks/startup.py --against ../before/src --rounds 5

Each command runs in a process of its own, by this checkout and by the other one in turn, so that a
busy machine slows both; and so does `import torch` alone. A first round, which also compiles the
modules, is left out. Told are medians of user and system time together, in which waiting for other
programs does not count, and their ratio. `--threads` sets `OMP_NUM_THREADS`; 0 leaves it unset.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parents[1] / "src"
JEAT = [sys.executable, "-m", "jeatcli"]
TRAIN = "train --method at --dataset digits --limit 64 --epochs 1 --quiet -o "
COMMANDS = {
    "`import torch`": [sys.executable, "-c", "import torch"],
    "`jeat --help`": [*JEAT, "--help"],
    "`jeat train`, 64 digits, one epoch": [*JEAT, *TRAIN.split(), "./again/", "--force"],
    "`jeat attack`, 16 digits": [*JEAT, "attack", "./run/", "-n", "16", "--quiet"],
    "`jeat sample`, 16 images": [*JEAT, "sample", "./run/", "-n", "16", "--quiet"],
}


def processor_seconds(command: list[str], where: str, source: Path, threads: int = 0) -> float:
    """Return the user and system time of a process."""
    added = {"PYTHONPATH": str(source), "PYTHONPYCACHEPREFIX": f"{where}/compiled"}
    environment = {**os.environ, **added, "JEAT_CACHE_DIR": f"{where}/cache"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("OMP_NUM_THREADS", None)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Run all in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, required=True, help="the `src` of another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    sources = (HERE, given.against.resolve())
    print(
        f"medians of {given.rounds}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )
    print("| | threads | this checkout | the other | ratio |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as where:
        # By the other one: what it writes is read by both.
        processor_seconds([*JEAT, *TRAIN.split(), "./run/"], where, sources[1])
        for threads in given.threads:
            for label, command in COMMANDS.items():
                times: list[list[float]] = [
                    [processor_seconds(command, where, source, threads) for source in sources]
                    for _ in range(given.rounds + 1)
                ]
                ours, theirs = (statistics.median(each) for each in zip(*times[1:], strict=True))
                told = (
                    threads or "default",
                    f"{ours:.2f}",
                    f"{theirs:.2f}",
                    f"{ours / theirs:.2f}",
                )
                print(f"| {label} | " + " | ".join(map(str, told)) + " |", flush=True)


if __name__ == "__main__":
    main()
