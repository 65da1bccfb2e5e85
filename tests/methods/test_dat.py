"""DAT: frozen statistics, negatives that climb the logit, an ascent that grows, the loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jeatcli import methods
from jeatcli.core import energy
from jeatcli.core.class_gaussians import STARTS, ClassGaussians, start_at
from jeatcli.core.jeat import MethodContext
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape
from jeatcli.core.rng import BatchRng
from jeatcli.methods.dat import Dat

X = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(24) % 4
GAUSSIANS = ClassGaussians.fit((255 * X).to(torch.uint8), Y, 4)


def network() -> Classifier:
    torch.manual_seed(0)
    model = Classifier(build("small", Shape((1, 8, 8), 4, "batch", "silu")), [0.3], [0.4])
    return model.train()


def dat(**options: Any) -> Dat:
    method = methods.make("dat", {"eps": 0.1, "attack_steps": 2, **options})
    assert isinstance(method, Dat)
    method.setup(MethodContext((255 * X).to(torch.uint8), GAUSSIANS, len(X), 0))
    return method


def climbed(model: Classifier, x: Tensor, steps: int, size: float) -> Tensor:
    """Take steps of one l2 length along the gradient of f(x)[y], clipped to [0, 1]."""
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(model(x)[range(len(x)), Y].sum(), x)
        x = (x + size * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(0, 1)
    return x.detach()


@pytest.mark.parametrize("start", ["gaussian", "pca"])
def test_the_loss_is_that_of_the_paper(start: str) -> None:
    method, model = dat(chain_step_size=0.3, lambda_=0.7, chain_start=start), network()
    method.counts[2] = 3
    loss, metrics = method.loss(model, X, Y, BatchRng(3))
    still, rng = network().eval(), BatchRng(3)
    attacked = dat().attack(still, X, Y, rng)
    negatives = climbed(still, start_at(start, GAUSSIANS, Y, X, rng), 3, 0.3)
    logits, real, drawn = (still(images) for images in (attacked, X, negatives))
    scores = torch.cat([real.logsumexp(1), drawn.logsumexp(1)])
    truth = torch.cat([torch.ones(24), torch.zeros(24)])
    bce = F.binary_cross_entropy_with_logits(scores, truth)
    torch.testing.assert_close(loss, F.cross_entropy(logits, Y) + 0.7 * bce)
    torch.testing.assert_close(metrics["energy"], -real.logsumexp(1).mean())
    torch.testing.assert_close(metrics["energy_sgld"], -drawn.logsumexp(1).mean())
    pairs = [real[i, Y[i]] > drawn[j, Y[j]] for i in range(24) for j in range(24)]
    assert metrics["auc"].item() == pytest.approx(sum(map(int, pairs)) / 24**2)
    assert metrics["chain_steps"].item() == 3


def test_binary_cross_entropy_by_hand() -> None:
    found = energy.binary_cross_entropy(torch.tensor([0.0, -2.0]), torch.tensor([1.0]))
    real = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert found.item() == pytest.approx((real + math.log(1 + math.exp(-1))) / 2)


def test_batch_statistics_are_frozen_while_their_scales_learn() -> None:
    method, model = dat(), network()
    before = {key: value.clone() for key, value in model.named_buffers()}
    loss, _ = method.loss(model, X, Y, BatchRng(3))
    loss.backward()
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert model.training
    assert all(module.training for module in model.modules())
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(norm.weight.grad is not None and norm.weight.grad.any() for norm in norms)


def test_the_first_stage_is_adversarial_training() -> None:
    method, model, other = dat(first_stage=2), network(), network()
    plain = methods.make("at", {"eps": 0.1, "attack_steps": 2})
    before = {key: value.clone() for key, value in model.named_buffers()}
    for _ in range(2):
        loss, metrics = method.loss(model, X, Y, BatchRng(3))
        torch.testing.assert_close(loss, plain.loss(other, X, Y, BatchRng(3))[0])
        assert "energy" not in metrics
    assert any(not torch.equal(value, before[key]) for key, value in model.named_buffers())
    _, metrics = method.loss(model, X, Y, BatchRng(3))
    assert "energy" in metrics


@pytest.mark.parametrize(("above", "steps"), [(1.0, [0, 1, 1, 2]), (-1.0, [0, 0, 0, 0])])
def test_the_ascent_grows_while_real_images_are_told_apart(above: float, steps: list[int]) -> None:
    """By one step for 40 images: two batches of 24, or the four fifths of them."""
    method = dat(grow_over=40)
    found = []
    for _ in range(4):
        auc = method.curriculum.update(torch.full((24,), above), torch.zeros(24))
        assert auc.item() == float(above > 0)
        found.append(int(method.counts[2]))
    assert found == steps


def test_the_ascent_grows_at_its_threshold_and_to_its_end() -> None:
    real, drawn = torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.zeros(4)  # AUC 0.75
    for threshold, grown in ((0.75, 1), (0.76, 0)):
        method = dat(grow_at=threshold, grow_over=1)
        method.curriculum.update(real, drawn)
        assert int(method.counts[2]) == grown
    method = dat(grow_at=0.75, grow_over=1, chain_steps=3)
    for _ in range(5):
        method.curriculum.update(real, drawn)
    assert int(method.counts[2]) == 3


def test_an_average_over_batches_decides() -> None:
    method, zeros = dat(grow_over=8, grow_at=0.75), torch.zeros(4)
    method.curriculum.update(zeros + 1, zeros)  # 1
    method.curriculum.update(torch.tensor([1.0, 1.0, -1.0, -1.0]), zeros)  # 0.5
    assert int(method.counts[2]) == 1
    assert method.auc.item() == 0
    method = dat(grow_over=8, grow_at=0.75)
    method.curriculum.update(zeros + 1, zeros)
    method.curriculum.update(zeros, zeros)  # 0: a tie is not told apart
    assert method.counts.tolist() == [0, 0, 0]
    assert method.counts.dtype == torch.int64


def test_the_images_of_all_processes_count() -> None:
    method, zeros = dat(grow_over=8), torch.zeros(4)
    method.curriculum.update(zeros + 1, zeros, 2)
    assert int(method.counts[2]) == 1


def test_the_mean_over_the_processes_decides() -> None:
    method, zeros = dat(grow_over=1), torch.zeros(4)
    method.curriculum.update(zeros + 1, zeros, 2, lambda auc: auc.mul_(0.5))
    assert int(method.counts[2]) == 0


def test_the_sum_that_is_saved_is_that_of_all_processes() -> None:
    method, zeros = dat(grow_over=100), torch.zeros(4)
    for _ in range(2):
        method.curriculum.update(zeros + 1, zeros, 2, lambda auc: auc.mul_(0.5))
    assert method.auc.item() == 1


def test_negatives_start_at_images_of_no_class() -> None:
    outliers = torch.arange(7).view(7, 1, 1, 1).expand(7, 1, 8, 8).to(torch.uint8)
    method = methods.make("dat", {"eps": 0.1, "ood": "elsewhere"})
    assert isinstance(method, Dat)
    method.setup(MethodContext((255 * X).to(torch.uint8), GAUSSIANS, len(X), 0, outliers))
    start = method.negatives(network(), X, Y, BatchRng(3))
    levels = (255 * start[:, 0, 0, 0]).round().long()
    assert torch.equal(start, outliers[levels] / 255)
    assert len(levels.unique()) > 3
    method.counts[2] = 3
    found = method.negatives(network().eval(), X, Y, BatchRng(3))
    torch.testing.assert_close(found, climbed(network().eval(), start, 3, 0.1))


def test_the_state_goes_on_within_a_measurement() -> None:
    method, again = dat(grow_over=40, first_stage=1), dat(grow_over=40, first_stage=1)
    method.counts[2] = 5
    for _ in range(2):
        method.loss(network(), X, Y, BatchRng(3))
    again.load_state({key: value.clone() for key, value in method.state().items()})
    assert again.counts.tolist() == [2, 1, 5]
    assert again.auc == method.auc > 0


@pytest.mark.parametrize("name", STARTS)
def test_starts(name: str) -> None:
    found = start_at(name, GAUSSIANS, Y, X, BatchRng(3))
    known = {
        "uniform": lambda rng: rng.uniform(X),
        "gaussian": lambda rng: GAUSSIANS.draw(Y, X, rng),
        "pca": lambda rng: GAUSSIANS.sample_pca(Y, X, rng, 30),
    }
    assert torch.equal(found, known[name](BatchRng(3)))
