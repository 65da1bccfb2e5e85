"""What is saved of a model and of a run's state, and how it is read back. Never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..core.models.classifier import Classifier
from ..core.sgld import ClassStatistics
from ..errors import JeatError, UsageProblem
from ..runtime import devices
from ..runtime.files import write_atomic
from ..runtime.progress import SILENT, Reporter
from ..training.optimize import load_optimizer_tensors, optimizer_tensors
from ..training.trainer import Trainer
from . import foreign as adoption
from . import runs
from .model import Meta, Model, network
from .settings import Foreign

__all__ = [
    "Meta",
    "Model",
    "load",
    "load_each",
    "load_state",
    "network",
    "refuse_unused",
    "save_model",
    "save_state",
]


def save_model(path: Path, classifier: Classifier, meta: Meta, statistics: ClassStatistics) -> None:
    """Write weights, class statistics and header as one safetensors file, atomically."""
    tensors = {f"classifier.{key}": value for key, value in classifier.state_dict().items()}
    tensors |= {
        "statistics.mean": statistics.mean.half(),
        "statistics.factor": statistics.factor.half(),
        "statistics.ridge": statistics.ridge,
    }
    write_tensors(path, tensors, asdict(meta))


def load(
    run: str | Path | None = None,
    *,
    device: str = "auto",
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
) -> Model:
    """Load the model of a run, or somebody else's.

    Args:
        run: A run's name, a path to a run or to a file; None is the latest finished run.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        foreign: What a checkpoint is that `jeat train` did not write.
        reporter: Hears what was decided for such a checkpoint.

    Raises:
        JeatError: If there is none, or the file is damaged, would run code, or does not fit.
        UsageProblem: If the checkpoint needs a description and has none, or the reverse.
    """
    return load_each([run], device=device, foreign=foreign, reporter=reporter)[0]


def load_each(
    chosen: Sequence[str | Path | Model | None],
    *,
    device: str = "auto",
    foreign: Foreign | None = None,
    reporter: Reporter = SILENT,
) -> list[Model]:
    """Load several models, as `load` does; `foreign` describes each that is somebody else's.

    Args:
        chosen: What `load` takes, or models, which stay as they are.

    Raises:
        JeatError: As `load`.
    """
    place = devices.pick(device)
    models = [
        each if isinstance(each, Model) else _load(runs.resolve(each), place, foreign, reporter)
        for each in chosen
    ]
    refuse_unused(foreign, *models)
    return models


def refuse_unused(foreign: Foreign | None, *models: Model) -> None:
    """Refuse a description of somebody else's checkpoint that no model needed.

    Raises:
        UsageProblem: Naming a checkpoint that says itself what it is.
    """
    if foreign is None or any(model.foreign for model in models):
        return
    ours = f"`{models[0].path}` was written by `jeat train`, and says itself what it is"
    raise UsageProblem(
        ours if models else "there is no checkpoint of others to be described",
        "leave out the options that describe one, such as `--arch`",
    )


def _load(path: Path, device: torch.device, foreign: Foreign | None, reporter: Reporter) -> Model:
    try:
        header = runs.read_header(path)
    except runs.NotOurs:
        return adoption.adopt(path, foreign, device, reporter)
    return _ours(path, header, device)


def _ours(path: Path, header: dict[str, Any], device: torch.device) -> Model:
    meta = _meta(path, header)
    tensors = read_tensors(path)
    classifier = network(meta)
    try:
        classifier.load_state_dict(under_prefix("classifier.", tensors))
        parts = under_prefix("statistics.", tensors)
        statistics = ClassStatistics(
            parts["mean"].float(), parts["factor"].float(), parts["ridge"].float()
        )
    except (RuntimeError, KeyError) as problem:
        reason = str(problem).strip().splitlines()[-1].strip()
        raise JeatError(
            f"`{path}` does not fit its own header: {reason}", "copy the file again"
        ) from problem
    classifier = classifier.eval().requires_grad_(False).to(device)
    return Model(classifier, meta, statistics.to(device), path)


def _meta(path: Path, header: dict[str, Any]) -> Meta:
    if "step" in header:
        raise JeatError(
            f"`{path}` is the state of a training run, not its model",
            f"name the `{runs.MODEL_FILE}` beside it",
        )
    try:
        lists = {key: tuple(header[key]) for key in ("classes", "shape", "mean", "std")}
        return Meta(**{**header, **lists})
    except (KeyError, TypeError) as problem:
        raise JeatError(
            f"the header of `{path}` lacks something: {problem}", "copy the file again"
        ) from problem


def save_state(path: Path, trainer: Trainer, extra: Mapping[str, Tensor]) -> None:
    """Write all that an exact resume needs, atomically; where there are ranks, the first does.

    Args:
        path: The state file.
        trainer: Between two steps.
        extra: Tensors of the callbacks.
    """
    parts: dict[str, Mapping[str, Tensor]] = {
        "model": trainer.model.state_dict(),
        "average": trainer.average.model.state_dict(),
        "optimizer": dict(optimizer_tensors(trainer.optimizer)),
        "method": _whole(trainer),
        "extra": extra,
    }
    if not trainer.ranks.leader:
        return
    tensors = {
        f"{part}.{key}": value for part, each in parts.items() for key, value in each.items()
    }
    images = trainer.loader.images.digest
    header = {"step": trainer.step, "attempt": trainer.attempt, "images": images}
    write_tensors(path, tensors, {**header, "schema": runs.SCHEMA, "version": version("jeat-cli")})


def load_state(path: Path, trainer: Trainer) -> dict[str, Tensor]:
    """Put a trainer where `save_state` found one; return the callbacks' tensors.

    Raises:
        JeatError: If the file is damaged or is another run's.
    """
    start_over = "start over with `--force`, which keeps the old run beside the new one"
    try:
        header = runs.read_header(path)
    except runs.CutShort as problem:
        raise JeatError(problem.message, f"{_one_before(path)}, or {start_over}") from problem
    images = trainer.loader.images.digest
    if header.get("images", images) != images:
        raise JeatError(
            f"the images of `{trainer.config.dataset}` are not those that `{path.parent}` was "
            "begun on",
            f"put those back, or {start_over}",
        )
    # To the CPU first, for Apple's devices have no float64; each goes where its like is.
    tensors = read_tensors(path)
    try:
        trainer.model.load_state_dict(under_prefix("model.", tensors))
        trainer.average.model.load_state_dict(under_prefix("average.", tensors))
        load_optimizer_tensors(trainer.optimizer, under_prefix("optimizer.", tensors))
        trainer.method.load_state(_part(trainer, under_prefix("method.", tensors)))
        trainer.step, trainer.attempt = int(header["step"]), int(header["attempt"])
    except (RuntimeError, KeyError, ValueError) as problem:
        raise JeatError(f"`{path}` does not fit this run: {problem}", start_over) from problem
    return under_prefix("extra.", tensors)


def _one_before(path: Path) -> str:
    """Say what to do about a state that is cut short."""
    before = path.with_name(runs.STATE_BEFORE_FILE)
    if before != path and before.is_file():
        return f"go back to the save before by `mv {before} {path}`"
    return "copy it again"


def _whole(trainer: Trainer) -> dict[str, Tensor]:
    """Return the method's tensors, the images that each rank has of its own put together."""
    state = trainer.method.state()
    own = {key: trainer.ranks.gather(state[key]) for key in trainer.method.per_rank}
    return state | own


def _part(trainer: Trainer, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return this rank's part of what `_whole` put together, however many ranks there were."""
    own = trainer.method.state()
    for key in trainer.method.per_rank:
        if key in state:
            count = len(own[key])
            rows = torch.arange(count, device=state[key].device) + trainer.ranks.rank * count
            state[key] = state[key][rows % len(state[key])]
    return state


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    plain = {key: value.detach().contiguous() for key, value in tensors.items()}
    metadata = {"jeat": json.dumps(header)}
    write_atomic(path, lambda beside: save_file(plain, beside, metadata))


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as handle:
            return {key: handle.get_tensor(key) for key in sorted(handle.keys())}
    except Exception as problem:
        raise JeatError(
            f"cannot read `{path}`: {problem}", "the file is damaged: copy it again"
        ) from problem


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
