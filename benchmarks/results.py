"""Methods under one protocol: train, attack, sample and score each on the same number of images.

    python benchmarks/results.py digits --seeds 3 --jobs 2 -o digits
    python benchmarks/results.py cifar10-small --judge resnet20-12fca82f.th -o small

Each figure is kept in OUT/ROW-SEED.json as soon as it is measured, and the runs in OUT/runs, so
that the same command continues after a kill and adds further methods or seeds. OUT/table.md has
mean ± standard deviation over the seeds, table.json every figure with the protocol, tradeoff.png
and samples.png the pictures; `--show` only writes these of what is there.

A row is a method, or one of `VARIANTS`. *FD* and *score, same sampler* are of images that all rows
draw by one sampler, *own sampler* of those by each method's default; the judge is a classifier that
no row was trained with. *ECE*, *AUROC*: of the classifier; the out-of-distribution images are means
of two test images, detected by E(x) (Grathwohl et al. 2020). *Rise*: mean rise of E(x,y) in random
directions with a root mean square of eps, *worst* the largest in the ball. *E(x) - E(x^)*: x^ by
PGD-20 on the cross-entropy. *CPU s*: of training, all threads together, reading the data included.
*Passes*: images that went forward and backward in training, per image of the budget.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_figures import samples, tradeoff
from results_runs import Job, read, write
from results_scales import EVERY_ROW, SCALES, Scale
from results_table import report

from jeatcli import (
    train,
)
from jeatcli.data.images import load_images
from jeatcli.training.resolve import resolve

JUDGE_SEED = 1000
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast-rs": ("fast", {"variant": "rs"}),
    "fast-pgi": ("fast", {"variant": "pgi"}),
    "at+awp": ("at", {"awp": 0.005}),
}


def means_of_pairs(scale: Scale, out: Path, data_dir: str | None) -> None:
    """Write the means of random pairs of test images, as many as there are images."""
    test = load_images(scale.train["dataset"], "test", data_dir=data_dir)
    other = test.x[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))]
    mean = ((test.x.int() + other + 1) // 2).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.savez_compressed(out / "means.npz", image=mean)


def judge_of(scale: Scale, given: argparse.Namespace) -> str:
    """Return the judge: the one that was given, or a standard classifier of another seed."""
    if given.judge:
        return str(given.judge)
    config = resolve(scale.settings("standard", JUDGE_SEED))
    return train(config, given.out / "runs" / "judge", data_dir=given.data_dir).run


def work(job: Job, threads: int) -> Job:
    torch.set_num_threads(threads)
    job.run()
    return job


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scale", choices=SCALES)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=EVERY_ROW, help="default: by scale")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, help="that each run sees, default: by scale")
    parser.add_argument("--judge", help="a RUN, or the public ResNet-20 (.th)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--data-dir")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--show", action="store_true", help="only write the table and figures")
    given = parser.parse_args()
    scale = SCALES[given.scale]
    if given.images:
        scale = Scale(**{**vars(scale), "images": given.images})
    rows, out = given.rows or scale.rows, given.out
    (out / "runs").mkdir(parents=True, exist_ok=True)
    protocol = json.loads(json.dumps(asdict(scale)))
    if read(out / "protocol.json") not in (None, protocol):
        parser.error(f"{out} holds results of another protocol")
    write(out / "protocol.json", protocol)
    if not given.show:
        means_of_pairs(scale, out, given.data_dir)
        judge = judge_of(scale, given)
        about = (judge, given.data_dir, given.device)
        passes = [(seed, ensemble) for seed in range(given.seeds) for ensemble in (False, True)]
        threads = max(1, torch.get_num_threads() // given.jobs)
        with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
            for seed, ensemble in passes:
                jobs = [Job(scale, out, row, seed, *about, ensemble) for row in rows]
                for job in pool.imap_unordered(partial(work, threads=threads), jobs):
                    report(rows, scale, out)
                    done = scale.ensemble if ensemble else "all else"
                    print(f"{job.row}, seed {job.seed}: {done}", flush=True)
    found = report(rows, scale, out)
    tradeoff(found, scale.train["dataset"], out)
    samples(rows, scale.alike, out, given.device)
    print((out / "table.md").read_text())


if __name__ == "__main__":
    main()
