"""Purification attacked in three ways, and the memory of exact gradients.

    python benchmarks/purification.py RUN [-n 100] [--chain 10] [--steps 20] [--draws 8]
    python benchmarks/purification.py RUN --memory

For the undefended network and for each gradient of the purified one, clean accuracy, accuracy under
PGD at the run's own radius, and the seconds. With --memory the peak memory of a process
that takes one exact gradient of 16 images, through 10 steps and through 100.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import torch

from jeatcli import attack, load
from jeatcli.data.images import to_unit_range
from jeatcli.robustness.purification import defended
from jeatcli.robustness.settings import PURIFY_GRADIENTS

IMAGES = 16


def peak(run: str, steps: int) -> float:
    """Return the peak memory of a process of its own, in MiB."""
    command = [sys.executable, __file__, run, "--chain", str(steps), "--one"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def one_gradient(run: str, steps: int) -> None:
    """Take a gradient through the chain, and print the peak memory of this process."""
    model = load(run, device="cpu")
    x = to_unit_range(torch.randint(256, (IMAGES, *model.meta.shape), dtype=torch.uint8))
    _, seen = defended(model, steps, "exact", 1, seed=0)
    x.requires_grad_(True)
    torch.autograd.grad(seen(x).sum(), x)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Print the table, or the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--chain", type=int, nargs="+", default=[10])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one_gradient(given.run, given.chain[0])
        return
    if given.memory:
        few, many = peak(given.run, 10), peak(given.run, 100)
        print(f"peak memory: {few:.0f} MiB at 10 steps, {many:.0f} at 100 ({many / few:.3f})")
        return
    about = {"num": given.n, "steps": given.steps, "exact": True}
    plain = attack(given.run, **about)
    threat = f"{plain.norm} {plain.eps:.4g}"
    print(f"{plain.run}, {threat}, n = {given.n}, pgd-{given.steps}")
    print(f"undefended                   clean {plain.clean:.3f}  robust {plain.robust:.3f}")
    for chain in given.chain:
        for gradient in reversed(PURIFY_GRADIENTS):
            draws = {} if gradient == "none" else {"purify_draws": given.draws}
            found = attack(given.run, purify=chain, purify_gradient=gradient, **draws, **about)
            print(
                f"K = {chain:<3} {gradient:16} clean {found.clean:.3f}  robust {found.robust:.3f}"
                f"  {found.seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
