"""Runs of untrained networks, small enough for any test, and who listens to what is said."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jeatcli.checkpoints import checkpoint, model, runs
from jeatcli.checkpoints.header import Meta
from jeatcli.checkpoints.model import Model
from jeatcli.core.class_gaussians import ClassGaussians
from jeatcli.data.facts import DATASETS
from jeatcli.runtime.files import runs_dir
from jeatcli.runtime.progress import Silent


@dataclass(frozen=True)
class Trained:
    """The runs `standard` and, later, `digits-jeat-small`, and what training the latter said."""

    runs: Path
    said: subprocess.CompletedProcess[str]


def save_run(
    name: str,
    *,
    dataset: str = "digits",
    method: str = "standard",
    seed: int = 0,
    gain: float = 1.0,
) -> Path:
    """Write a finished run into the runs directory; `gain` multiplies its logits."""
    facts = DATASETS[dataset]
    meta = Meta(
        arch="small",
        norm_layer="none",
        activation="silu",
        dataset=dataset,
        classes=facts.classes,
        shape=facts.shape,
        mean=facts.mean,
        std=facts.std,
        method=method,
        options={},
        epoch=1,
        epochs=1,
        finished=True,
        seed=seed,
    )
    torch.manual_seed(seed)
    classifier = model.network(meta)
    for weight in classifier.parameters():
        torch.nn.init.normal_(weight, std=gain * (2 / weight[0].numel()) ** 0.5)
    statistics = ClassGaussians(
        torch.full((10, *facts.shape), 0.5),
        torch.zeros(10, 1, *facts.shape),
        torch.full((10,), 0.04),
    )
    path = runs_dir() / name / runs.MODEL_FILE
    path.parent.mkdir(parents=True)
    checkpoint.save_model(path, classifier, meta, statistics)
    return path


def load_run(name: str, **settings: Any) -> Model:
    """Write a run and load it."""
    return checkpoint.load(save_run(name, **settings), device="cpu")


class Listener(Silent):
    """Keep what is said and warned of."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)
        self.warned.append(text)
