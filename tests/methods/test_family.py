"""What defines each method of the family, against the published formula written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.family import ATTACK, PIXELS, X, Y, agree, attacked, gradients, made, network
from torch import Tensor

from jeatcli import methods
from jeatcli.core.jeat import AdversarialExamples, LangevinNegatives
from jeatcli.core.models.classifier import PixelConv
from jeatcli.core.rng import BatchRng
from jeatcli.core.sgld import replayed
from jeatcli.core.worst_weights import at_worst_weights, layerwise
from jeatcli.errors import UsageProblem
from jeatcli.methods.eb_jdat import EbJdat


def test_trades_lowers_the_divergence_through_both_predictions() -> None:
    model, other = network(), network()
    loss, metrics = made("trades", **ATTACK, beta=3.0).loss(model, X, Y, BatchRng(3))
    # The attack: from 0.001 of noise, steps of 1.25 eps along the sign of the gradient of KL.
    p, moved = other(X).softmax(1).detach(), X + 0.001 * BatchRng(3).normal(X)
    for _ in range(2):
        moved = moved.detach().requires_grad_(True)
        kl = F.kl_div(other(moved).log_softmax(1), p, reduction="batchmean")
        (slope,) = torch.autograd.grad(kl, moved)
        moved = (moved + 0.125 * slope.sign()).clamp(X - 0.1, X + 0.1).clamp(0, 1)
    moved = moved.detach()
    assert torch.equal(attacked("trades", **ATTACK), moved)
    clean = other(X)
    kl = F.kl_div(other(moved).log_softmax(1), clean.softmax(1), reduction="batchmean")
    agree(loss, model, F.cross_entropy(clean, Y) + 3 * kl, other)
    assert metrics["accuracy"] == (other(moved).argmax(1) == Y).float().mean()
    assert metrics["clean_accuracy"] == (clean.argmax(1) == Y).float().mean()


def test_mart_boosts_the_margin_and_weights_by_the_clean_error() -> None:
    model, other = network(), network()
    loss, _ = made("mart", **ATTACK, beta=3.0).loss(model, X, Y, BatchRng(3))
    moved = attacked("at", **ATTACK, attack_start="near")
    clean, p = other(X).softmax(1), other(moved).softmax(1)
    total = torch.zeros(())
    for i, label in enumerate(Y.tolist()):
        runner_up = max(p[i, k] for k in range(4) if k != label)
        boosted = -torch.log(p[i, label]) - torch.log(1.0001 - runner_up)
        kl = sum(clean[i, k] * torch.log(clean[i, k] / p[i, k]) for k in range(4))
        total = total + boosted + 3 * kl * (1.0000001 - clean[i, label])
    agree(loss, model, total / len(X), other)


@pytest.mark.parametrize("classified", ["clean", "adversarial"])
def test_weat_weights_each_image_by_its_energy(classified: str) -> None:
    model, other = network(), network()
    options = {**ATTACK, "beta": 3.0, "classified": classified}
    loss, metrics = made("weat", **options).loss(model, X, Y, BatchRng(3))
    moved = attacked("trades", **ATTACK)
    clean, hit = other(X), other(moved)
    weight = 1 / torch.log(1 + torch.exp(torch.abs(-clean.logsumexp(1)))).detach()
    kl = F.kl_div(hit.log_softmax(1), clean.softmax(1), reduction="none").sum(1)
    ce = F.cross_entropy(clean if classified == "clean" else hit, Y, reduction="none")
    agree(loss, model, (weight * (ce + 3 * kl)).mean(), other)
    torch.testing.assert_close(metrics["weight"], weight.mean())


def test_awp_moves_each_layer_against_the_loss_and_leaves_the_weights() -> None:
    """v = gamma |w| g / |g| on weights of two dimensions or more; the gradient at w + v."""
    model, other = network("batch"), network("batch")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    versions = [weight._version for weight in model.parameters()]
    loss, _ = made("at", **ATTACK, awp=0.05).loss(model, X, Y, BatchRng(3))
    found = gradients(loss, model)
    assert [weight._version for weight in model.parameters()] == versions
    assert all(torch.equal(weight, before[key]) for key, weight in model.named_parameters())
    method = made("at", **ATTACK)
    assert isinstance(method, AdversarialExamples)
    moved = method.attack(other, X, Y, BatchRng(3))
    slopes = gradients(F.cross_entropy(other(moved), Y), other)
    # Running statistics have moved once, at w.
    statistics = {key: value.clone() for key, value in other.named_buffers()}
    assert all(torch.equal(value, statistics[key]) for key, value in model.named_buffers())
    with torch.no_grad():
        for weight, slope in zip(other.parameters(), slopes, strict=True):
            if weight.ndim > 1:
                weight += 0.05 * weight.norm() / slope.norm() * slope
    known = F.cross_entropy(other(moved), Y)
    torch.testing.assert_close(loss, known)
    assert known > F.cross_entropy(network("batch")(moved), Y)
    for ours, theirs in zip(found, gradients(known, other), strict=True):
        torch.testing.assert_close(ours, theirs)


CHAIN = {"sgld_steps": 3, "buffer_size": 60}


def negatives(name: str, **options: Any) -> Tensor:
    method = made(name, **CHAIN, **options)
    assert isinstance(method, LangevinNegatives)
    return method.negatives(network(), X, BatchRng(3))


def test_jem_plus_plus_takes_the_steps_through_the_first_layer_as_one() -> None:
    """The published loop: p = dE/dh once, then N clipped steps along the gradient of <p, h(x)>."""
    model, method = network().eval(), made("jem++", **CHAIN)
    assert isinstance(method, LangevinNegatives)
    first = next(module for module in model.modules() if isinstance(module, PixelConv))
    layers: list[Tensor] = []
    first.register_forward_hook(lambda module, inputs, output: layers.append(output))
    initial = method.initial_states(X, (rng := BatchRng(3)))
    x, _ = replayed(method.buffer, initial, method.reinit, rng)
    for _ in range(3):
        x = x.detach().requires_grad_(True)
        value = -model(x).logsumexp(1).sum()
        (p,) = torch.autograd.grad(value, layers[-1])
        for _ in range(5):
            x = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad((p * first(model.normalize(x))).sum(), x)
            x = (x - 0.05 * slope.clamp(-2, 2)).clamp(0, 1)
    torch.testing.assert_close(negatives("jem++"), x.detach())
    assert torch.equal(negatives("jem++"), negatives("jem++", inner_steps=1, sgld_step_size=0.25))
    assert not torch.equal(negatives("jem++"), negatives("jem++", chain_start="uniform"))


def test_sada_jem_takes_its_second_pass_at_adaptively_worst_weights() -> None:
    """v = rho w^2 g / |w g| over all weights; x+ are training images as they are."""
    model, other = network("batch"), network("batch")
    before = {key: value.clone() for key, value in model.named_parameters()}
    method = made("sada-jem", **CHAIN, rho=0.5, energy_l2=0.0, lambda_=0.7)
    loss, _ = method.loss(model, X - 0.1, Y, BatchRng(3))
    found = gradients(loss, model)
    assert all(torch.equal(weight, before[key]) for key, weight in model.named_parameters())
    rng, again = BatchRng(3), made("sada-jem", **CHAIN)
    assert isinstance(again, LangevinNegatives)
    plain = PIXELS[rng.integers(24, 24)] / 255
    drawn = again.negatives(other, X, rng)

    def formula() -> Tensor:
        logits = other(X - 0.1)
        gap = -other(plain).logsumexp(1).mean() + other(drawn).logsumexp(1).mean()
        return F.cross_entropy(logits, Y) + 0.7 * gap

    slopes = gradients(formula(), other)
    statistics = {key: value.clone() for key, value in other.named_buffers()}
    assert all(torch.equal(value, statistics[key]) for key, value in model.named_buffers())
    with torch.no_grad():
        weights = list(other.parameters())
        norm = sum((w * g).square().sum() for w, g in zip(weights, slopes, strict=True)) ** 0.5
        for weight, slope in zip(weights, slopes, strict=True):
            weight += 0.5 * weight**2 * slope / norm
    known = formula()
    torch.testing.assert_close(loss, known)
    for ours, theirs in zip(found, gradients(known, other), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_eb_jdat_is_its_formula_on_images_within_the_ball() -> None:
    model, other = network(), network()
    options = {**ATTACK, **CHAIN, "lambda_": 0.7, "energy_l2": 0.0}
    weights = {"ball_weight": 0.3, "clean_weight": 0.4}
    loss, _ = made("eb-jdat", **options, **weights).loss(model, X, Y, BatchRng(3))
    method, rng = made("eb-jdat", **options), BatchRng(3)
    assert isinstance(method, EbJdat)
    moved = method.attack(other, X, Y, rng)
    drawn = method.negatives(other, X, rng)
    # Its code goes by steps of 2/255 as often as it likes; two of 1.25 eps would leave the ball.
    assert (moved - X).abs().max() <= 0.1 + 1e-6
    clean, hit = other(X), other(moved)
    lse, raised, below = clean.logsumexp(1), hit.logsumexp(1), other(drawn).logsumexp(1)
    known = F.cross_entropy(hit, Y) + 0.7 * (below.mean() - lse.mean())
    known = known + 0.3 * (lse.mean() - raised.mean()) + 0.4 * F.cross_entropy(clean, Y)
    agree(loss, model, known, other)


def test_eb_jdat_with_all_weights_1_is_jeat() -> None:
    same = {**ATTACK, **CHAIN, "energy_l2": 0.0, "chain_start": "gaussian"}
    losses = [
        made(name, **same).loss(network(), X, Y, BatchRng(3))[0] for name in ("eb-jdat", "jeat")
    ]
    torch.testing.assert_close(*losses)


ADVERSARIAL = [
    name for name in methods.METHODS if issubclass(methods.METHODS.load(name), AdversarialExamples)
]


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_awp_changes_every_adversarial_method(name: str) -> None:
    losses = []
    for awp in (0.0, 0.05):
        quick = {"attack_steps": 1 if name == "fast" else 2, "awp": awp}
        losses.append(made(name, **quick).loss(network("batch"), X, Y, BatchRng(3))[0].item())
    assert losses[1] > losses[0]


def test_worst_weights_of_a_network_with_an_idle_part() -> None:
    """A weight that the loss does not see stays where it is."""
    model = network()
    model.net.register_parameter("idle", torch.nn.Parameter(torch.ones(3, 3)))
    seen: list[Tensor] = []

    def offsets(weights: Any, gradients: Any) -> list[Tensor]:
        seen.extend(gradients)
        return layerwise(0.01)(weights, gradients)

    def loss(net: Any) -> tuple[Tensor, None]:
        return F.cross_entropy(net(X), Y), None

    value, _ = at_worst_weights(model, loss, offsets)
    names = [name for name, _ in model.named_parameters()]
    assert torch.equal(seen[names.index("net.idle")], torch.zeros(3, 3))
    assert value > loss(model)[0]


@pytest.mark.parametrize(("start", "spread"), [("clean", 0.0), ("near", 1e-3)])
def test_where_the_inner_attack_starts(start: str, spread: float) -> None:
    method = made("mart", attack_start=start, **ATTACK)
    assert isinstance(method, AdversarialExamples)
    expected = X + spread * BatchRng(3).normal(X)
    assert torch.equal(method.start(X, BatchRng(3)), expected if spread else X)


@pytest.mark.parametrize("name", ["trades", "weat", "at"])
def test_a_divergence_does_not_rise_from_the_image_itself(name: str) -> None:
    """Its gradient there is zero: the sign of rounding errors would be the attack."""
    options = {"attack_objective": "kl", **ATTACK}
    with pytest.raises(UsageProblem, match="no gradient at the image itself") as refused:
        made(name, attack_start="clean", **options)
    assert "attack_start=near" in (refused.value.hint or "")
    made(name, attack_start="near", **options)


def test_the_noise_of_jempp_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    method = made("jem++", input_noise=0.2, sgld_steps=1)
    seen: list[Tensor] = []
    model = network()
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    method.loss(model, X, Y, BatchRng(3))
    expected = X + 0.2 * BatchRng(3).normal(X)
    assert any(point.shape == X.shape and torch.allclose(point, expected) for point in seen)
