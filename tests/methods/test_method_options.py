"""Every option of every method against a loss, an attack or a chain written out by hand."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from jeatcli import methods
from jeatcli.core import energy, objectives, pgd
from jeatcli.core.class_gaussians import ClassGaussians
from jeatcli.core.jeat import AdversarialExamples, Jeat, LangevinNegatives, Method, MethodContext
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape
from jeatcli.core.options import ChainOptions, InnerAttackOptions, redeclared
from jeatcli.core.rng import BatchRng, mix
from jeatcli.core.sgld import Chain, langevin, replayed
from jeatcli.methods.jem import Jem
from jeatcli.methods.noise import Noise
from jeatcli.settings import declared

X = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(24) % 4
SEED = 5


def network(norm_layer: str = "none") -> Classifier:
    torch.manual_seed(0)
    model = Classifier(build("small", Shape((1, 8, 8), 4, norm_layer, "silu")), [0.3], [0.4])
    return model.train()


def gaussians() -> ClassGaussians:
    return ClassGaussians.fit((255 * X).to(torch.uint8), Y, 4)


def prepared(method: Method) -> Method:
    method.setup(MethodContext((255 * X).to(torch.uint8), gaussians(), len(X), SEED))
    return method


class Watched:
    """The inputs of a network's passes, and whether it was in train mode."""

    def __init__(self, model: Classifier) -> None:
        self.inputs: list[Tensor] = []
        self.modes: list[bool] = []
        model.register_forward_pre_hook(self)

    def __call__(self, module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        self.inputs.append(inputs[0].detach())
        self.modes.append(module.training)


ATTACK = {
    "norm": "l2",
    "eps": 0.6,
    "attack_objective": "margin",
    "attack_steps": 3,
    "attack_step_size": 0.2,
    "attack_start": "random",
    "attack_mode": "eval",
}
OTHERS: dict[str, Any] = {
    "norm": "linf",
    "eps": 0.05,
    "attack_objective": "joint",
    "attack_steps": 1,
    "attack_step_size": 0.07,
    "attack_start": "clean",
    "attack_mode": "train",
}


def test_the_divergence_is_that_from_the_clean_images() -> None:
    options = {**ATTACK, "attack_objective": "kl"}
    method = methods.make("at", options)
    assert isinstance(method, AdversarialExamples)
    assert torch.equal(method.attack(network("batch"), X, Y, BatchRng(3)), attacked(options))


def test_every_option_of_the_attack_and_the_chain_is_tried_here() -> None:
    assert set(ATTACK) == set(OTHERS) == set(declared(InnerAttackOptions))
    assert set(CHAIN) == set(CHAIN_OTHERS) == set(declared(ChainOptions))


def attacked(options: dict[str, Any]) -> Tensor:
    """Attack by hand."""
    model = network("batch").train(options["attack_mode"] == "train")
    ball = (pgd.Linf if options["norm"] == "linf" else pgd.L2)(options["eps"])
    start = ball.start(X, BatchRng(3)) if options["attack_start"] == "random" else X
    return pgd.ascend(
        objectives.objective(options["attack_objective"], model, X, Y),
        X,
        ball,
        steps=options["attack_steps"],
        step_size=options["attack_step_size"],
        start=start,
    )


@pytest.mark.parametrize("name", ["at", "prejeat", "jeat"])
@pytest.mark.parametrize("changed", [None, *OTHERS])
def test_the_attack_has_its_options(name: str, changed: str | None) -> None:
    options = ATTACK if changed is None else {**ATTACK, changed: OTHERS[changed]}
    method = methods.make(name, options)
    assert isinstance(method, AdversarialExamples)
    model = network("batch")
    watched = Watched(model)
    moved = method.attack(model, X, Y, BatchRng(3))
    assert torch.equal(moved, attacked(options))
    assert set(watched.modes) == {options["attack_mode"] == "train"}
    assert model.training
    if changed is not None:
        assert not torch.equal(moved, attacked(ATTACK))


@pytest.mark.parametrize(
    ("name", "objective"), [("at", "ce"), ("prejeat", "joint"), ("jeat", "joint")]
)
def test_what_the_attack_raises_by_default(name: str, objective: str) -> None:
    options = {**ATTACK, "attack_objective": objective}
    method = methods.make(name, {k: v for k, v in ATTACK.items() if k != "attack_objective"})
    assert isinstance(method, AdversarialExamples)
    assert torch.equal(method.attack(network("batch"), X, Y, BatchRng(3)), attacked(options))


@pytest.mark.parametrize(("steps", "size"), [(1, 1.25), (2, 1.25), (3, 2.5 / 3), (10, 0.25)])
def test_the_default_step_size(steps: int, size: float) -> None:
    method = methods.make("at", {"eps": 0.2, "attack_steps": steps})
    assert vars(method)["attack_step_size"] == pytest.approx(size * 0.2)
    assert vars(methods.make("at", {"eps": 0.0}))["attack_step_size"] == 0


CHAIN = {
    "sgld_steps": 3,
    "sgld_step_size": 0.2,
    "sgld_noise": 0.01,
    "sgld_clip": 0.01,
    "buffer_size": 50,
    "reinit": 0.3,
    "chain_start": "uniform",
    "lambda_": 0.7,
    "energy_l2": 0.3,
}
CHAIN_OTHERS: dict[str, Any] = {
    "sgld_steps": 4,
    "sgld_step_size": 0.4,
    "sgld_noise": 0.0,
    "sgld_clip": 0.0,
    "buffer_size": 60,
    "reinit": 1.0,
    "chain_start": "gaussian",
    "lambda_": 0.2,
    "energy_l2": 0.1,
}


def chained(options: dict[str, Any], x: Tensor, rng: BatchRng) -> tuple[Tensor, Tensor]:
    """Run the chain by hand; return its end, and the buffer after it."""

    def states(like: Tensor, rng: BatchRng) -> Tensor:
        if options["chain_start"] == "uniform":
            return rng.uniform(like)
        return gaussians().draw(rng.integers(4, len(like)), like, rng)

    buffer = states(torch.empty(options["buffer_size"], 1, 8, 8), BatchRng(mix(SEED, 1)))
    start, indices = replayed(buffer, states(x, rng), options["reinit"], rng)
    names = ("sgld_steps", "sgld_step_size", "sgld_noise", "sgld_clip")
    chain = Chain(*(options[name] for name in names))
    model = network().eval()
    end = langevin(lambda images: energy.marginal(model(images)), start, chain, rng)
    buffer[indices] = end
    return end, buffer


@pytest.mark.parametrize("name", ["jem", "jeat"])
@pytest.mark.parametrize("changed", [None, *CHAIN_OTHERS])
def test_the_chain_has_its_options(name: str, changed: str | None) -> None:
    options = CHAIN if changed is None else {**CHAIN, changed: CHAIN_OTHERS[changed]}
    method = prepared(methods.make(name, options))
    assert isinstance(method, LangevinNegatives)
    model = network()
    watched = Watched(model)
    end = method.negatives(model, X, BatchRng(3))
    known, buffer = chained(options, X, BatchRng(3))
    assert torch.equal(end, known)
    assert torch.equal(method.state()["buffer"], buffer)
    assert set(watched.modes) == {False}
    assert model.training
    if changed not in (None, "lambda_", "energy_l2"):
        assert not torch.equal(end, chained(CHAIN, X, BatchRng(3))[0])


@pytest.mark.parametrize("lambda_", [0.2, 0.7])
@pytest.mark.parametrize("energy_l2", [0.1, 0.3])
def test_the_energy_loss_is_the_formula(lambda_: float, energy_l2: float) -> None:
    method = Jem(lambda_=lambda_, energy_l2=energy_l2)
    positive, negative = torch.tensor([1.0, 3.0]), torch.tensor([-4.0, 6.0])
    loss, metrics = method.energy_loss(positive, negative)
    # The means are 2 and 1, the mean squares 5 and 26.
    assert loss.item() == pytest.approx(lambda_ * (2 - 1) + energy_l2 * (5 + 26))
    known = {"energy": 2.0, "energy_sgld": 1.0, "energy_gap": 1.0}
    assert {name: value.item() for name, value in metrics.items()} == known


def by_hand(positive: Tensor, classified: Tensor, negatives: Tensor) -> Tensor:
    """Return CE + lambda [E(x+) - E(x_K)] + the mean squares, of a network without norm layers."""
    model = network()
    above, below = energy.marginal(model(positive)), energy.marginal(model(negatives))
    loss = energy.cross_entropy(model(classified), Y).mean()
    loss = loss + CHAIN["lambda_"] * (above.mean() - below.mean())
    return loss + CHAIN["energy_l2"] * (above.square().mean() + below.square().mean())


@pytest.mark.parametrize("positive", ["adversarial", "clean"])
def test_jeat_lowers_the_energy_of_its_positive_images(positive: str) -> None:
    method = prepared(methods.make("jeat", {**ATTACK, **CHAIN, "positive": positive}))
    assert isinstance(method, Jeat)
    rng = BatchRng(3)
    loss, metrics = method.loss(network(), X, Y, rng)
    again, rng = prepared(replace(method)), BatchRng(3)
    assert isinstance(again, Jeat)
    moved = again.attack(network(), X, Y, rng)
    negatives = again.negatives(network(), X, rng)
    image = moved if positive == "adversarial" else X
    torch.testing.assert_close(loss, by_hand(image, moved, negatives))
    model = network()
    torch.testing.assert_close(metrics["energy"], energy.marginal(model(image)).mean())
    torch.testing.assert_close(metrics["energy_sgld"], energy.marginal(model(negatives)).mean())
    predicted = model(moved).argmax(1)
    assert metrics["accuracy"].item() == pytest.approx((predicted == Y).float().mean().item())
    cross_entropy = energy.cross_entropy(model(moved), Y).mean()
    torch.testing.assert_close(metrics["cross_entropy"], cross_entropy)


@pytest.mark.parametrize("input_noise", [0.0, 0.03])
def test_jem_adds_noise_to_its_images(input_noise: float) -> None:
    method = prepared(methods.make("jem", {**CHAIN, "input_noise": input_noise}))
    loss, _ = method.loss(network(), X, Y, BatchRng(3))
    rng = BatchRng(3)
    noisy = X + input_noise * rng.normal(X)
    negatives, _ = chained(CHAIN, noisy, rng)
    torch.testing.assert_close(loss, by_hand(noisy, noisy, negatives))


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
@pytest.mark.parametrize("sigma", [0.1, 0.4])
def test_noise_has_its_distribution_and_deviation(kind: str, sigma: float) -> None:
    method, model = Noise(noise=kind, sigma=sigma), network()
    watched = Watched(model)
    x = X.repeat(40, 1, 1, 1)
    method.loss(model, x, Y.repeat(40), BatchRng(0))
    noise = (watched.inputs[0] - x) / sigma
    drawn = BatchRng(0).normal(x) if kind == "gaussian" else BatchRng(0).uniform(x) - 0.5
    assert torch.nn.functional.cosine_similarity(noise, drawn).min() > 0.99
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    within = noise.abs().max().item()
    assert within == pytest.approx(3**0.5, abs=0.01) if kind == "uniform" else within > 3


@pytest.mark.parametrize("name", ["at", "prejeat"])
def test_adversarial_training_classifies_the_attacked_image(name: str) -> None:
    method = methods.make(name, ATTACK)
    assert isinstance(method, AdversarialExamples)
    loss, _ = method.loss(network(), X, Y, BatchRng(3))
    moved = method.attack(network(), X, Y, BatchRng(3))
    torch.testing.assert_close(loss, energy.cross_entropy(network()(moved), Y).mean())


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_method_smooths_its_labels(name: str) -> None:
    """In the loss alone: the attack's objective, and so the images, stay as they are."""
    seen, losses = [], []
    for smoothing in (0.0, 0.3):
        # The worst weights depend on the loss.
        still = {"rho": 0.0} if name == "sada-jem" else {}
        method = prepared(methods.make(name, {"label_smoothing": smoothing, **still}))
        model = network()
        watched = Watched(model)
        loss, metrics = method.loss(model, X, Y, BatchRng(3))
        seen.append(watched.inputs)
        losses.append((loss, metrics["cross_entropy"]))
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))
    assert losses[0][1] != losses[1][1]
    torch.testing.assert_close(losses[1][0] - losses[0][0], losses[1][1] - losses[0][1])


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_option_is_declared(name: str) -> None:
    method = methods.METHODS.load(name)
    assert set(declared(method)) == {each.name for each in fields(method)}
    assert all(about.help for about, _ in declared(method).values())


@pytest.mark.parametrize("chain_start", ["uniform", "gaussian"])
@pytest.mark.parametrize("name", methods.METHODS)
def test_a_method_computes_where_its_images_are(name: str, chain_start: str) -> None:
    """Not on the default device; `meta`, which computes nothing, stands for another GPU."""
    known = declared(methods.METHODS.load(name))
    asked = {"chain_start": chain_start, "buffer_size": 60}
    model, losses = network(), []
    for default in ("cpu", "meta"):
        with torch.device(default):
            method = prepared(
                methods.make(name, {key: asked[key] for key in asked if key in known})
            )
            losses.append(method.loss(model, X, Y, BatchRng(3))[0])
    assert torch.equal(*losses)


def test_a_redeclared_option_keeps_its_declaration() -> None:
    again = redeclared(InnerAttackOptions, "attack_steps", 5)
    assert again.default == 5
    assert again.metadata["setting"] == declared(InnerAttackOptions)["attack_steps"][0]
