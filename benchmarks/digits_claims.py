"""The paper's claim in small: six methods on the digits, over several seeds.

    python benchmarks/digits_claims.py --seeds 3 --jobs 2 --out claims.json

For each method and seed: train as `jeat train --method M --dataset digits` does, then measure on
the 397 test images clean accuracy and robust accuracy under PGD-20 (cross-entropy, linf 0.15),
the Frechet distance between 1,000 class-conditional samples and the training images in the
features of a separately trained standard classifier (another seed), and the mean rise of E(x, y)
under random perturbations of l2 norm 1.2. All methods draw their samples alike, so that what
separates them is the method: SGLD on E(x, y) from uniform noise, 60 steps of 0.25, noise 0.005;
a second column has the targeted PGD from class Gaussians of Santurkar et al. (2019).

Prints the table of `docs/results.md`, mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.core import energy
from jeatcli.core.models.classifier import Classifier
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.robustness import evaluate
from jeatcli.sampling import sample
from jeatcli.training.resolve import resolve
from jeatcli.training.train import train

METHODS = ("standard", "noise", "at", "prejeat", "jem", "jeat")
JUDGE_SEED = 1000
SAMPLES = 1000
RADIUS = 1.2
DIRECTIONS = 20
COLUMNS = {
    "clean": "clean",
    "robust": "PGD-20",
    "distance": "FD, SGLD",
    "distance_pgd": "FD, PGD",
    "rise": "rise of E(x,y)",
    "energy": "E(x,y)",
    "seconds": "training, s",
}


@dataclass
class Row:
    """One run's figures."""

    method: str
    seed: int
    clean: float
    robust: float
    distance: float
    distance_pgd: float
    rise: float
    energy: float
    seconds: float


def train_one(task: tuple[str, int, str]) -> str:
    """Train one run on one thread."""
    method, seed, folder = task
    torch.set_num_threads(1)
    config = resolve({"method": method, "dataset": "digits", "seed": seed, "sample_every": 0})
    return train(config, Path(folder) / f"{method}-{seed}").run


def measure(run: str, judge: Classifier, seconds: float) -> Row:
    """Measure one run."""
    model = load(run)
    found = evaluate.attack(model, steps=20)
    rise, height = rise_of_energy(model)
    chain = {"sampler": "sgld", "objective": "joint", "init": "uniform", "steps": 60}
    return Row(
        method=model.meta.method,
        seed=model.meta.seed,
        clean=found.clean,
        robust=found.robust,
        distance=distance(model, judge, **chain, step_size=0.25, noise=0.005),
        distance_pgd=distance(model, judge, sampler="pgd"),
        rise=rise,
        energy=height,
        seconds=seconds,
    )


def distance(model: Model, judge: Classifier, **descent: Any) -> float:
    """Return the Frechet distance between samples and training images in the judge's features."""
    drawn = sample.sample(model, num=SAMPLES, **descent)
    real = load_images("digits", "train")
    rounded = (drawn.images * 255).round() / 255
    return frechet_distance(judge.features(rounded), judge.features(to_unit_range(real.x)))


def frechet_distance(left: Tensor, right: Tensor) -> float:
    """Return |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of features (n, d), in float64."""
    left, right = left.double(), right.double()
    spreads = torch.cov(left.T), torch.cov(right.T)
    # The eigenvalues of the product of two covariances are real and not negative.
    root = torch.linalg.eigvals(spreads[0] @ spreads[1]).real.clamp_min(0).sqrt().sum()
    offset = (left.mean(0) - right.mean(0)).square().sum()
    return float(offset + spreads[0].trace() + spreads[1].trace() - 2 * root)


@torch.no_grad()
def rise_of_energy(model: Model) -> tuple[float, float]:
    """Return the mean rise of E(x, y) at l2 distance 1.2 in random directions, and its height."""
    test = load_images("digits", "test")
    x, generator = to_unit_range(test.x), torch.Generator().manual_seed(0)
    centre = energy.joint(model.classifier(x), test.y)
    rises = []
    for _ in range(DIRECTIONS):
        step = torch.randn(x.shape, generator=generator)
        step *= RADIUS / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        rises.append(energy.joint(model.classifier(x + step), test.y) - centre)
    return torch.stack(rises).mean().item(), centre.mean().item()


def table(rows: list[Row]) -> str:
    """Write mean and standard deviation over the seeds as Markdown."""
    lines = ["| method | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("| --- |" + " --- |" * len(COLUMNS))
    for method in METHODS:
        mine = [asdict(row) for row in rows if row.method == method]
        cells = [cell([row[key] for row in mine]) for key in COLUMNS] if mine else []
        lines += [f"| {method} | " + " | ".join(cells) + " |"] if mine else []
    return "\n".join(lines)


def cell(values: list[float]) -> str:
    """Write mean and standard deviation with the digits that they deserve."""
    mean, spread = statistics.mean(values), statistics.stdev(values) if values[1:] else 0.0
    digits = 3 if abs(mean) < 1.5 else 2 if abs(mean) < 20 else 0
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--jobs", type=int, default=1, help="runs trained at once, a thread each")
    parser.add_argument("--runs", type=Path, default=None, help="keep the runs here, and go on")
    parser.add_argument("--out", type=Path, default=None, help="write all figures as JSON")
    given = parser.parse_args()
    folder = str(given.runs or tempfile.mkdtemp())
    tasks = [(method, seed, folder) for seed in range(given.seeds) for method in given.methods]
    tasks.insert(0, ("standard", JUDGE_SEED, folder))
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        runs = pool.map(train_one, tasks, chunksize=1)
    print(f"trained {len(runs)} runs in {time.perf_counter() - began:.0f} s")
    judge = load(runs[0]).classifier
    rows = [measure(run, judge, logged_seconds(Path(run))) for run in runs[1:]]
    if given.out:
        given.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    real = [
        judge.features(to_unit_range(load_images("digits", split).x)) for split in ("test", "train")
    ]
    print(table(rows))
    print(f"\nFD between test and training images: {frechet_distance(*real):.1f}")


def logged_seconds(run: Path) -> float:
    """Add up the seconds of the epochs in a run's log."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return float(sum(json.loads(line).get("seconds", 0) for line in lines))


if __name__ == "__main__":
    main()
