"""What a training run is made of: its images, its network, its method, its header."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from .. import methods
from ..acceleration.twins import attach_twin, compile_for_training
from ..checkpoints import checkpoint, runs
from ..checkpoints.model import Meta, Model, network
from ..core.class_gaussians import ClassGaussians
from ..core.jeat import Method, MethodContext
from ..core.rng import mix
from ..data import loader as loader_module
from ..data.facts import DatasetFacts, dataset_facts
from ..data.images import Images, hold_out, load_images
from ..runtime import devices
from ..runtime.distributed import SINGLE, ProcessGroup
from ..runtime.progress import SILENT, Reporter
from .settings import TrainConfig
from .trainer import Trainer

# Test images that a run without a held-out split is watched by.
EVALUATED = 500


@dataclass
class Stage:
    """The images, the network and the method of a configuration, ready to train.

    Args:
        config: Every setting, the precision resolved.
        folder: The run's.
        device: Where to compute.
        data_dir: Where the data sets are.
        reporter: Hears of downloads.
        ranks: This process among those of the run.
    """

    config: TrainConfig
    folder: Path
    device: torch.device
    data_dir: str | Path | None = None
    reporter: Reporter = SILENT
    ranks: ProcessGroup = SINGLE

    def __post_init__(self) -> None:
        self.facts = dataset_facts(self.config.dataset)
        images, self.judged = self._read()
        self.statistics = ClassGaussians.fit(images.x, images.y, len(images.classes))
        self.mean, self.std = _pixel_statistics(self.facts, images)
        self.images = images.to(self.device)
        self.trainer = self._trainer()

    def _read(self) -> tuple[Images, Images]:
        """Return the images to train on, and those to judge by: held out, or test images."""
        config = self.config
        read = partial(load_images, config.dataset, data_dir=self.data_dir, reporter=self.reporter)
        images = read("train")
        if config.val_split:
            images, judged = hold_out(images, config.val_split)
        else:
            test = read("test")
            judged = test.first(min(EVALUATED, len(test)))
        if config.limit:
            images = images.first(config.limit)
        return images, judged.to(self.device)

    def _trainer(self) -> Trainer:
        config = self.config
        meta = self.describe(None)
        # Layers draw their first weights from torch's global generator of the CPU, which is left
        # as it was; `torch.manual_seed` would change those of the GPUs for good.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mix(config.seed, 0))
            classifier = network(meta).to(self.device)
        classifier.autocast = devices.autocast_type(config.precision, self.device)
        part = (self.ranks.rank, self.ranks.size)
        loader = loader_module.Loader(
            self.images, config.batch_size, augment=config.augment, seed=config.seed, part=part
        )
        trainer = Trainer(config, classifier, self._method(), loader, self.ranks)
        if config.compile:
            # Not the average, which has been copied by now: it is used rarely, in many shapes.
            compile_for_training(classifier)
        attach_twin(classifier)
        return trainer

    def _method(self) -> Method:
        """Return the method, with its share of the replay buffer."""
        config, ranks = self.config, self.ranks
        options = dict(config.options)
        if "buffer_size" in options:
            options["buffer_size"] //= ranks.size
        method = methods.make(config.method, options)
        seed = config.seed if ranks.is_main else mix(config.seed, ranks.rank)
        shape = self.images.shape
        method.setup(MethodContext(shape, self.statistics, self.device, seed))
        return method

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

    def save(self, name: str, trainer: Trainer) -> None:
        """Write the averaged model as it is into the run's directory; the first rank does."""
        if not self.ranks.is_main:
            return
        meta = self.describe(trainer)
        checkpoint.save_model(self.folder / name, trainer.average.model, meta, self.statistics)


def _pixel_statistics(
    facts: DatasetFacts | None, images: Images
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by channel, pixels in [0, 1]."""
    if facts is not None:
        return facts.mean, facts.std
    pixels = images.x[:5000].double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())
