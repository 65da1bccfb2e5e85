"""One call of `train`: what the run is made of, and its survival."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from . import checkpoint, data, devices, methods, runs
from .attacks import Plan
from .callbacks import Evaluation, Grids, Saver, Stop
from .checkpoint import Meta, Model
from .config import TrainConfig
from .datasets import DatasetFacts, dataset_facts
from .errors import Diverged
from .guard import RanAway
from .log import Log
from .randomness import mix
from .reporting import Reporter
from .run_folder import last_line
from .sgld import ClassStatistics
from .trainer import Callback, Trainer

EVALUATED = 500


@dataclass
class Stage:
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
                self.last = last_line(self.folder)
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


def _pixel_statistics(
    facts: DatasetFacts | None, images: data.Images
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by channel, pixels in [0, 1]."""
    if facts is not None:
        return facts.mean, facts.std
    pixels = images.x[:5000].double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())
