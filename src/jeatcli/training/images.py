"""The images of a run: to train on, to evaluate on, generated ones, and outliers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..data.arrays import labelled_archive
from ..data.facts import dataset_facts
from ..data.images import Images, hold_out, load_images, unlabelled
from ..errors import UsageProblem
from ..runtime.progress import Reporter
from .settings import TrainConfig

# The most test images that a run without a held-out split is evaluated on, and the most for each
# training image: a trial on few images should not spend its time on evaluations.
EVALUATED, EVALUATED_SHARE = 500, 2


def read_images(
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


def read_extra(config: TrainConfig, train: Images) -> Images | None:
    """Return the images of `config.extra`, if it names a file."""
    if not config.extra:
        return None
    x, y = labelled_archive(Path(config.extra), train.shape, len(train.classes))
    return replace(train, x=x, y=y)


def read_outliers(
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


def warn_of_shared(evaluated: Images, trained: Sequence[Images], reporter: Reporter) -> None:
    """Warn if a run is evaluated on images that it is trained on."""
    for images in trained:
        if count := int(torch.isin(evaluated.fingerprints, images.fingerprints).sum()):
            reporter.warn(
                f"{count:,} of the {len(evaluated):,} images to evaluate on are training images, "
                "too: results on them are too optimistic"
            )


def own_images(images: Images, extra: Images | None) -> list[Images]:
    """Return the training images that may be among those that a run is evaluated on.

    Nobody mixes the training images of published data sets with their test images.
    """
    published = dataset_facts(images.name) is not None
    return [each for each in (extra, None if published else images) if each]


def pixel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by channel, pixels in [0, 1], of at least 5,000 images.

    They are taken from the whole set, as arrays may be sorted by class.
    """
    pixels = images.x[:: max(1, len(images) // 5000)].double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())
