"""When a score stands beside the published ones, and what is said when it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jeatcli.checkpoints.model import Model
from jeatcli.data.images import Images
from jeatcli.data.provenance import Provenance
from jeatcli.scoring.extractors import Extractor
from jeatcli.scoring.fidelity import Numbers
from jeatcli.scoring.protocol import Protocol
from jeatcli.scoring.settings import EXTRACTORS

CLASSES = tuple("0123456789")
TRAINING = Images("cifar10", torch.zeros(10, 3, 2, 2, dtype=torch.uint8), torch.arange(10), CLASSES)
NUMBERS = Numbers(50_000, 50_000, 2048, 1008, 10, 100, 1000, 3)
INCEPTION = Extractor("inception", Path("w.pth"), EXTRACTORS["inception"].sha256, None, ())
SAMPLING = {"sampler": "sgld", "objective": "joint", "init": "uniform", "weights": "w"}
EVEN = dict.fromkeys(CLASSES, 5000)
DRAWN = Provenance(SAMPLING, EVEN)
PUBLISHED = Protocol(DRAWN, INCEPTION, TRAINING, "train", NUMBERS, {}, set(range(10)))


def said(**changes: Any) -> str:
    return str(replace(PUBLISHED, **changes).describe()["comparable"])


def test_the_published_protocol_is_comparable() -> None:
    assert said() == "yes, with IS and FID on CIFAR-10"
    # Where the classes do not divide the number, some have one image more.
    assert said(origin=replace(DRAWN, classes={**EVEN, "3": 5001})) == said()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"numbers": replace(NUMBERS, num=10_000)}, "10,000 images instead of 50,000"),
        ({"numbers": replace(NUMBERS, num=200_000)}, "200,000 images instead of 50,000"),
        ({"split": "test"}, "reference cifar10 test, not cifar10 train"),
        ({"reference": replace(TRAINING, name="svhn")}, "reference svhn train"),
        ({"numbers": replace(NUMBERS, splits=5)}, "5 splits instead of 10"),
        ({"numbers": replace(NUMBERS, splits=1)}, "1 split instead of 10"),
        ({"numbers": replace(NUMBERS, num=1)}, "1 image instead of 50,000"),
        ({"origin": Provenance()}, "how the images were chosen is not known"),
        ({"origin": replace(DRAWN, lossy=True)}, "pixels of a lossy format"),
        (
            {"origin": replace(DRAWN, sampling={**SAMPLING, "best_of": 4})},
            "selected images: the best of 4 by joint energy",
        ),
        (
            {"origin": replace(DRAWN, sampling={**SAMPLING, "init": "data"})},
            "images that start at training images",
        ),
        (
            {"origin": replace(DRAWN, sampling={**SAMPLING, "inpaint": {"path": "x.png"}})},
            "images that start at a picture",
        ),
        (
            {"origin": replace(DRAWN, classes={**EVEN, "3": 4000, "4": 6000})},
            "classes of unequal size: 10, 4000 to 6000 of each",
        ),
        (
            {"origin": replace(DRAWN, classes={"3": 50_000}), "classes": {3}},
            "images of 1 of the 10 classes",
        ),
        (
            {"reference": TRAINING.take(torch.tensor([0, 1, 3, 4, 5, 6, 8, 9]))},
            "no real image of 2 classes: 2, 7",
        ),
    ],
)
def test_each_reason_that_it_is_not(changes: dict[str, Any], reason: str) -> None:
    assert said(**changes).startswith(f"no: {reason}")


def test_other_weights_and_other_features(judge: Model) -> None:
    other = replace(INCEPTION, sha256="0" * 64)
    assert said(judge=other) == "no: weights that are not the published Inception file"
    assert said(judge=judge) == "no: features of `judge`, not of Inception"
    dino = Extractor("dinov2", Path("d.pth"), "0" * 64, None, ())
    assert said(judge=dino) == "no: features of DINOv2, not of Inception"
    own = replace(DRAWN, sampling={**SAMPLING, "weights": judge.fingerprint})
    assert said(judge=judge, origin=own).endswith("the run judges itself")
