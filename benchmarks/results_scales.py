"""The rows and the protocols of `results.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jeatcli.methods import METHODS

TRAINING = {"digits": 1400, "cifar10": 50_000}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast-rs": ("fast", {"variant": "rs"}),
    "fast-pgi": ("fast", {"variant": "pgi"}),
    "at+awp": ("at", {"awp": 0.005}),
}


@dataclass(frozen=True)
class Scale:
    """What is the same for all rows of a table."""

    train: dict[str, Any]  # settings of every run, beside the method, its options and the seed
    images: int  # that each run sees
    tested: int  # test images of the classifier's scores, and of each other set
    attacked: int  # test images under PGD-20
    ensemble: str  # `autoattack`, or its part `fast`
    broken: int  # test images under the ensemble
    samples: int  # images to draw, each way
    reference: str  # images to compare them with; recall needs the distances between all of them
    alike: dict[str, Any]  # how all rows draw
    around: int  # test images around which the energy is measured
    rows: tuple[str, ...]
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # of methods, at this scale

    def settings(self, row: str, seed: int) -> dict[str, Any]:
        """Return the settings of a run, on the first `images` of the data set if it has more.

        DAT spends half of the images on its first stage.
        """
        method, options = VARIANTS.get(row, (row, {}))
        size, there = self.train["batch_size"], TRAINING[self.train["dataset"]]
        if method == "dat":
            options = {"first_stage": self.images // size // 2, **options}
        steps, limit = self.images // size, min(self.images, there)
        limits = {
            "epochs": -(-steps // (limit // size)),
            "max_steps": steps,
            "limit": limit % there,
        }
        every = {"sample_every": 0, "eval_every": 0, "val_split": 0, "save_every": 60}
        options = {**self.options.get(method, {}), **options}
        return {**every, **limits, **self.train, "method": method, "seed": seed, "options": options}


EVERY_ROW = (*METHODS, *VARIANTS)
FEWER = (
    *("standard", "at", "jeat", "jem", "prejeat", "dat", "trades", "eb-jdat"),
    *("fast", "weat", "jem++"),
)
SGLD = {"sampler": "sgld", "objective": "joint", "steps": 60, "step_size": 0.25, "noise": 0.005}
ASCENT = {"sampler": "ascent", "objective": "joint", "init": "gaussian", "steps": 60}
SCALES = {
    "digits": Scale(
        {"dataset": "digits", "arch": "small", "batch_size": 64},
        *(
            40_320,
            397,
            397,
            "fast",
            200,
            300,
            "train",
            SGLD | {"init": "uniform", "clip": 1.0},
            100,
        ),
        EVERY_ROW,
    ),
    "cifar10-small": Scale(
        {"dataset": "cifar10", "arch": "small", "batch_size": 64},
        *(50_000, 1000, 500, "fast", 500, 100, "test", ASCENT, 30),
        FEWER,
    ),
    "cifar10": Scale(
        {"dataset": "cifar10", "arch": "wrn-16-4", "batch_size": 128},
        *(1_500_000, 10_000, 10_000, "autoattack", 1000, 5000, "test", ASCENT, 200),
        EVERY_ROW,
        {name: {"chain_start": "gaussian"} for name in ("jem", "jeat")},
    ),
}
