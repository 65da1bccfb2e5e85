"""Image quality by method, descent and start: every method under every way of sampling.

    python benchmarks/sampling_table.py --features JUDGE RUN [RUN ...] [-n 500] [--steps 60]

All draw the same number of images by the same number of steps, on E(x,y) or on what `--objective`
says, so that what separates two rows of a way is the method, and two ways of a row the sampling.
The judge is a classifier that none of them was trained with; the reference is the training images,
or the test images: recall needs the distances between all of them. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import product
from pathlib import Path

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.settings import Foreign
from jeatcli.sampling.settings import OBJECTIVES
from jeatcli.scoring.image_scores import Scores, image_scores

SAMPLERS = ("sgld", "ascent", "pgd")
STARTS = ("uniform", "noise", "gaussian", "pca")
# Those that not every method has, or that are no samples.
OTHER_STARTS = ("buffer", "data")


def row(name: str, sampler: str, start: str, found: Scores) -> str:
    """Write one line of the table."""
    cells = (
        *(name, f"`{sampler}`", f"`{start}`", f"{found.fid:.4g}"),
        *(f"{found.inception_score:.2f}", f"{found.precision:.3f}", f"{found.recall:.3f}"),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Draw, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--features", required=True, help="a run, or a checkpoint with --arch")
    parser.add_argument("--arch", help="of a judge that jeat did not train")
    parser.add_argument("--mean", type=float, nargs=3)
    parser.add_argument("--std", type=float, nargs=3)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--steps", type=int, default=60, help="0 for the starts themselves")
    parser.add_argument("--objective", default="joint", choices=OBJECTIVES)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    parser.add_argument("--starts", nargs="+", default=STARTS, choices=STARTS + OTHER_STARTS)
    parser.add_argument("--reference", default="train", choices=("train", "test"))
    parser.add_argument("--momentum", type=float, help="of sgld")
    parser.add_argument("--temperature", type=float, help="of sgld, in place of the run's noise")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    given = parser.parse_args()
    models = [load(run) for run in given.runs]
    dataset = models[0].meta.dataset
    foreign = Foreign(given.arch, dataset, given.mean, given.std) if given.arch else None
    judge = load(given.features, foreign=foreign)
    print("| run | sampler | start | FD | classifier score | precision | recall |")
    print("| --- " * 7 + "|", flush=True)
    kept = []
    for sampler, start, model in product(given.samplers, given.starts, models):
        ways = {
            "sampler": sampler,
            "init": start,
            "objective": given.objective,
            "steps": given.steps,
            "momentum": given.momentum,
            "temperature": given.temperature,
            "reference": given.reference,
        }
        found = image_scores(model, features=judge, num=given.n, **ways)
        print(row(model.name, sampler, start, found), flush=True)
        kept.append(asdict(found))
    if given.out:
        given.out.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
