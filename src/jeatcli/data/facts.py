"""What is known of each data set before it is read, the defaults that suit it included."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..catalogue import Catalogue, Entry
from ..errors import UsageProblem, unknown
from ..runtime.progress import Reporter


@dataclass(frozen=True)
class Request:
    """What a data set's reader is asked for: a split, `train` or `test`, from the folder `root`."""

    name: str
    split: str
    root: Path
    download: bool
    reporter: Reporter


@dataclass(frozen=True)
class DatasetFacts(Entry):
    """A row of `DATASETS`; `target` is a function of a `Request` that returns `folder.Parts`.

    Mean and standard deviation are those of the training pixels in [0, 1], by channel. Two true
    deviations circulate for CIFAR-10; this is the one over all pixels.
    """

    shape: tuple[int, int, int]  # channels, height, width
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    eps: Mapping[str, float]  # the customary radius by norm, pixels in [0, 1]
    augment: str  # what keeps the label, one of `AUGMENTATIONS`
    defaults: Mapping[str, Any] = field(default_factory=dict)  # settings of training and methods


# What may be done to training images at random. `crop4+flip` shifts by 4 pixels whatever the size
# of the images, as version 0.1.0 did with those of a folder.
AUGMENTATIONS = ("none", "crop", "flip", "crop+flip", "crop4+flip")

# Images of the caller's own, in memory.
TENSORS = "tensors"
# What else a data set may be called, and what it is.
OWN = {
    "folder:PATH": "images of your own, one directory per class; folder:PATH@64 resizes them",
    "npz:FILE": "images and labels of your own, as arrays",
    "cifar10-c:NAME[:1..5]": "corrupted CIFAR (Hendrycks and Dietterich 2019), also cifar100-c; "
    "NAME is a corruption, or all for the mean corruption error",
}
# Those of the mean corruption error, then four for choosing settings.
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
    *("speckle_noise", "gaussian_blur", "spatter", "saturate"),
)
SEVERITIES = 5
# The customary radius for photographs, and for what is not known.
PHOTO_EPS = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0}
_PHOTOS: dict[str, Any] = {"arch": "wrn-28-10", "val_split": 1000}
_GLYPHS: dict[str, Any] = {
    "arch": "small",
    "epochs": 10,
    "attack_steps": 7,
    "sgld_steps": 10,
    "buffer_size": 5000,
    "chain_start": "uniform",
    "val_split": 1000,
}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SIZE = re.compile(r"@([1-9]\d{0,3})$")
NUMERALS = tuple("0123456789")
_CIFAR10 = _words("airplane automobile bird cat deer dog frog horse ship truck")
_CIFAR100 = _words(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
    porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """
)
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_PUBLISHED = "jeatcli.data.published:published"
_photos = partial(
    DatasetFacts, target=_PUBLISHED, shape=(3, 32, 32), eps=PHOTO_EPS, defaults=_PHOTOS
)
_glyphs = partial(DatasetFacts, augment="none")

_ROWS = {
    "cifar10": _photos(
        "60,000 32x32 photographs, 10 classes (Krizhevsky 2009)",
        classes=_CIFAR10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        augment="crop+flip",
    ),
    "cifar100": _photos(
        "60,000 32x32 photographs, 100 classes (Krizhevsky 2009)",
        classes=_CIFAR100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augment="crop+flip",
    ),
    "svhn": _photos(
        "99,289 32x32 house numbers, 10 classes (Netzer et al. 2011)",
        classes=NUMERALS,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        augment="none",
    ),
    "mnist": _glyphs(
        "70,000 28x28 handwritten digits, 10 classes (LeCun et al. 1998)",
        *(_PUBLISHED, (1, 28, 28), NUMERALS, (0.1307,), (0.3081,)),
        eps={"linf": 0.3, "l2": 2.0, "l1": 10.0},
        defaults=_GLYPHS,
    ),
    "fashion-mnist": _glyphs(
        "70,000 28x28 pictures of clothes, 10 classes (Xiao et al. 2017)",
        *(_PUBLISHED, (1, 28, 28), _CLOTHES, (0.2860,), (0.3530,)),
        eps={"linf": 0.1, "l2": 1.5, "l1": 8.0},
        defaults=_GLYPHS,
    ),
    "digits": _glyphs(
        "1,797 8x8 handwritten digits inside the package (Alpaydin and Kaynak 1998)",
        *("jeatcli.data.digits:digits", (1, 8, 8), NUMERALS, (0.3053,), (0.3755,)),
        eps={"linf": 0.15, "l2": 0.6, "l1": 2.5},
        defaults=_GLYPHS
        | {
            "epochs": 30,
            "lr": 3e-3,
            "attack_steps": 5,
            "sgld_steps": 5,
            "buffer_size": 2000,
            "energy_l2": 0.001,
            "sigma": 0.3,
            "val_split": 0,
        },
    ),
}
DATASETS = Catalogue("data set", _ROWS)


def customary_eps(name: str) -> Mapping[str, float]:
    """Return the customary radius by norm for data set `name`; a folder has that of photographs."""
    facts = dataset_facts(name)
    return facts.eps if facts else PHOTO_EPS


def dataset_facts(name: str) -> DatasetFacts | None:
    """Return what is known of data set `name`, or None for the user's own images."""
    if name == TENSORS or (own_path(name) and name != "npz:"):
        return None
    if "-c:" in name:
        return DATASETS[corruption(name)[0]]
    if name not in DATASETS:
        raise unknown("data set", name, [*DATASETS, *OWN])
    return DATASETS[name]


def own_path(name: str) -> str | None:
    """Return the path in `folder:PATH[@SIZE]` and `npz:FILE`, or None for other names."""
    kind, _, path = name.partition(":")
    if kind == "folder":
        path = _SIZE.sub("", path)
    return path if kind in ("folder", "npz") and path else None


def image_size(name: str) -> int | None:
    """Return the side of the squares to which `folder:PATH@SIZE` resizes its pictures, or None.

    `folder:pets@64/` is a directory of that name.
    """
    found = _SIZE.search(name) if name.startswith("folder:") else None
    return int(found[1]) if found else None


def corruption(name: str) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    """Take `cifar10-c:fog:3` apart: the clean data set, the corruptions, and the severities.

    `all` are the 15 corruptions of the mean corruption error.
    """
    start, kind, *severity = name.split(":")
    clean = start.removesuffix("-c")
    if clean not in ("cifar10", "cifar100"):
        raise unknown("data set", name, [*DATASETS, *OWN])
    if kind not in (*CORRUPTIONS, "all"):
        raise unknown("corruption", kind, [*CORRUPTIONS, "all"])
    known = tuple(range(1, SEVERITIES + 1))
    if severity and (len(severity) > 1 or severity[0] not in map(str, known)):
        raise UsageProblem(f"`{name}` has no severity from 1 to 5", f"write `{start}:{kind}:3`")
    kinds = CORRUPTIONS[:15] if kind == "all" else (kind,)
    return clean, kinds, (int(severity[0]),) if severity else known
