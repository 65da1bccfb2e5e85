"""What defines each method of the family, against the published formula written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jeatcli import methods
from jeatcli.core.class_gaussians import ClassGaussians
from jeatcli.core.jeat import AdversarialExamples, LangevinNegatives, Method, MethodContext
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier, PixelConv
from jeatcli.core.models.layers import Shape
from jeatcli.core.rng import BatchRng, mix
from jeatcli.core.sgld import replayed
from jeatcli.core.worst_weights import at_worst_weights, layerwise
from jeatcli.errors import UsageProblem
from jeatcli.methods.eb_jdat import EbJdat
from jeatcli.methods.fast import Fast

X = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(24) % 4
PIXELS = (255 * X).to(torch.uint8)
ATTACK = {"eps": 0.1, "attack_steps": 2}


def network(norm_layer: str = "none") -> Classifier:
    torch.manual_seed(0)
    shape = Shape((1, 8, 8), 4, norm_layer, "silu")
    return Classifier(build("small", shape), [0.3], [0.4]).train()


def made(name: str, **options: Any) -> Method:
    method = methods.make(name, options)
    method.setup(MethodContext(PIXELS, ClassGaussians.fit(PIXELS, Y, 4), len(X), 0))
    return method


def attacked(name: str, **options: Any) -> Tensor:
    method = made(name, **options)
    assert isinstance(method, AdversarialExamples)
    return method.attack(network(), X, Y, BatchRng(3))


def gradients(loss: Tensor, model: Classifier) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def agree(loss: Tensor, model: Classifier, known: Tensor, other: Classifier) -> None:
    """The loss and its gradient are those of the formula."""
    torch.testing.assert_close(loss, known)
    pairs = zip(gradients(loss, model), gradients(known, other), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


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


def step(model: Classifier, start: Tensor, size: float) -> Tensor:
    start = start.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(F.cross_entropy(model(start), Y, reduction="sum"), start)
    return (start + size * slope.sign()).detach()


def test_n_fgsm_starts_beyond_the_ball_and_is_never_projected() -> None:
    noise = 0.2 * (2 * BatchRng(3).uniform(X) - 1)
    known = step(network(), (X + noise).clamp(0, 1), 0.1).clamp(0, 1)
    found = attacked("fast", eps=0.1)
    torch.testing.assert_close(found, known)
    assert (found - X).abs().max() > 0.25


def test_fgsm_rs_is_one_step_within_the_ball() -> None:
    known = attacked("at", eps=0.1, attack_steps=1)
    assert torch.equal(attacked("fast", eps=0.1, variant="rs"), known)
    assert (known - X).abs().max() <= 0.1 + 1e-6


def test_fgsm_pgi_starts_where_the_last_batch_ended() -> None:
    method, model, other = (
        made("fast", eps=0.1, variant="pgi", smoothness=2.0),
        network(),
        network(),
    )
    loss, _ = method.loss(model, X, Y, BatchRng(3))
    prior = method.state()["prior"].clone()
    torch.testing.assert_close(prior.abs().amax((1, 2, 3)), torch.full((24,), 0.1))
    loss, _ = method.loss(model, X, Y, BatchRng(4))
    start = (X + prior).clamp(0, 1)
    moved = step(other, start, 0.1).clamp(X - 0.1, X + 0.1).clamp(0, 1)
    torch.testing.assert_close(method.state()["prior"], moved - X)
    apart = (other(moved) - other(start)).square().mean()
    agree(loss, model, F.cross_entropy(other(moved), Y) + 2 * apart, other)


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


def test_the_prior_of_fgsm_pgi_begins_on_the_sphere_and_is_kept() -> None:
    method = made("fast", eps=0.1, variant="pgi")
    assert isinstance(method, Fast)
    grey = torch.full_like(X, 0.5)
    expected = method.ball.on_sphere(grey, BatchRng(mix(0, 1))) - grey
    torch.testing.assert_close(method.prior, expected, rtol=0, atol=1e-6)
    black_and_white = X.round()
    start = method.start(black_and_white, BatchRng(3))
    assert torch.equal(start, (black_and_white + method.prior).clamp(0, 1))
    method.loss(network(), X, Y, BatchRng(3))
    resumed = made("fast", eps=0.1, variant="pgi")
    assert isinstance(resumed, Fast)
    resumed.load_state({name: tensor.clone() for name, tensor in method.state().items()})
    assert torch.equal(resumed.prior, method.prior)
    assert not torch.equal(resumed.prior, expected)
    assert made("fast", eps=0.1, variant="n").state() == {}


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "pgi", "smoothness": 3.0, "attack_steps": 2},
        {"variant": "rs", "attack_start": "clean", "attack_steps": 2},
        {"variant": "n", "smoothness": 0.0},
        {"variant": "rs", "smoothness": 10.0},
    ],
)
def test_what_a_variant_of_fast_takes(options: dict[str, Any]) -> None:
    made("fast", **options)


@pytest.mark.parametrize(
    "options",
    [{"variant": "pgi", "attack_start": "near"}, {"variant": "rs", "smoothness": 3.0}],
)
def test_what_a_variant_of_fast_would_pass_over(options: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem, match=options["variant"]):
        made("fast", **options)


def test_fast_without_a_prior_draws_its_start_once() -> None:
    method, model = made("fast", eps=0.1, variant="n"), network()
    assert isinstance(method, Fast)
    known = F.cross_entropy(model(method.attack(model, X, Y, BatchRng(3))), Y)
    torch.testing.assert_close(method.loss(model, X, Y, BatchRng(3))[0], known)


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
