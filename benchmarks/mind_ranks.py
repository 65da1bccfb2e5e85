"""Whether MIND of few images ranks runs as the Frechet distance of many does.

    python benchmarks/mind_ranks.py DIR/runs --seed 0 --judge DIR/runs/judge -o OUT [-n 50000]

DIR is the folder of `results.py digits`, whose sampler and judge are used. Every run draws a
thousand images at a time, with a seed of their own, and the judge's features of them are kept in
OUT: the same command continues after a kill. Then the table of what is there: distances to the
training images, MIND of the first 1,000 and 5,000 images and FD of all, the ranks, and the pairs of
runs that the two order differently, with those whose intervals of MIND do not overlap.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import torch
from results_scales import SCALES
from safetensors.torch import load_file, save_file
from scipy.stats import kendalltau
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from jeatcli import load
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import Images, load_images
from jeatcli.data.pictures import to_uint8
from jeatcli.runtime.files import write_atomic
from jeatcli.sampling.sample import prepare
from jeatcli.scoring.features import Features, extract
from jeatcli.scoring.intervals import Estimate
from jeatcli.scoring.mind import mind

BLOCK = 1000
SIZES = (1000, 5000)
WAY = SCALES["digits"].alike


def block(run: Path, judge: Model, seed: int, kept: Path) -> Features:
    """Return the features of a thousand images of a run, from the disk where they are there."""
    if not kept.is_file():
        plan = prepare(load(run, device="cpu"), num=BLOCK, seed=seed, batch_size=BLOCK, **WAY)
        drawn = [torch.from_numpy(to_uint8(images)) for _, images in plan.batches()]
        found = extract(torch.cat(drawn), judge, BLOCK)
        write_atomic(kept, lambda beside: save_file(vars(found), beside))
    return Features(**load_file(kept))


def fd(ours: Features, theirs: Features) -> float:
    """Return the Frechet distance, by torch-fidelity."""
    one, other = (fid_features_to_statistics(each.values) for each in (ours, theirs))
    distance: float = fid_statistics_to_metric(one, other, False)["frechet_inception_distance"]
    return distance


def report(rows: dict[str, list[Features]], train: Features) -> None:
    """Print the table, and where the ranks differ."""
    num = BLOCK * min(len(blocks) for blocks in rows.values())
    columns: dict[str, dict[str, float]] = {f"FD, {num:,}": {}}
    for name, blocks in rows.items():
        whole = Features(*(torch.cat(part)[:num] for part in zip(*map(pair, blocks), strict=True)))
        columns[f"FD, {num:,}"][name] = fd(whole, train)
        for size in SIZES:
            few = Features(whole.values[:size], whole.logits[:size])
            columns.setdefault(f"FD, {size:,}", {})[name] = fd(few, train)
            columns.setdefault(f"MIND, {size:,}", {})[name] = mind(few, train)["mind"]
    best, *others = columns
    order = sorted(rows, key=columns[best].__getitem__)
    print(f"| run | {' | '.join(columns)} |\n| --- {'| --- ' * len(columns)}|")
    for name in order:
        cells = (
            f"{found[name]:.1f} ({1 + sum(v < found[name] for v in found.values())})"
            for found in columns.values()
        )
        print(f"| `{name}` | {' | '.join(cells)} |")
    for title in others:
        found, swapped = columns[title], []
        for one, other in combinations(order, 2):
            if found[one] > found[other]:
                more, less = found[one], found[other]
                both = [each for each in (more, less) if isinstance(each, Estimate)]
                sure = len(both) == 2 and both[0].low > both[1].high
                swapped.append(f"{one} and {other}{' (intervals apart)' if sure else ''}")
        tau = kendalltau([columns[best][k] for k in order], [found[k] for k in order]).statistic
        pairs = len(order) * (len(order) - 1) // 2
        print(f"\n{title}: tau {tau:.3f}, {len(swapped)} of {pairs} pairs: {', '.join(swapped)}")


def pair(features: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two tensors of features."""
    return features.values, features.logits


def main() -> None:
    """Draw what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("-n", type=int, default=50_000)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    judge = load(given.judge, device="cpu")
    real: Images = load_images("digits", "train")
    train = extract(real.x, judge, BLOCK)
    names = sorted(path.name for path in given.runs.glob(f"*-{given.seed}"))
    rows: dict[str, list[Features]] = {name: [] for name in names}
    for seed in range(given.n // BLOCK):
        for name in names:
            kept = given.out / f"{name}.{seed}.safetensors"
            rows[name].append(block(given.runs / name, judge, seed, kept))
        print(f"{BLOCK * (seed + 1):,} images of each run", flush=True)
    report(rows, train)


if __name__ == "__main__":
    main()
