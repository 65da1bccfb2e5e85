"""Clean and robust accuracy of a model: the worst case over attacks and restarts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..data.images import Images, to_unit_range
from ..runtime import devices
from ..runtime.digests import digest, tensor_digest
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Reporter
from . import checks
from .agenda import arrange
from .attacks.attack import Attack
from .batch_size import fitting
from .checks import Symptom
from .evaluator import Trial
from .journal import Journal
from .result import Robustness, save_images
from .subset import mixed

# So many images are enough to see what is wrong with a network.
_EXAMINED = 100


def attack(
    run: str | Path | Model | None = None,
    *,
    attacks: Sequence[str] = ("pgd",),
    objective: str | None = None,
    norm: str | None = None,
    eps: float | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    restarts: int | None = None,
    queries: int | None = None,
    num: int | None = None,
    indices: Path | None = None,
    only: str | int | None = None,
    target: str | int | None = None,
    transfer_from: str | Path | Model | None = None,
    foreign: Foreign | None = None,
    exact: bool = False,
    compiled: bool | None = None,
    batch_size: int | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Path | None = None,
    keep_progress: bool = False,
    images_to: Path | None = None,
    reporter: Reporter = SILENT,
) -> Robustness:
    """Measure clean and robust accuracy on the test images.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        attacks: Names of files of `attacks/`, run in turn on the images still robust.
        objective, steps, step_size, restarts, queries: Options of the attacks that have them;
            None is what the attack's file says.
        norm, eps: The threat model; by default the one that the run was trained for.
        num: Use the first so many test images; None is all, or 1,000 on a CPU.
        indices: A file with the places in the test set of the images to use.
        only: The class whose images are used, by name or index.
        target: A class, by name or index, that the attacks are to reach; its own images are
            then left out.
        transfer_from: Another model, which the attacks see in the place of this one.
        foreign: What the model is, if `jeat train` did not write it.
        exact: Search in float32; without it in bfloat16 where the processor has it. Every
            success is confirmed in float32 either way.
        compiled: Let torch compile the network that is searched on: minutes at the start, faster
            steps after them, the same numbers to rounding.
        batch_size: Images at a time; None is what the device has room for.
        data_dir: Where the data sets are.
        device: Where to compute.
        seed: Of the random starts, which depend on the image and not on the batch.
        progress: A directory that keeps the progress meanwhile, so that a call which was killed
            goes on where it was, to the same result.
        keep_progress: Leave the progress there at the end, for a caller who has more to do and
            removes it by `journal.Journal(progress, result.key).remove()`.
        images_to: Write the adversarial images as this `.safetensors` file.
        reporter: Listens to the progress.

    Raises:
        JeatError: If the run, the data or a setting is at fault.
    """
    began = time.perf_counter()
    given = [run] if transfer_from is None else [run, transfer_from]
    model, *others = load_each(given, device=device, foreign=foreign, reporter=reporter)
    agenda = arrange(
        model,
        others[0] if others else None,
        attacks=attacks,
        objective=objective,
        norm=norm,
        eps=eps,
        steps=steps,
        step_size=step_size,
        restarts=restarts,
        queries=queries,
        num=num,
        indices=indices,
        only=only,
        target=target,
        data_dir=data_dir,
        seed=seed,
        reporter=reporter,
    )
    ranks = current()
    # Every process as the first does: what these measure may differ from device to device.
    size, dtype = ranks.from_main(
        lambda: (
            batch_size
            or min(fitting(m.classifier, m.meta.shape, m.device) for m in (model, *others)),
            devices.autocast_type("fp32" if exact else "auto", model.device),
        )
    )
    trial = Trial(
        model.classifier,
        agenda.images,
        agenda.places,
        agenda.plan,
        agenda.aim,
        size,
        batch_size is not None,
        dtype,
        bool(compiled),
        others[0].classifier if others else None,
        keep=images_to is not None,
        reporter=reporter,
    )
    key = _key([model, *others], trial, agenda.chosen, exact)
    trial.journal = Journal(progress, key) if progress and ranks.is_main else None
    some = mixed(agenda.everything, min(size, _EXAMINED)).to(model.device)
    found = _examined(trial, agenda.chosen, some) | {
        "attacks": tuple(attacks),
        "transfer_from": others[0].name if others else None,
        "key": key,
    }
    result = _result(model, trial, found, time.perf_counter() - began)
    if images_to is not None and ranks.is_main:
        assert trial.ledger.images is not None
        save_images(result, trial.ledger.images, trial.images.y, images_to)
    if trial.ledger.journal and not keep_progress:
        trial.ledger.journal.remove()
    return result


def _result(model: Model, trial: Trial, found: dict[str, Any], seconds: float) -> Robustness:
    """Add to what was found of whom, by what and on what it was."""
    return Robustness(
        run=model.name,
        dataset=model.meta.dataset,
        method=model.meta.method,
        norm=trial.plan.threat.norm,
        eps=trial.plan.threat.eps,
        target=None if trial.aim is None else model.meta.classes[trial.aim],
        search=devices.precision_name(trial.dtype),
        seconds=seconds,
        device=str(model.device),
        seed=trial.plan.seed,
        version=version("jeat-cli"),
        **found,
    )


def _examined(trial: Trial, chosen: Sequence[Attack], some: Images) -> dict[str, Any]:
    """Run the attacks, and look for reasons to doubt the outcome before and after: `warnings`."""
    x, y = to_unit_range(some.x), some.y
    doubts = checks.before(trial.classifier, x, y, trial.plan.threat, chosen)
    _warn(doubts, trial.reporter)
    found = trial.run(chosen)
    later = checks.after(found["per_attack"], transferred=trial.source is not None)
    _warn(later, trial.reporter)
    return found | {"warnings": [asdict(doubt) for doubt in (*doubts, *later)]}


def _warn(doubts: Sequence[Symptom], reporter: Reporter) -> None:
    for doubt in doubts:
        reporter.warn(str(doubt))


def _key(models: Sequence[Model], trial: Trial, chosen: Sequence[Attack], exact: bool) -> str:
    """Return the digest of everything that the verdicts depend on, but for rounding."""
    return digest(
        models=[each.fingerprint for each in models],
        attacks=[(each.name, each.options) for each in chosen],
        plan=asdict(trial.plan),
        images=tensor_digest(trial.images.x, trial.images.y, trial.places),
        aim=trial.aim,
        exact=exact,
        compiled=trial.compiled,
        keep=trial.keep,
        device=trial.images.x.device.type,
    )
