"""The images, the network, the method and the trainer of a configuration."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from .. import methods
from ..acceleration.dispatch import choose
from ..acceleration.twins import attach_twin, learn_by
from ..acceleration.ways import Way, Wish, Work
from ..checkpoints import checkpoint, runs
from ..checkpoints.header import Meta
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..core.class_gaussians import ClassGaussians
from ..core.jeat import Method, MethodContext
from ..core.models.classifier import Classifier
from ..core.rng import mix
from ..data.facts import dataset_facts
from ..data.images import Images
from ..data.loader import Loader
from ..errors import JeatError
from ..runtime.digests import tensor_digest
from ..runtime.distributed import SINGLE, ProcessGroup
from ..runtime.progress import SILENT, Reporter
from .images import (
    own_images,
    pixel_statistics,
    read_extra,
    read_images,
    read_outliers,
    warn_of_shared,
)
from .network import check_share, new_classifier
from .settings import TrainConfig
from .trainer import Trainer

# The settings that describe a network to start from that `jeat train` did not write.
_DESCRIBED = ("arch", "dataset", "norm_layer", "activation")
# The options of methods that say how often an image goes through the network with frozen weights.
_INNER_STEPS = ("attack_steps", "sgld_steps", "chain_steps")


@dataclass(frozen=True)
class Setup:
    """A run ready to train."""

    folder: Path
    trainer: Trainer  # at step 0
    evaluated: Images  # to evaluate on, held out or of the test set
    gaussians: ClassGaussians  # of the training images
    meta: Meta  # the header of the model before the first step
    reporter: Reporter = SILENT

    def model(self) -> Model:
        """Return the averaged model as it is."""
        trainer = self.trainer
        meta = replace(self.meta, epoch=trainer.epoch, finished=trainer.finished)
        # Those of an earlier version, or of another network, came with the weights.
        if trainer.config.init_from or dataset_facts(trainer.config.dataset) is None:
            normalize = trainer.average.model.normalize
            mean, std = (part.flatten().tolist() for part in (normalize.mean, normalize.std))
            meta = replace(meta, mean=tuple(mean), std=tuple(std))
        gaussians, path = self.gaussians.to(trainer.device), self.folder / runs.MODEL_FILE
        return Model(trainer.average.model, meta, gaussians, path)

    def first_network(self) -> Model | None:
        """Load the network whose weights the settings name as the first ones, if they do."""
        config = self.trainer.config
        if not config.init_from:
            return None
        path = runs.resolve(config.init_from)
        described = {name: getattr(config, name) for name in _DESCRIBED}
        foreign = Foreign.of(described) if runs.is_foreign(path) else None
        source = checkpoint.load(path, device="cpu", foreign=foreign, reporter=self.reporter)
        same = ("arch", "norm_layer", "activation", "classes", "shape")
        if others := [key for key in same if getattr(source.meta, key) != getattr(self.meta, key)]:
            options = [f"`--{key.replace('_', '-')}`" for key in others if key in same[:3]]
            fix = (
                f"omit {', '.join(options)}"
                if len(options) == len(others)
                else f"train on its data set (`--dataset {source.meta.dataset}`)"
            )
            raise JeatError(
                f"`{config.init_from}` differs from this run in {', '.join(others)}",
                f"{fix}, or start from another network",
            )
        return source

    def take_first_weights(self) -> None:
        """Start with the weights of `first_network`."""
        if (source := self.first_network()) is None:
            return
        for model in (self.trainer.model, self.trainer.average.model):
            model.load_state_dict(source.classifier.state_dict())
        self.reporter.say(
            f"starting from the weights of `{source.name}`; this is not a resume: "
            "optimiser, learning rate and steps start afresh"
        )

    def save(self, name: str = runs.MODEL_FILE) -> None:
        """Write the averaged model into the run's directory, in the first process."""
        if self.trainer.ranks.is_main:
            model, loader = self.model(), self.trainer.loader
            own = [images.fingerprints for images in own_images(loader.images, loader.extra)]
            trained_on = torch.cat(own) if own else None
            path = self.folder / name
            checkpoint.save_model(path, model.classifier, model.meta, self.gaussians, trained_on)


