"""The images, the network, the method and the trainer of a configuration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

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
from ..data.arrays import labelled_archive
from ..data.facts import dataset_facts
from ..data.images import Images, hold_out, load_images, unlabelled
from ..data.loader import Loader
from ..errors import JeatError, UsageProblem
from ..runtime.digests import tensor_digest
from ..runtime.distributed import SINGLE, ProcessGroup
from ..runtime.progress import SILENT, Reporter
from .network import check_share, new_classifier
from .settings import TrainConfig
from .trainer import Trainer

# The settings that describe a network to start from that `jeat train` did not write.
_DESCRIBED = ("arch", "dataset", "norm_layer", "activation")
# The options of methods that say how often an image goes through the network with frozen weights.
_INNER_STEPS = ("attack_steps", "sgld_steps", "chain_steps")
# The most test images that a run without a held-out split is evaluated on, and the most for each
# training image: a trial on few images should not spend its time on evaluations.
EVALUATED, EVALUATED_SHARE = 500, 2


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
            own = [images.fingerprints for images in _own(loader.images, loader.extra)]
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
    train, evaluated = _images(config, data_dir, reporter)
    extra = _extra(config, train)
    _warn_of_shared(evaluated, _own(train, extra), reporter)
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
    outliers = _outliers(config, train, data_dir, reporter)
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


def _images(
    config: TrainConfig, data_dir: str | Path | None, reporter: Reporter
) -> tuple[Images, Images]:
    """Return the images to train on, and those to evaluate on."""
    read = partial(load_images, config.dataset, data_dir=data_dir, reporter=reporter)
    train = read("train")
    if config.val_split:
        train, evaluated = hold_out(train, config.val_split)
        if len(evaluated) > len(train):
            reporter.warn(
                f"{len(evaluated):,} images are held out, and only {len(train):,} left to train "
                "on: lower `--val-split`"
            )
    train = train.first(config.limit) if config.limit else train
    if not config.val_split:
        test = read("test")
        evaluated = test.first(min(EVALUATED, EVALUATED_SHARE * len(train), len(test)), reporter)
    present = set(train.y.tolist())
    absent = [f"`{name}`" for label, name in enumerate(train.classes) if label not in present]
    if absent and (config.limit or config.val_split):
        reporter.warn(
            f"`limit` and `val_split` leave no training image of {', '.join(absent)}: they cannot "
            "be learned"
        )
    return train, evaluated


def _extra(config: TrainConfig, train: Images) -> Images | None:
    """Return the images of `config.extra`, if it names a file."""
    if not config.extra:
        return None
    x, y = labelled_archive(Path(config.extra), train.shape, len(train.classes))
    return replace(train, x=x, y=y)


def _outliers(
    config: TrainConfig, train: Images, data_dir: str | Path | None, reporter: Reporter
) -> Tensor | None:
    """Return the images of the option `ood`, uint8 (n, C, H, W) where `train` is, if it is set."""
    if not (name := config.options.get("ood")):
        return None
    if name == config.dataset:
        raise UsageProblem(
            f"`ood` is `{name}`, the data set that is trained on",
            "name another one, or leave it out: then outliers start from noise",
        )
    images = unlabelled(name, train.shape, data_dir=data_dir, reporter=reporter)
    return images.to(train.x.device)


def _warn_of_shared(evaluated: Images, trained: Sequence[Images], reporter: Reporter) -> None:
    """Warn if a run is evaluated on images that it is trained on."""
    for images in trained:
        if count := int(torch.isin(evaluated.fingerprints, images.fingerprints).sum()):
            reporter.warn(
                f"{count:,} of the {len(evaluated):,} images to evaluate on are training images, "
                "too: results on them are too optimistic"
            )


def _own(images: Images, extra: Images | None) -> list[Images]:
    """Return the training images that may be among those that a run is evaluated on.

    Nobody mixes the training images of published data sets with their test images.
    """
    published = dataset_facts(images.name) is not None
    return [each for each in (extra, None if published else images) if each]


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
    mean, std = (facts.mean, facts.std) if facts else _pixel_statistics(images)
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


def _pixel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by channel, pixels in [0, 1], of at least 5,000 images.

    They are taken from the whole set, as arrays may be sorted by class.
    """
    pixels = images.x[:: max(1, len(images) // 5000)].double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())
