"""A training run from its configuration to its directory: new, resumed, or refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from . import checkpoint, data, devices, methods, runs
from .attacks import Plan
from .callbacks import Evaluation, Grids, Log, RanAway, Saver, Stop
from .checkpoint import Meta, Model
from .config import TrainConfig, differing, read_config, to_toml
from .datasets import DatasetFacts, dataset_facts
from .errors import Diverged, JeatError
from .paths import check_writable, write_atomic
from .randomness import mix
from .reporting import SILENT, Reporter
from .sgld import ClassStatistics
from .trainer import Callback, Trainer

EVALUATED = 500


@dataclass(frozen=True)
class TrainResult:
    """What `train` did.

    Args:
        run: The run's directory.
        epochs: That the run has behind it.
        images: That the network has seen, all attempts of this call counted.
        seconds: Of this call.
        metrics: The last line of `metrics.jsonl`.
        device, precision, seed, version: Of the computation.
        already_done: Whether there was nothing left to do.
    """

    run: str
    epochs: int
    images: int
    seconds: float
    metrics: dict[str, Any]
    device: str
    precision: str
    seed: int
    version: str
    already_done: bool = False


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train a run to its end, from where it is.

    Args:
        config: Every setting (`config.resolve`).
        out: The run's name or path; by default `DATASET-METHOD-ARCH` in the runs directory.
        data_dir: Where the data sets are.
        device: Where to compute.
        force: Start over, even if the run is there with other settings; the old one is kept
            beside it, as `NAME~1`.
        should_stop: Asked after every step; True saves and raises `Interrupted`.
        reporter: Listens to the progress.

    Raises:
        JeatError: If the run is there with other settings, or data or device are at fault.
        Diverged: If the run ran away more often than `config.retries`.
        Interrupted: If it was stopped.
    """
    began = time.perf_counter()
    folder = runs.place(out or run_name(config))
    if not folder.is_dir():
        check_writable(folder / runs.CONFIG_FILE)
    place = devices.pick(device)
    config = _open(folder, config, force)
    config = _with_precision(config, place)
    epochs = None if force else _done(folder)
    seen, last = 0, _last_line(folder)
    if already_done := epochs is not None:
        reporter.say(f"`{folder}` is done; `--force` starts it over")
    else:
        stage = _Stage(config, folder, place, data_dir, should_stop, reporter)
        _create(folder, config, force)
        with _locked(folder):
            seen = stage.run()
        epochs, last = stage.trainer.epoch, stage.last
    return TrainResult(
        run=str(folder),
        epochs=epochs or 0,
        images=seen,
        seconds=time.perf_counter() - began,
        metrics=last,
        device=str(place),
        precision=config.precision,
        seed=config.seed,
        version=version("jeat-cli"),
        already_done=already_done,
    )


