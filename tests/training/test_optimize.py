"""The optimiser's groups and the course of the rate."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.training import config
from torch import nn

from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape
from jeatcli.training.average import Average
from jeatcli.training.optimizers import begin_momenta, build_optimizer
from jeatcli.training.schedules import lr_factor


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize(("everything", "of_norms"), [(False, 0.0), (True, 0.01)])
def test_norms_and_biases_decay_only_if_asked(everything: bool, of_norms: float) -> None:
    settings = config(weight_decay=0.01, decay_norms=everything, optimizer="heavy-ball")
    groups = build_optimizer(settings, net()).param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, of_norms]
    assert [len(group["params"]) for group in groups] == [1, 3]


@pytest.mark.parametrize(("name", "second"), [("heavy-ball", 1.9), ("sgd", 2.71)])
def test_two_steps_of_constant_gradient_tell_the_momenta_apart(name: str, second: float) -> None:
    """Velocities 1 and 1.9 of Polyak's; Nesterov's step looks ahead, 1.9 and 2.71."""
    weight = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(weight.weight)
    made = build_optimizer(config(optimizer=name, lr=1.0, weight_decay=0.0, momentum=0.9), weight)
    before = 0.0
    for _ in range(2):
        weight.weight.grad = torch.ones_like(weight.weight)
        before = weight.weight.item()
        made.step()
    assert before - weight.weight.item() == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize("name", ["sgd", "heavy-ball", "adamw"])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_a_weight_may_get_its_first_gradient_late(name: str, momentum: float) -> None:
    """Its first step is that of an optimiser which begins then."""
    early, late = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    settings = config(optimizer=name, lr=0.1, weight_decay=0.01, momentum=momentum)
    both, alone = nn.Sequential(early, late), copy.deepcopy(late)
    made, beside = build_optimizer(settings, both), build_optimizer(settings, alone)
    for step in range(3):
        early.weight.grad = torch.ones_like(early.weight)
        if step:
            late.weight.grad = torch.full_like(late.weight, 0.5)
            alone.weight.grad = late.weight.grad.clone()
            beside.step()
        begin_momenta(made)
        made.step()
    assert torch.equal(late.weight, alone.weight)


def test_running_statistics_are_averaged_like_the_weights() -> None:
    """The decay is 0.5 once (1 + t) / (10 + t) is beyond it; a count is a count."""
    model = Classifier(build("wrn-10-1", Shape((1, 8, 8), 2, "batch")), [0.3], [0.2])
    average = Average(model, copy.deepcopy(model), 0.5)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not name.startswith("normalize."):
                value.fill_(4)
    before = {name: value.clone() for name, value in average.model.state_dict().items()}
    average.update(100)
    for name, value in average.model.state_dict().items():
        if name.startswith("normalize."):
            assert torch.equal(value, before[name])
        elif name.endswith("num_batches_tracked"):
            assert value == 4
        else:
            torch.testing.assert_close(value, (before[name] + 4) / 2)


def test_the_rate_falls_at_the_milestones() -> None:
    settings = config(schedule="multi-step", warmup=0.1, milestones=(0.5, 0.8), lr_decay=0.3)
    course = [lr_factor(settings, done) for done in (0.05, 0.1, 0.49, 0.5, 0.79, 0.8, 1.0)]
    assert course == pytest.approx([0.5, 1, 1, 0.3, 0.3, 0.09, 0.09])


def test_one_cycle_and_cosine_end_at_zero() -> None:
    for schedule, middle in (("one-cycle", 0.5), ("cosine", 0.5), ("constant", 1.0)):
        settings = config(schedule=schedule, warmup=0.2)
        end = 1.0 if schedule == "constant" else 0.0
        found = [lr_factor(settings, done) for done in (0.0, 0.1, 0.2, 0.6, 1.0)]
        assert found == pytest.approx([0, 0.5, 1, middle, end], abs=1e-9)
