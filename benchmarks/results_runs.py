"""One run of `results.py`: trained, then measured; each figure is kept as soon as it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from results_scales import Scale
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
from jeatcli.errors import Diverged, JeatError
from jeatcli.runtime.files import write_atomic
from jeatcli.training.resolve import resolve

# The public ResNet-20 of Idelbayev, as the judge of CIFAR-10.
RESNET20 = Foreign("cifar-resnet-20", "cifar10", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
    given: dict[str, Any] = {
        "attacks": (scale.ensemble,),
        "num": scale.broken,
        "data_dir": job.data_dir,
    }
    return {"autoattack": attack(model, progress=state, **given).robust}


def classifier(job: Job, model: Model, judge: Model) -> dict[str, float]:
    """Return the scores of the classifier on all test images."""
    given: dict[str, Any] = {"num": job.scale.tested, "data_dir": job.data_dir}
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
    given: dict[str, Any] = {"num": job.scale.samples, "seed": job.seed, "data_dir": job.data_dir}
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


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def write(path: Path, value: object) -> None:
    write_atomic(path, lambda beside: beside.write_text(json.dumps(value, indent=1)))