def _with_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Return the configuration with `auto` replaced by what this device does best."""
    dtype = devices.autocast_type(config.precision, device)
    return replace(config, precision=devices.precision_name(dtype))


def run_name(config: TrainConfig) -> str:
    """Return the name of a run that was given none."""
    dataset = config.dataset
    if dataset.startswith("folder:"):
        dataset = Path(dataset.removeprefix("folder:")).expanduser().resolve().name
    return f"{dataset}-{config.method}-{config.arch}".replace(".", "_")


@dataclass
class _Stage:
    """One call of `train`, once it is known that there is something to do."""

    config: TrainConfig
    folder: Path
    device: torch.device
    data_dir: str | Path | None
    should_stop: Callable[[], bool]
    reporter: Reporter

    def __post_init__(self) -> None:
        limit = self.config.limit or None
        read = partial(
            data.load, self.config.dataset, data_dir=self.data_dir, reporter=self.reporter
        )
        images, test = read("train", limit=limit), read("test")
        self.test = test.first(min(EVALUATED, len(test))).to(self.device)
        self.statistics = ClassStatistics.measure(images.x, images.y, len(images.classes))
        self.facts = dataset_facts(self.config.dataset)
        self.mean, self.std = _pixel_statistics(self.facts, images)
        self.images = images.to(self.device)
        self.trainer = self._trainer()
        self.last: dict[str, Any] = {}

    def _trainer(self) -> Trainer:
        config = self.config
        meta = self.describe(None)
        # Layers draw their first weights from torch's global generator, which is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(config.seed, 0))
            classifier = checkpoint.network(meta).to(self.device)
        classifier.autocast = devices.autocast_type(config.precision, self.device)
        method = methods.make(config.method, config.options)
        method.setup(methods.Scene(meta.shape, self.statistics, self.device, config.seed))
        augment = self.facts is None or self.facts.augment
        loader = data.Loader(self.images, config.batch_size, augment=augment, seed=config.seed)
        return Trainer(config, classifier, method, loader)

    def describe(self, trainer: Trainer | None) -> Meta:
        """Return the header of the model as it is."""
        config = self.config
        return Meta(
            arch=config.arch,
            norm_layer=config.norm_layer,
            activation=config.activation,
            dataset=config.dataset,
            classes=self.images.classes,
            shape=self.images.shape,
            mean=self.mean,
            std=self.std,
            method=config.method,
            options=config.options,
            epoch=trainer.epoch if trainer else 0,
            epochs=config.epochs,
            finished=trainer.finished if trainer else False,
            seed=config.seed,
        )

    def model(self, trainer: Trainer) -> Model:
        """Return the averaged model as it is, for sampling."""
        meta, path = self.describe(trainer), self.folder / runs.MODEL_FILE
        return Model(trainer.average.model, meta, self.statistics.to(self.device), path)

    def run(self) -> int:
        """Train to the end; return how many images the network saw."""
        steps, size = self.config.epochs * len(self.trainer.loader), self.config.batch_size
        saver = Saver(
            self.folder, self.describe, self.statistics, Log(self.folder), self.config.save_every
        )
        if (self.folder / runs.STATE_FILE).exists():
            saver.load_state(self.trainer)
            self.reporter.say(f"going on with `{self.folder}` from step {self.trainer.step:,}")
        else:
            saver.save_state(self.trainer)
        if self.trainer.finished:  # the state is there but its model is lost or damaged
            saver.save_model(self.trainer)
        label, done = f"train {self.config.method}", self.trainer.step
        with self.reporter.track(label, steps * size, done=done * size) as saver.log.bar:
            return self._survive(saver)

    def _survive(self, saver: Saver) -> int:
        """Train; where the run runs away, go back to the last good state, at half the rate."""
        around, seen = self._callbacks(saver), 0
        while True:
            first = self.trainer.step
            try:
                self.trainer.fit(around)
                self.last = _last_line(self.folder)
                return seen + (self.trainer.step - first) * self.config.batch_size
            except RanAway as reason:
                seen += (self.trainer.step - first) * self.config.batch_size
                self._go_back(saver, str(reason))

    def _go_back(self, saver: Saver, reason: str) -> None:
        trainer, at = self.trainer, self.trainer.step
        attempt = trainer.attempt + 1
        event = {"event": "diverged", "step": at, "attempt": attempt, "reason": reason}
        saver.load_state(trainer)
        saver.log.write({**event, "step": trainer.step, "diverged_at": at})
        if attempt > self.config.retries:
            raise Diverged(
                f"training ran away at step {at:,} ({reason}), {attempt} times in all; "
                f"the last good state is kept in `{self.folder}`",
                "try a lower `--lr` or `--sgld-step-size`, or more `-O energy_l2=0.1`",
            )
        trainer.attempt = attempt
        self.reporter.warn(
            f"training ran away at step {at:,} ({reason}); "
            f"back to step {trainer.step:,} with a new seed and half the rate"
        )

    def _callbacks(self, saver: Saver) -> Sequence[Callback]:
        """Return what happens around the loop, in this order."""
        threat = self.describe(None).threat
        plan = Plan(threat, steps=10, seed=self.config.seed)
        return [
            saver.guard,
            Evaluation(self.test, plan, self.config.eval_every, saver.log),
            Grids(self.folder, self.model, self.config.sample_every),
            saver.log,
            saver,
            Stop(self.should_stop, saver),
        ]


def _open(folder: Path, config: TrainConfig, force: bool) -> TrainConfig:
    """Compare the run that may be in `folder` with `config`.

    Raises:
        JeatError: If another run is there, with the settings that differ.
    """
    if force or not folder.exists() or not any(folder.iterdir()):
        return config
    if not (folder / runs.CONFIG_FILE).is_file():
        raise JeatError(
            f"`{folder}` exists and is no run: it has no `config.toml`",
            "name another place with `-o`, or move it aside and start there with `--force`",
        )
    theirs = read_config(folder / runs.CONFIG_FILE)
    if keys := differing(config, theirs):
        raise JeatError(
            f"`{folder}` is a run with another {_list(keys)}",
            f"go on with it by `jeat train -c {folder}/config.toml -o {folder}`, "
            "start another with `-o NAME`, or start this one over with `--force`",
        )
    return replace(config, precision=theirs.precision)


def _list(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def _create(folder: Path, config: TrainConfig, force: bool) -> None:
    """Make the run's directory and write its configuration, the old run moved aside."""
    if force and folder.exists() and any(folder.iterdir()):
        free = (k for k in range(1, 1_000_000) if not _aside(folder, k).exists())
        folder.rename(_aside(folder, next(free)))
    path = folder / runs.CONFIG_FILE
    if not path.is_file():
        text = to_toml(config)
        write_atomic(path, lambda beside: beside.write_text(text))


def _aside(folder: Path, number: int) -> Path:
    return folder.with_name(f"{folder.name}~{number}")


def _done(folder: Path) -> int | None:
    """Return the number of epochs of a run that has finished and is whole, else None."""
    model = folder / runs.MODEL_FILE
    try:
        header = runs.read_header(model) if model.is_file() else {}
    except runs.CutShort:  # the state writes it anew
        return None
    return int(header["epoch"]) if header.get("finished") else None


def _last_line(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    except ValueError:  # half a line, from a kill or a full disk
        return {}
    return found


def _pixel_statistics(
    facts: DatasetFacts | None, images: data.Images
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by channel, pixels in [0, 1]."""
    if facts is not None:
        return facts.mean, facts.std
    pixels = images.x[:5000].double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second process off the run; the system frees the lock of one that died.

    Raises:
        JeatError: If another process trains this run.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield
        return
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JeatError(
                f"another process is training `{folder}`", "wait for it, or name another `-o`"
            ) from None
        yield
