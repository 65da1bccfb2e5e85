"""Networks that draw in evaluation, too: the seed decides what, in every part of an attack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_attack_resume import Stopped, stop_after
from torch import Tensor, nn

from jeatcli import attack, energy_landscape, sample, wrap
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.sampling.sample import prepare

HEARD: list[float] = []  # of networks and their copies


class Noisy(nn.Module):
    """Scores of ten patterns with noise, which is remembered."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        images = load_images("digits", "train")
        x = to_unit_range(images.x).flatten(1)
        means = torch.stack([x[images.y == k].mean(0) for k in range(10)])
        self.scores = nn.Linear(64, 10)
        self.scores.weight = nn.Parameter(means)
        self.scores.bias = nn.Parameter(-means.square().sum(1) / 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.scores(x.flatten(1))
        noise = torch.randn(logits.shape)
        HEARD.append(float(noise[0, 0]))
        return logits + noise


def noisy() -> Model:
    return wrap(Noisy(), dataset="digits", mean=0, std=1)


SETTINGS: dict[str, Any] = {"attacks": ["fgsm", "pgd"], "steps": 2, "num": 60, "batch_size": 10}


@pytest.mark.parametrize(
    ("verb", "passes"), [("attack", 6 + 6 + 3), ("sample", 2 * 2), ("landscape", 3)]
)
def test_the_seed_decides(verb: str, passes: int) -> None:
    heard = []
    for seed in (0, 1, 0):
        model = noisy()
        HEARD.clear()
        torch.manual_seed(10 + len(heard))  # of the caller
        if verb == "attack":
            attack(model, **SETTINGS, seed=seed)
        elif verb == "landscape":
            energy_landscape(model, kind="contour", image=(3,), grid=5, batch_size=10, seed=seed)
        else:
            sample(model, num=20, classes=[1], batch_size=10, steps=2, seed=seed)
        heard.append([*HEARD])
    assert heard[0] == heard[2]
    # The looks at a network before an attack, such as whether it draws, have no seed.
    assert len(set(heard[1]) - set(heard[0])) >= passes


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_stopped_it_ends_as_one_that_was_not(
    batches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = SETTINGS | {"progress": tmp_path}
    whole = attack(noisy(), **settings)
    assert whole.per_attack["pgd"]["broken"] > 0
    with monkeypatch.context() as patch:
        stop_after(patch, batches)
        with pytest.raises(Stopped):
            attack(noisy(), **settings)
    resumed = attack(noisy(), **settings)
    assert (resumed.clean, resumed.samples) == (whole.clean, whole.samples)


def test_images_drawn_alone_are_those_of_the_whole() -> None:
    """A batch draws the same, whether or not those before it are drawn."""
    model = noisy()
    settings: dict[str, Any] = {"classes": [1], "batch_size": 10, "steps": 2}
    images = sample(model, num=20, **settings).images
    plan = prepare(model, num=20, **settings)
    ((index, part),) = plan.batches(skip=range(10))
    assert index.tolist() == [*range(10, 20)]
    assert torch.equal(part, images[10:])
