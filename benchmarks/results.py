"""Methods under one protocol: train, attack, sample and score each on the same number of images.

    python benchmarks/results.py digits --seeds 3 --jobs 2 -o digits
    python benchmarks/results.py cifar10-small --judge resnet20-12fca82f.th -o small

Each figure is kept in OUT/ROW-SEED.json as soon as it is measured, and the runs in OUT/runs, so
that the same command continues after a kill and adds further methods or seeds. OUT/table.md has
mean ± standard deviation over the seeds, table.json every figure with the protocol, tradeoff.png
and samples.png the pictures; `--show` only writes these of what is there.

A row is a method, or one of `VARIANTS`. *FD, alike* and *score, alike* are of images that all rows
draw by the same sampler, *own* of those by each method's default; the judge is a classifier that no
row was trained with. *ECE*, *AUROC*: of the classifier; the out-of-distribution images are means
of two test images, detected by E(x) (Grathwohl et al. 2020). *Rise*: mean rise of E(x,y) in random
directions with a root mean square of eps, *worst* the largest in the ball. *E(x) - E(x^)*: x^ by
PGD-20 on the cross-entropy. *CPU s*: of training, all threads together, reading the data included.
*Passes*: images that went forward and backward in training, per image of the budget.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_figures import samples, tradeoff
from torch.nn.modules.module import register_module_forward_hook

from jeatcli import (
    Foreign,
    attack,
    classifier_scores,
    energy_landscape,
    image_scores,
    load,
    train,
)
from jeatcli.checkpoints.model import Model
from jeatcli.core.models.classifier import Classifier
from jeatcli.data.images import load_images
from jeatcli.errors import Diverged, JeatError
from jeatcli.methods import METHODS
from jeatcli.runtime.files import write_atomic
from jeatcli.training.resolve import resolve

JUDGE_SEED = 1000
TRAINING = {"digits": 1400, "cifar10": 50_000}
# The public ResNet-20 of Idelbayev, as the judge of CIFAR-10.
RESNET20 = Foreign("cifar-resnet-20", "cifar10", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast-rs": ("fast", {"variant": "rs"}),
    "fast-pgi": ("fast", {"variant": "pgi"}),
    "at+awp": ("at", {"awp": 0.005}),
}


@dataclass(frozen=True)
class Scale:
    """What is the same for all rows of a table."""

    train: dict[str, Any]  # settings of every run, beside the method, its options and the seed
    images: int  # that each run sees
    tested: int  # test images of the classifier's scores, and of each other set
    attacked: int  # test images under PGD-20
    ensemble: str  # `autoattack`, or its part `fast`
    broken: int  # test images under the ensemble
    samples: int  # images to draw, each way
    reference: str  # images to compare them with; recall needs the distances between all of them
    alike: dict[str, Any]  # how all rows draw
    around: int  # test images around which the energy is measured
    rows: tuple[str, ...]
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # of methods, at this scale

    def settings(self, row: str, seed: int) -> dict[str, Any]:
        """Return the settings of a run, on the first `images` of the data set if it has more.

        DAT spends half of the images on its first stage.
        """
        method, options = VARIANTS.get(row, (row, {}))
        size, there = self.train["batch_size"], TRAINING[self.train["dataset"]]
        if method == "dat":
            options = {"first_stage": self.images // size // 2, **options}
        steps, limit = self.images // size, min(self.images, there)
        limits = {
            "epochs": -(-steps // (limit // size)),
            "max_steps": steps,
            "limit": limit % there,
        }
        every = {"sample_every": 0, "eval_every": 0, "val_split": 0, "save_every": 60}
        options = {**self.options.get(method, {}), **options}
        return {**every, **limits, **self.train, "method": method, "seed": seed, "options": options}


EVERY_ROW = (*METHODS, *VARIANTS)
FEWER = ("standard", "at", "jeat", "jem", "prejeat", "dat", "trades", "eb-jdat")
FEWER += ("fast", "weat", "jem++")
SGLD = {"sampler": "sgld", "objective": "joint", "steps": 60, "step_size": 0.25, "noise": 0.005}
ASCENT = {"sampler": "ascent", "objective": "joint", "init": "gaussian", "steps": 60}
SCALES = {
    "digits": Scale(
        {"dataset": "digits", "arch": "small", "batch_size": 64},
        *(
            40_320,
            397,
            397,
            "fast",
            200,
            300,
            "train",
            SGLD | {"init": "uniform", "clip": 1.0},
            100,
        ),
        EVERY_ROW,
    ),
    "cifar10-small": Scale(
        {"dataset": "cifar10", "arch": "small", "batch_size": 64},
        *(50_000, 1000, 500, "fast", 500, 100, "test", ASCENT, 30),
        FEWER,
    ),
    "cifar10": Scale(
        {"dataset": "cifar10", "arch": "wrn-16-4", "batch_size": 128},
        *(1_500_000, 10_000, 10_000, "autoattack", 1000, 5000, "test", ASCENT, 200),
        EVERY_ROW,
        {name: {"chain_start": "gaussian"} for name in ("jem", "jeat")},
    ),
}
COLUMNS = {
    "clean": "clean",
    "pgd": "PGD-20",
    "autoattack": "{ensemble}",
    "fd_alike": "FD, alike",
    "score_alike": "score, alike",
    "fd_own": "FD, own",
    "score_own": "score, own",
    "ece": "ECE",
    "auroc": "AUROC",
    "rise": "rise",
    "worst": "worst",
    "delta": "E(x) - E(x^)",
    "seconds": "CPU s",
    "passes": "passes",
}


@dataclass(frozen=True)
class Job:
    """One row and seed, and what a process needs to measure it."""

    scale: Scale
    out: Path
    row: str
    seed: int
    judge: str
    data_dir: str | None
    device: str
    ensemble: bool = False  # whether to measure what takes longest, AutoAttack, too

    @property
    def path(self) -> Path:
        return self.out / f"{self.row}-{self.seed}.json"

    def run(self) -> None:
        """Train, then measure whatever is not there yet; a run that diverged as far as it got."""
        folder = self.out / "runs" / f"{self.row}-{self.seed}"
        known = read(self.path) or {"row": self.row, "seed": self.seed, "cost": []}
        if "trained" not in known:
            known |= self.train(folder, known)
            write(self.path, known)
        if not (folder / "model.safetensors").is_file():
            return
        model = load(folder, device=self.device)
        foreign = RESNET20 if Path(self.judge).suffix == ".th" else None
        judge = load(self.judge, device=self.device, foreign=foreign)
        for measure in MEASURES[: None if self.ensemble else -1]:
            if measure.__name__ not in known:
                try:
                    known[measure.__name__] = measure(self, model, judge)
                except JeatError as problem:  # such as logits that are not finite
                    known[measure.__name__] = {"failed": problem.message}
                write(self.path, known)

    def train(self, folder: Path, known: dict[str, Any]) -> dict[str, Any]:
        """Train to the end; what each call cost is kept, also of one that was interrupted."""
        config = resolve(self.scale.settings(self.row, self.seed))
        cost = {"wall": -time.perf_counter(), "cpu": -time.process_time()}
        done: dict[str, Any] = {}
        with counting() as passed:
            try:
                result = train(config, folder, data_dir=self.data_dir, device=self.device)
                done = {"trained": result.images, "metrics": result.metrics}
            except Diverged as problem:
                done = {"trained": 0, "note": problem.message}
            finally:
                cost["wall"] += time.perf_counter()
                cost["cpu"] += time.process_time()
                known["cost"].append({**cost, "passed": passed[0]})
                write(self.path, known)
        return done


@contextmanager
def counting() -> Iterator[list[int]]:
    """Count the images that go through a classifier with gradients to come."""
    passed = [0]

    def count(module: torch.nn.Module, images: Any, _: object) -> None:
        if isinstance(module, Classifier) and torch.is_grad_enabled():
            passed[0] += len(images[0])

    hook = register_module_forward_hook(count)
    try:
        yield passed
    finally:
        hook.remove()


def accuracies(job: Job, model: Model, judge: Model) -> dict[str, float]:
    """Return the accuracy under PGD-20."""
    found = attack(model, steps=20, num=job.scale.attacked, data_dir=job.data_dir)
    return {"pgd": found.robust}


def autoattack(job: Job, model: Model, judge: Model) -> dict[str, float]:
    """Return the accuracy under AutoAttack or its part."""
    scale, state = job.scale, job.out / f".attack-{job.row}-{job.seed}"
    given = {"attacks": (scale.ensemble,), "num": scale.broken, "data_dir": job.data_dir}
    return {"autoattack": attack(model, progress=state, **given).robust}


def classifier(job: Job, model: Model, judge: Model) -> dict[str, float]:
    """Return the scores of the classifier on all test images."""
    given = {"num": job.scale.tested, "data_dir": job.data_dir}
    found = classifier_scores(model, ood=(str(job.out / "means.npz"),), **given)
    assert found.calibration
    (areas,) = found.ood.values()
    return {"clean": found.accuracy, "ece": found.calibration.ece, "auroc": areas["log_density"]}


def alike(job: Job, model: Model, judge: Model) -> dict[str, Any]:
    """Return the scores of images that are drawn as in every row."""
    return drawn(job, model, judge, "alike", job.scale.alike)


def own(job: Job, model: Model, judge: Model) -> dict[str, Any]:
    """Return the scores of images that are drawn as the method does."""
    return drawn(job, model, judge, "own", {})


def drawn(
    job: Job, model: Model, judge: Model, name: str, way: Mapping[str, Any]
) -> dict[str, Any]:
    """Return Frechet distance and classifier score of images drawn in a way."""
    # The kernel distance is not reported.
    given = {"num": job.scale.samples, "seed": job.seed, "data_dir": job.data_dir}
    given |= {"kid_subsets": 1, "precision": "auto", "reference": job.scale.reference}
    found = image_scores(model, features=judge, **given, **way)
    return {f"fd_{name}": found.fid, f"score_{name}": found.inception_score} | {
        "protocol": found.protocol
    }


def landscape(job: Job, model: Model, judge: Model) -> dict[str, float]:
    """Return how far the energy rises around images, and E(x) - E(x^)."""
    look = partial(energy_landscape, [model], num=job.scale.around, data_dir=job.data_dir)
    (around,) = look(kind="sharpness", radius=(1.0,)).summary()["results"]
    (path,) = look(kind="path", steps=20, beyond=0, chain=1).summary()["results"]
    delta = path["pgd"]["start"]["marginal"] - path["pgd"]["edge"]["marginal"]
    return {"rise": around["rise"]["mean"], "worst": around["worst"]["mean"], "delta": delta}


MEASURES: tuple[Callable[[Job, Model, Model], dict[str, Any]], ...]
MEASURES = (accuracies, classifier, alike, own, landscape, autoattack)


def figures(known: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the figures of a row and seed by column; what a killed call cost is not known."""
    flat = {}
    for measure in MEASURES:
        flat |= known.get(measure.__name__, {})
    cost = known["cost"]
    if known.get("trained"):
        # The last call went to the end; if it was not the only one, its images stand for all.
        share = images / known["trained"]
        flat["passes"] = cost[-1]["passed"] / known["trained"]
        flat["seconds"] = cost[-1]["cpu"] * share
    return flat


