"""What is saved of a model and of a run's state, and how it is read back. Never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import devices, runs
from .datasets import dataset_facts
from .errors import JeatError
from .models import Classifier, Shape, build
from .optimize import load_optimizer_tensors, optimizer_tensors
from .paths import write_atomic
from .sgld import ClassStatistics
from .threat import Threat
from .trainer import Trainer


@dataclass(frozen=True)
class Meta:
    """What a checkpoint says of itself, in its header's one key `jeat`."""

    arch: str
    norm_layer: str
    activation: str
    dataset: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str
    options: Mapping[str, Any]
    epoch: int
    epochs: int
    finished: bool
    seed: int
    version: str = version("jeat-cli")
    schema: int = runs.SCHEMA

    @property
    def threat(self) -> Threat:
        """The threat model that the run was trained for, else the data set's customary one."""
        if "eps" in self.options:
            return Threat(self.options["norm"], self.options["eps"])
        facts = dataset_facts(self.dataset)
        return Threat("linf", facts.eps["linf"] if facts else 8 / 255)


@dataclass(frozen=True)
class Model:
    """A trained classifier, ready to be used.

    Args:
        classifier: In eval mode, float32, its weights frozen.
        meta: What the checkpoint says of itself.
        statistics: Of the training images, by class, on the classifier's device.
        path: The file that it came from.
    """

    classifier: Classifier
    meta: Meta
    statistics: ClassStatistics
    path: Path

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.classifier.parameters()).device

    @property
    def name(self) -> str:
        """The run's name, or the file's."""
        inside = self.path.name == runs.MODEL_FILE
        return self.path.resolve().parent.name if inside else self.path.stem

    @property
    def directory(self) -> Path:
        """Where the results for this model belong."""
        return self.path.parent


def network(meta: Meta) -> Classifier:
    """Build the classifier that a header describes, its weights not yet loaded."""
    shape = Shape(meta.shape, len(meta.classes), meta.norm_layer, meta.activation)
    net = Classifier(build(meta.arch, shape), meta.mean, meta.std)
    return net.to(memory_format=torch.channels_last)


def save_model(path: Path, classifier: Classifier, meta: Meta, statistics: ClassStatistics) -> None:
    """Write weights, class statistics and header as one safetensors file, atomically."""
    tensors = {f"classifier.{key}": value for key, value in classifier.state_dict().items()}
    tensors |= {
        "statistics.mean": statistics.mean.half(),
        "statistics.factor": statistics.factor.half(),
        "statistics.ridge": statistics.ridge,
    }
    _save(path, tensors, asdict(meta))


def load(run: str | Path | None = None, *, device: str = "auto") -> Model:
    """Load the model of a run.

    Args:
        run: A run's name, a path to a run or a `.safetensors` file; None is the latest finished.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        JeatError: If there is none, or the file is damaged or not a jeat checkpoint.
    """
    path = runs.resolve(run)
    header = runs.read_header(path)
    meta = _meta(path, header)
    place = devices.pick(device)
    tensors = _read(path)
    classifier = network(meta)
    try:
        classifier.load_state_dict(_under("classifier.", tensors))
        parts = _under("statistics.", tensors)
        statistics = ClassStatistics(
            parts["mean"].float(), parts["factor"].float(), parts["ridge"].float()
        )
    except (RuntimeError, KeyError) as problem:
        reason = str(problem).strip().splitlines()[-1].strip()
        raise JeatError(
            f"`{path}` does not fit its own header: {reason}", "copy the file again"
        ) from problem
    classifier = classifier.eval().requires_grad_(False).to(place)
    return Model(classifier, meta, statistics.to(place), path)


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
    """Write all that an exact resume needs, atomically.

    Args:
        path: The state file.
        trainer: Between two steps.
        extra: Tensors of the callbacks.
    """
    parts: dict[str, Mapping[str, Tensor]] = {
        "model": trainer.model.state_dict(),
        "average": trainer.average.model.state_dict(),
        "optimizer": dict(optimizer_tensors(trainer.optimizer)),
        "method": trainer.method.state(),
        "extra": extra,
    }
    tensors = {
        f"{part}.{key}": value for part, each in parts.items() for key, value in each.items()
    }
    header = {"step": trainer.step, "attempt": trainer.attempt}
    _save(path, tensors, {**header, "schema": runs.SCHEMA, "version": version("jeat-cli")})


def load_state(path: Path, trainer: Trainer) -> dict[str, Tensor]:
    """Put a trainer where `save_state` found one; return the callbacks' tensors.

    Raises:
        JeatError: If the file is damaged or is another run's.
    """
    start_over = "start over with `--force`, which keeps the old run beside the new one"
    try:
        header = runs.read_header(path)
    except runs.CutShort as problem:
        raise JeatError(problem.message, f"copy it again, or {start_over}") from problem
    tensors = _read(path, next(trainer.model.parameters()).device)
    try:
        trainer.model.load_state_dict(_under("model.", tensors))
        trainer.average.model.load_state_dict(_under("average.", tensors))
        load_optimizer_tensors(trainer.optimizer, _under("optimizer.", tensors))
        trainer.method.load_state(_under("method.", tensors))
        trainer.step, trainer.attempt = int(header["step"]), int(header["attempt"])
    except (RuntimeError, KeyError, ValueError) as problem:
        raise JeatError(f"`{path}` does not fit this run: {problem}", start_over) from problem
    return _under("extra.", tensors)


def _save(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    plain = {key: value.detach().contiguous() for key, value in tensors.items()}
    metadata = {"jeat": json.dumps(header)}
    write_atomic(path, lambda beside: save_file(plain, beside, metadata))


def _read(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as handle:
            return {key: handle.get_tensor(key) for key in sorted(handle.keys())}
    except Exception as problem:
        raise JeatError(
            f"cannot read `{path}`: {problem}", "the file is damaged: copy it again"
        ) from problem


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
