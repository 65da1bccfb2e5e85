"""Clean and robust accuracy: the worst case over attacks and restarts, image by image."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import attacks as registry
from . import data, pgd
from .attacks import Plan
from .attacks._base import Batch
from .checkpoint import Model, load_each
from .datasets import dataset_facts
from .errors import JeatError, UsageProblem, unknown
from .foreign import Foreign
from .models import Classifier
from .paths import write_atomic
from .reporting import SILENT, Reporter
from .threat import NORMS, Threat

CPU_IMAGES = 1000


@dataclass(frozen=True)
class Robustness:
    """What `attack` found; accuracies are fractions of all n images.

    Args:
        run: The model's name.
        dataset: Whose test images were attacked, the first n in order.
        method: That trained the model, or `foreign`.
        n: Number of images.
        clean: Share that is classified correctly.
        robust: Share that is classified correctly and that no attack broke.
        norm, eps: The threat model, in the [0, 1] pixel scale.
        objective: What the attacks raise.
        target: The class that the attacks aim at, or None.
        per_attack: For each attack in turn: `robust` after it, `broken` images, `seconds`, and
            its settings. An attack sees only the images that those before it left.
        seconds, device, seed, version: Of the computation.
        samples: Per image: `correct`, and `broken_by` with the attack's name or None.
    """

    run: str
    dataset: str
    method: str
    n: int
    clean: float
    robust: float
    norm: str
    eps: float
    objective: str
    target: str | None
    per_attack: dict[str, dict[str, Any]]
    seconds: float
    device: str
    seed: int
    version: str
    samples: dict[str, list[Any]]


def attack(
    run: str | Path | Model | None = None,
    *,
    attacks: Sequence[str] = ("pgd",),
    objective: str = "ce",
    norm: str | None = None,
    eps: float | None = None,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    num: int | None = None,
    target: str | int | None = None,
    foreign: Foreign | None = None,
    batch_size: int = 256,
    data_dir: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Robustness:
    """Measure clean and robust accuracy on the test images, in float32.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        attacks: Names of files of `attacks/`, run in turn on the images still robust.
        objective: What they raise, one of `pgd.OBJECTIVES`.
        norm, eps: The threat model; by default the one that the run was trained for.
        steps, step_size, restarts: Of iterative attacks.
        num: Use the first so many test images; None is all, or 1,000 on a CPU.
        target: A class, by name or index, that the attacks are to reach; its own images are
            then left out.
        foreign: What the model is, if `jeat train` did not write it.
        batch_size: Images at a time.
        data_dir: Where the data sets are.
        device: Where to compute.
        seed: Of the random starts, which depend on the image and not on the batch.
        reporter: Listens to the progress.

    Raises:
        JeatError: If the run, the data or a setting is at fault.
    """
    began = time.perf_counter()
    (model,) = load_each([run], device=device, foreign=foreign, reporter=reporter)
    plan = Plan(_threat(model, norm, eps), objective, steps, step_size, restarts, seed)
    images = data.load(model.meta.dataset, "test", data_dir=data_dir, reporter=reporter)
    _fits(model, images)
    images = images.to(model.device).first(_count(num, len(images), model.device, reporter))
    aim = None if target is None else class_index(target, model.meta.classes)
    result = judge(model.classifier, images, attacks, plan, aim, batch_size, reporter)
    return Robustness(
        run=model.name,
        dataset=model.meta.dataset,
        method=model.meta.method,
        norm=plan.threat.norm,
        eps=plan.threat.eps,
        objective=objective,
        target=None if aim is None else model.meta.classes[aim],
        seconds=time.perf_counter() - began,
        device=str(model.device),
        seed=seed,
        version=version("jeat-cli"),
        **result,
    )


def judge(
    classifier: Classifier,
    images: data.Images,
    attacks: Sequence[str],
    plan: Plan,
    aim: int | None = None,
    batch_size: int = 256,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Run attacks in turn on the images that are still robust, and count.

    Returns:
        `n`, `clean`, `robust`, `per_attack` and `samples` as in `Robustness`.
    """
    needed = pgd.least_classes(plan.objective, aim is not None)
    if len(images.classes) < needed:
        raise UsageProblem(
            f"objective `{plan.objective}` needs {needed} classes; there are {len(images.classes)}",
            "use `--objective margin`",
        )
    perturbs = {name: registry.get(name) for name in attacks}
    if aim is not None:
        keep = images.y != aim
        images = data.Images(images.name, images.x[keep], images.y[keep], images.classes)
    if not (count := len(images)):
        raise UsageProblem("all the images are of the target class", "give more by `-n`")
    correct = _correct(classifier, images, batch_size)
    broken_by: list[str | None] = [None] * count
    robust = correct.clone()
    per_attack: dict[str, dict[str, Any]] = {}
    for name, perturb in perturbs.items():
        began, before = time.perf_counter(), int(robust.sum())
        left = robust.nonzero().squeeze(1)
        with reporter.track(f"attack {name}", len(left)) as bar:
            # Of nothing at all torch makes one empty part.
            for index in torch.split(left, batch_size) if len(left) else ():
                batch = _batch(images, index, aim)
                moved = perturb(classifier, batch, plan)
                _verify(name, batch, moved, plan.threat)
                fallen = index[batch.broken(classifier, moved)]
                robust[fallen] = False
                for place in fallen.tolist():
                    broken_by[place] = name
                bar(len(index), robust=float(robust.sum()) / count)
        per_attack[name] = {
            "robust": int(robust.sum()) / count,
            "broken": before - int(robust.sum()),
            "seconds": time.perf_counter() - began,
            **_settings(name, plan),
        }
    return {
        "n": count,
        "clean": int(correct.sum()) / count,
        "robust": int(robust.sum()) / count,
        "per_attack": per_attack,
        "samples": {"correct": correct.tolist(), "broken_by": broken_by},
    }