def table(rows: Sequence[str], found: Mapping[str, list[dict[str, Any]]], scale: Scale) -> str:
    """Write mean and standard deviation over the seeds as Markdown."""
    heads = [title.format(ensemble=f"`{scale.ensemble}`") for title in COLUMNS.values()]
    lines = [f"| method | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for row in rows:
        if row in found:
            cells = [cell([one[key] for one in found[row] if key in one]) for key in COLUMNS]
            lines.append(f"| `{row}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: Sequence[float]) -> str:
    """Write mean and standard deviation with the digits that they deserve."""
    if not values:
        return "–"
    mean = statistics.mean(values)
    digits = 3 if abs(mean) < 1.5 else 2 if abs(mean) < 20 else 0
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def report(rows: Sequence[str], scale: Scale, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the table of what is there; return the figures by row."""
    known = [read(path) for row in rows for path in sorted(out.glob(f"{row}-[0-9]*.json"))]
    found: dict[str, list[dict[str, Any]]] = {}
    for one in known:
        found.setdefault(one["row"], []).append(figures(one, scale.images))
    text = table(rows, found, scale)
    write(out / "table.json", {"protocol": asdict(scale), "results": known})
    write_atomic(out / "table.md", lambda beside: beside.write_text(text + "\n"))
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def write(path: Path, value: object) -> None:
    write_atomic(path, lambda beside: beside.write_text(json.dumps(value, indent=1)))


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