def build(
    config: TrainConfig,
    folder: Path,
    device: torch.device,
    *,
    data_dir: str | Path | None = None,
    reporter: Reporter = SILENT,
    ranks: ProcessGroup = SINGLE,
    should_stop: Callable[[], bool] = lambda: False,
) -> Setup:
    """Read the images and build everything else from them; nothing is written into `folder`.

    The precision of `config` is resolved; `should_stop` is asked while speeds are measured.
    """
    train, evaluated = read_images(config, data_dir, reporter)
    extra = read_extra(config, train)
    warn_of_shared(evaluated, own_images(train, extra), reporter)
    gaussians = ClassGaussians.fit(train.x, train.y, len(train.classes))
    meta = _meta(config, train, extra)
    train, evaluated = train.to(device), evaluated.to(device)
    classifier = new_classifier(config, meta, device)
    loader = Loader(
        train,
        config.batch_size,
        augment=config.augment,
        seed=config.seed,
        part=(ranks.rank, ranks.size),
        extra=extra.to(device) if extra else None,
        extra_share=config.extra_share,
    )
    check_share(classifier, loader)
    outliers = read_outliers(config, train, data_dir, reporter)
    if outliers is not None:
        loader.others = tensor_digest(outliers)
    context = MethodContext(train.x, gaussians, loader.share, config.seed, outliers)
    method = _method(config, context, ranks)
    way = ranks.from_main(partial(_fastest, config, classifier, loader, reporter, should_stop))
    config = replace(config, kernel=way.kernel, compile=way.compiled)
    trainer = Trainer(config, classifier, method, loader, ranks)
    # Not the average, which has been copied by now: it is used rarely, in many shapes.
    learn_by(classifier, way)
    attach_twin(classifier, way, train.shape)
    ready = Setup(folder, trainer, evaluated, gaussians, meta, reporter)
    if not ranks.from_main((folder / runs.STATE_FILE).exists):
        ready.first_network()  # which is refused before there is a run
    return ready


def _fastest(
    config: TrainConfig,
    classifier: Classifier,
    loader: Loader,
    reporter: Reporter,
    should_stop: Callable[[], bool],
) -> Way:
    """Return how to compute the network, by the steps of the whole run."""
    steps = config.epochs * len(loader)
    images = min(steps, config.max_steps or steps) * loader.share
    inner = sum(config.options.get(name, 0) for name in _INNER_STEPS)
    work = Work(loader.images.shape, loader.share, images * inner, images)
    wish = Wish(config.kernel, config.compile)
    return choose(classifier, classifier.autocast, work, wish, reporter, should_stop)


def _method(config: TrainConfig, context: MethodContext, ranks: ProcessGroup) -> Method:
    """Return the method, with its share of the replay buffer."""
    options = dict(config.options)
    if "buffer_size" in options:
        options["buffer_size"] //= ranks.size
    method = methods.make(config.method, options)
    seed = context.seed if ranks.is_main else mix(context.seed, ranks.rank)
    method.setup(replace(context, seed=seed))
    return method


def _meta(config: TrainConfig, images: Images, extra: Images | None) -> Meta:
    facts = dataset_facts(config.dataset)
    mean, std = (facts.mean, facts.std) if facts else pixel_statistics(images)
    return Meta(
        arch=config.arch,
        norm_layer=config.norm_layer,
        activation=config.activation,
        dataset=config.dataset,
        classes=images.classes,
        shape=images.shape,
        mean=mean,
        std=std,
        method=config.method,
        options=config.options,
        epoch=0,
        epochs=config.epochs,
        finished=False,
        seed=config.seed,
        extra={
            "file": Path(config.extra).name,
            "images": len(extra),
            "share": config.extra_share,
            "digest": extra.digest,
        }
        if extra
        else {},
    )
