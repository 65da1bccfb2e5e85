"""What bfloat16 and fast kernels cost in accuracy: the same CIFAR-10 runs, over seeds.

    python benchmarks/precision.py [--method at] [--limit 3000] [--epochs 3] [--seeds 3]

All start from the same weights and see the same batches. `fp32` and `bf16` are the library's alone;
`-winograd`, `-amx` and `-amx-wgrad` are these kernels (`--kernel`), and `-compiled` is `--compile`,
whose convolutions on a CPU are Winograd's. Measured by each run's averaged model on
the first test images, in float32 either way: clean accuracy, and PGD-10 at linf 8/255.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from jeatcli.robustness import evaluate
from jeatcli.training.resolve import resolve
from jeatcli.training.train import train

PRECISIONS: dict[str, dict[str, object]] = {
    "fp32": {"precision": "fp32", "kernel": "library", "compile": False},
    "fp32-winograd": {"precision": "fp32", "kernel": "winograd", "compile": False},
    "bf16": {"precision": "bf16", "kernel": "library", "compile": False},
    "bf16-amx": {"precision": "bf16", "kernel": "amx", "compile": False},
    "bf16-amx-wgrad": {"precision": "bf16", "kernel": "amx-wgrad", "compile": False},
    "bf16-compiled": {"precision": "bf16", "compile": True},
}


def measure(settings: dict[str, object], folder: Path, num: int) -> tuple[float, float, float]:
    """Train one run; return its clean and robust accuracy, and the seconds that it took."""
    began = time.perf_counter()
    watching = {"sample_every": 0, "eval_every": 0}
    run = train(resolve(settings | watching), folder).run
    seconds = time.perf_counter() - began
    found = evaluate.attack(run, steps=10, num=num, exact=True)
    return found.clean, found.robust, seconds


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--method", default="at")
    parser.add_argument("--arch", default="small")
    parser.add_argument("--limit", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--precisions", nargs="+", default=["fp32", "bf16", "bf16-compiled"], choices=PRECISIONS
    )
    parser.add_argument("-n", type=int, default=1000)
    given = parser.parse_args()
    keys = ("method", "arch", "limit", "epochs")
    settings = {key: getattr(given, key) for key in keys}
    print("| precision | seed | clean | PGD-10 | s |\n| --- | --- | --- | --- | --- |", flush=True)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in given.precisions}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            for name in given.precisions:
                run = settings | PRECISIONS[name] | {"seed": seed}
                row = measure(run, Path(folder) / f"{name}-{seed}", given.n)
                found[name].append(row)
                print(
                    f"| {name} | {seed} | {row[0]:.4f} | {row[1]:.4f} | {row[2]:.0f} |", flush=True
                )
    for name, rows in found.items():
        columns = list(zip(*rows, strict=True))
        spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in columns]
        cells = [
            f"{statistics.mean(c):.4f} ± {s:.4f}" for c, s in zip(columns, spread, strict=True)
        ]
        print(f"| {name} | all | {cells[0]} | {cells[1]} | |")


if __name__ == "__main__":
    main()
