"""Several steps of training against a plain loop, in float64: attack, optimiser, rate, average."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.training import config
from torch import Tensor, nn

from jeatcli.core.models.classifier import Classifier
from jeatcli.core.rng import mix
from jeatcli.training import setup
from jeatcli.training.average import Average
from jeatcli.training.trainer import Trainer

EPS, SIZE = 0.1, 0.05
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    def features(self: Classifier, x: Tensor) -> Tensor:
        return self.net.features(self._normalized(x))

    monkeypatch.setattr(Classifier, "features", features)


def prepared(method: str, settings: dict[str, Any]) -> Trainer:
    quick = {"limit": 64, "batch_size": 16, "norm_layer": "batch", "activation": "relu"}
    settings = {"kernel": "library", "compile": False, "epochs": 1, **quick, **settings}
    trainer = setup.build(config(method, **settings), Path("run"), torch.device("cpu")).trainer
    trainer.model.twin = None
    trainer.model.double()
    average = copy.deepcopy(trainer.model)
    trainer.average = Average(trainer.model, average, trainer.config.ema)
    return trainer


def attacked(
    model: nn.Module, x: Tensor, start: Tensor, rise: Callable[[Tensor], Tensor]
) -> Tensor:
    model.eval()
    moved = start
    for _ in range(2):
        moved = moved.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(rise(model(moved)), moved)
        moved = (moved + SIZE * slope.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    model.train()
    return moved.detach()


def plain(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def madry(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    start = (x + EPS * (2 * noise - 1)).clamp(0, 1)
    moved = attacked(model, x, start, lambda f: F.cross_entropy(f, y, reduction="sum"))
    return F.cross_entropy(model(moved), y)


def awp(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """The gradient at moved weights, by a copy as in the published code."""
    start = (x + EPS * (2 * noise - 1)).clamp(0, 1)
    moved = attacked(model, x, start, lambda f: F.cross_entropy(f, y, reduction="sum"))
    proxy = copy.deepcopy(model)
    weights = list(proxy.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(proxy(moved), y), weights)
    for mine, theirs in zip(model.buffers(), proxy.buffers(), strict=True):
        mine.copy_(theirs)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            if weight.ndim > 1:
                weight += 0.01 * weight.norm() / slope.norm() * slope
    gradients = torch.autograd.grad(F.cross_entropy(proxy(moved), y), weights)
    pairs = zip(model.parameters(), gradients, strict=True)
    return torch.stack([(weight * slope).sum() for weight, slope in pairs]).sum()


def factor(done: float, settings: dict[str, Any]) -> float:
    """Return the rate by its formula."""
    if done < settings["warmup"]:
        return done / settings["warmup"]
    after = (done - settings["warmup"]) / (1 - settings["warmup"])
    rates = {
        "one-cycle": 1 - after,
        "cosine": (1 + math.cos(math.pi * after)) / 2,
        "multi-step": 0.1 ** ((done >= 0.5) + (done >= 0.75)),
    }
    return rates[settings["schedule"]]


SGD = {"optimizer": "sgd", "lr": 0.05, "grad_clip": 0.0, "weight_decay": 5e-4}
HEAVY = {**SGD, "optimizer": "heavy-ball"}
ADAM = {"optimizer": "adamw", "lr": 1e-3, "grad_clip": 0.5, "weight_decay": 0.1}
INNER = {"eps": EPS, "attack_steps": 2, "attack_step_size": SIZE}


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(
    ("method", "loss", "options", "settings"),
    [
        ("standard", plain, {}, {**SGD, "schedule": "cosine", "warmup": 0.4, "decay_norms": True}),
        ("standard", plain, {}, {**ADAM, "schedule": "one-cycle", "warmup": 0.4, "ema": 0.15}),
        ("at", madry, INNER, {**HEAVY, "schedule": "multi-step", "warmup": 0.0, "ema": 0.0}),
        ("at", awp, {**INNER, "awp": 0.01}, {**SGD, "schedule": "one-cycle", "warmup": 0.0}),
    ],
)
def test_training_is_the_plain_loop(
    method: str, loss: Loss, options: dict[str, Any], settings: dict[str, Any]
) -> None:
    trainer = prepared(method, {**settings, "options": options})
    model, average = copy.deepcopy(trainer.model), copy.deepcopy(trainer.model)
    chosen = trainer.config
    decay, rest = chosen.weight_decay, chosen.weight_decay if chosen.decay_norms else 0.0
    groups = [
        {"params": [w for w in model.parameters() if w.ndim > 1], "weight_decay": decay},
        {"params": [w for w in model.parameters() if w.ndim == 1], "weight_decay": rest},
    ]
    optimizer: torch.optim.Optimizer
    if chosen.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, 1.0)
    else:
        optimizer = torch.optim.SGD(groups, 1.0, 0.9, nesterov=chosen.optimizer == "sgd")
    for step, (images, y) in enumerate(trainer.loader.epoch(0)):
        x = images.double()
        trainer.update(x, y)
        seed = torch.Generator().manual_seed(mix(chosen.seed, 0, step))
        model.train()
        optimizer.zero_grad()
        loss(model, x, y, torch.rand(x.shape, generator=seed, dtype=x.dtype)).backward()
        if chosen.grad_clip:
            nn.utils.clip_grad_norm_(model.parameters(), chosen.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = chosen.lr * factor((step + 1) / (trainer.steps + 1), settings)
        optimizer.step()
        share = min(chosen.ema, (2 + step) / (11 + step))
        with torch.no_grad():
            states = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
            for kept, now in states:
                kept.copy_(share * kept + (1 - share) * now if now.is_floating_point() else now)
    for ours, theirs in ((trainer.model, model), (trainer.average.model, average)):
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        for mine, known in pairs:
            torch.testing.assert_close(mine, known, rtol=0, atol=1e-9)