def save(result: Robustness, folder: Path) -> Path:
    """Write the result as `attack.json` into the model's directory."""
    text = json.dumps(asdict(result), indent=1)
    return write_atomic(folder / "attack.json", lambda beside: beside.write_text(text))


def class_index(name: str | int, classes: Sequence[str]) -> int:
    """Return the index of a class given by name or index.

    Raises:
        UsageProblem: If there is none, with the nearest name.
    """
    text = str(name)
    if text in classes:
        return list(classes).index(text)
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    by_index = [] if classes[0].isdigit() else [f"0..{len(classes) - 1}"]
    raise unknown("class", text, [*classes, *by_index])


def _settings(name: str, plan: Plan) -> dict[str, Any]:
    if name == "fgsm":
        return {"steps": 1, "step_size": plan.threat.eps, "restarts": 1}
    return {
        "steps": plan.steps,
        "step_size": plan.resolved_step_size,
        "restarts": plan.restarts,
    }


def _threat(model: Model, norm: str | None, eps: float | None) -> Threat:
    """Return the threat model: what is given, else what the run was trained for."""
    trained = model.meta.threat
    norm = norm or trained.norm
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if eps is not None:
        return Threat(norm, eps)
    if norm == trained.norm:
        return trained
    facts = dataset_facts(model.meta.dataset)
    usual = facts.eps if facts else {"linf": 8 / 255, "l2": 0.5}
    return Threat(norm, usual[norm])


def _count(num: int | None, available: int, device: torch.device, reporter: Reporter) -> int:
    if num is None:
        if device.type == "cpu" and available > CPU_IMAGES:
            reporter.say(f"on a CPU the first {CPU_IMAGES:,} of {available:,} test images are used")
            return CPU_IMAGES
        return available
    if not 1 <= num <= available:
        raise UsageProblem(f"there are {available:,} test images, not {num:,}", "give `-n` less")
    return num


def _fits(model: Model, images: data.Images) -> None:
    if images.shape != model.meta.shape or len(images.classes) != len(model.meta.classes):
        raise JeatError(
            f"`{model.name}` was trained on {model.meta.shape} images of "
            f"{len(model.meta.classes)} classes, but `{images.name}` has {images.shape} of "
            f"{len(images.classes)}",
            "the data set on disk is not the one of the run",
        )


def _batch(images: data.Images, index: Tensor, aim: int | None) -> Batch:
    x, y = data.unit(images.x[index]), images.y[index]
    return Batch(x, y, None if aim is None else torch.full_like(y, aim), index)


@torch.no_grad()
def _correct(classifier: Classifier, images: data.Images, batch_size: int) -> Tensor:
    flags = [classifier(x).argmax(1) == y for x, y in data.batches(images, batch_size)]
    return torch.cat(flags)


def _verify(name: str, batch: Batch, moved: Tensor, threat: Threat) -> None:
    """Check that an attack kept to its ball and to [0, 1].

    Raises:
        JeatError: If it did not; the result would be worthless.
    """
    distance = pgd.ball(threat).distance(moved, batch.x).max().item()
    inside = bool(((moved >= 0) & (moved <= 1)).all())
    # False for NaN, too. The slack is float32's rounding on the way to the ball and back.
    if not (distance <= threat.eps + 1e-6 * max(1.0, threat.eps) and inside):
        raise JeatError(
            f"attack `{name}` left its ball: distance {distance:g} for {threat}",
            "this is a fault of jeat; please report it",
        )
