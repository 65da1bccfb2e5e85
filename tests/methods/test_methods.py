"""The contract of every method found in the folder, and what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from jeatcli import methods
from jeatcli.core import energy
from jeatcli.core.class_gaussians import ClassGaussians
from jeatcli.core.jeat import Method, MethodContext
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape
from jeatcli.core.options import OBJECTIVES, attack_objective
from jeatcli.core.rng import BatchRng
from jeatcli.data.facts import DATASETS
from jeatcli.errors import UsageProblem
from jeatcli.methods import METHODS
from jeatcli.training.resolve import defaults, resolve

NAMES = METHODS
QUICK = {"attack_steps": 2, "sgld_steps": 2, "buffer_size": 60}


def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build("small", Shape((1, 8, 8), 10, "batch", "silu")), [0.3], [0.4])


def method(name: str, **options: Any) -> Method:
    table = {**defaults(name, "digits"), **QUICK}
    made = methods.make(name, methods.options_of(name, options, table, DATASETS["digits"]))
    x, y = batch()
    pixels = (255 * x).to(torch.uint8)
    made.setup(MethodContext(pixels, ClassGaussians.fit(pixels, y, 10), len(x), 0))
    return made


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(
        40
    ) % 10


def loss(
    made: Method, net: Classifier | None = None
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    return made.loss((net or model()).train(), *batch(), BatchRng(3))


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    net, made = model().train(), method(name)
    value, metrics = loss(made, net)
    assert value.ndim == 0
    assert torch.isfinite(value)
    assert {"cross_entropy", "accuracy"} <= set(metrics)
    assert all(each.ndim == 0 for each in metrics.values())
    assert net.training
    assert all(weight.grad is None for weight in net.parameters())
    value.backward()
    for key, weight in net.named_parameters():
        assert weight.grad is not None, key
        assert torch.isfinite(weight.grad).all()
        assert weight.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_the_same_randomness_gives_the_same_loss(name: str) -> None:
    torch.testing.assert_close(loss(method(name))[0], loss(method(name))[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trip(name: str) -> None:
    used, fresh = method(name), method(name)
    loss(used)
    fresh.load_state({key: value.clone() for key, value in used.state().items()})
    torch.testing.assert_close(loss(used)[0], loss(fresh)[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_a_setting_and_is_written_down(name: str) -> None:
    config = resolve({"method": name, "dataset": "digits"})
    again = resolve({"method": name, "dataset": "digits", "options": config.options})
    assert again == config
    with pytest.raises(UsageProblem, match="has no option"):
        resolve({"method": name, "options": {"no_such": "1"}})


def test_the_family_comes_out_of_the_same_pieces() -> None:
    """at = (ce, lambda 0), prejeat = (joint, lambda 0) and standard = noise of nothing."""
    free = {"lambda": 0, "energy_l2": 0}
    same = [
        (method("at"), method("jeat", attack_objective="ce", **free)),
        (method("prejeat"), method("jeat", **free)),
        (method("prejeat"), method("at", attack_objective="joint")),
        (method("standard"), method("noise", sigma=0)),
    ]
    for left, right in same:
        torch.testing.assert_close(loss(left)[0], loss(right)[0])
    assert loss(method("at"))[0] != loss(method("prejeat"))[0]


def test_at_lambda_1_the_loss_is_joint_minus_marginal() -> None:
    made = method("jeat", energy_l2=0)
    net = model().train()
    seen = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    value, _ = loss(made, net)
    attacked, negatives = seen[-2:]
    _, y = batch()
    by_hand = energy.joint(net(attacked), y).mean() - energy.marginal(net(negatives)).mean()
    torch.testing.assert_close(value, by_hand)


def test_the_chain_goes_on_from_the_buffer() -> None:
    made = method("jem", reinit=0.0)
    before = made.state()["buffer"].clone()
    loss(made)
    changed = (made.state()["buffer"] != before).flatten(1).any(1)
    assert changed.sum() == 40


@pytest.mark.parametrize(("start", "spread"), [("uniform", 12**-0.5), ("gaussian", 0.25)])
def test_chains_start_where_they_are_told(start: str, spread: float) -> None:
    """The clip to [0, 1] takes away from the spread of a normal distribution as wide."""
    made = method("jem", chain_start=start)
    assert made.state()["buffer"].std().item() == pytest.approx(spread, abs=0.01)
    assert torch.isfinite(loss(made)[0])


@pytest.mark.parametrize(
    ("name", "option", "value", "what"),
    [
        ("jeat", "attack_steps", "0", "at least 1"),
        ("jeat", "attack_steps", "1.5", "whole number"),
        ("jeat", "eps", "8", "8/255"),
        ("jeat", "norm", "l0", "unknown norm `l0`"),
        ("jem", "reinit", "2", "at least 0 and at most 1"),
        ("jem", "buffer_size", "0", "at least 1"),
        ("jem", "buffer_size", "9", "of 9 images is too small for batches of 64"),
        ("jem", "buffer_size", "1", "of 1 image is too small for batches of 64"),
        ("noise", "sigma", "-1", "at least 0"),
        ("at", "eps", "eight", "not a number"),
        ("at", "attack_step_size", "-1", "at least 0"),
        ("jeat", "attack_step_size", "0", "above 0"),
        ("jem", "buffer_size", "1e30", "at most 1,000,000,000, not 1e+30"),
        ("jem", "buffer_size", 10**9 + 1, "at most 1,000,000,000, not 1,000,000,001"),
        ("jem", "buffer_size", 10**400, "not an even larger number"),
        ("jem", "buffer_size", True, "give a whole number"),
        ("jem", "sgld_noise", "1e308", "not 1e+308"),
        ("jeat", "lambda", "1e39", "`lambda` must be"),
        ("jeat", "eps", "nan", "not nan"),
        ("at", "attack_step_size", "inf", "not inf"),
        ("jem", "sgld_steps", "inf", "whole number"),
        ("noise", "noise", "3", "unknown noise `3`"),
        ("fast", "attack_start", "clean", "variant `n` has a start of its own"),
        ("fast", "smoothness", "3", "variant `n` has no smoothness term for `smoothness=3`"),
        ("fast", "attack_steps", "2", "variant `n` takes one step, not 2"),
    ],
)
def test_values_out_of_range_are_told(name: str, option: str, value: object, what: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        resolve({"method": name, "options": {option: value}})
    assert what in f"{caught.value} {caught.value.hint}"


def test_lambda_is_called_lambda() -> None:
    config = resolve({"method": "jeat", "options": {"lambda": "0.5"}})
    assert config.options["lambda"] == 0.5
    assert vars(methods.make("jeat", config.options))["lambda_"] == 0.5


@pytest.mark.parametrize("name", ["at", "prejeat", "jeat"])
def test_an_objective_that_needs_more_classes_is_refused(name: str) -> None:
    table = {**defaults(name, "digits"), **QUICK}
    options = methods.options_of(name, {"attack_objective": "dlr"}, table, DATASETS["digits"])
    x, y = batch()
    for classes in (2, 3):
        pixels = (255 * x).to(torch.uint8)
        statistics = ClassGaussians.fit(pixels, y % classes, classes)
        context = MethodContext(pixels, statistics, len(x), 0)
        made = methods.make(name, options)
        if classes == 3:
            made.setup(context)
            assert (name == "jeat") == bool(made.state())
            continue
        with pytest.raises(UsageProblem, match="`dlr` needs 3 classes; there are 2"):
            made.setup(context)


@pytest.mark.parametrize(
    ("dataset", "norm", "eps"),
    [
        ("digits", None, 0.15),
        ("digits", "linf", 0.15),
        ("cifar10", "l2", 0.5),
        ("mnist", "linf", 0.3),
        (None, None, 8 / 255),
        (None, "l2", 0.5),
    ],
)
def test_the_customary_radius(dataset: str | None, norm: str | None, eps: float) -> None:
    facts = DATASETS[dataset] if dataset else None
    given = {} if norm is None else {"norm": norm}
    assert methods.options_of("at", given, {}, facts)["eps"] == eps
    assert methods.options_of("at", {**given, "eps": 0.1}, {}, facts)["eps"] == 0.1
    assert "eps" not in methods.options_of("jem", {}, {}, facts)


def test_a_method_names_its_sampler_and_one_that_is_not_ours_has_the_usual_one() -> None:
    assert methods.sampling_of("jem") == ("sgld", "joint")
    assert methods.sampling_of("no-such") == Method.sampling


def test_options_may_be_written_with_dashes() -> None:
    assert methods.options_of("at", {"attack-steps": 3}, {}, None)["attack_steps"] == 3


def test_the_loss_and_the_accuracy_of_a_batch() -> None:
    logits = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    _, metrics = methods.make("standard", {}).classify(logits, torch.tensor([0, 1, 1]))
    assert metrics["accuracy"].item() == pytest.approx(2 / 3)


def test_what_the_objective_of_an_attack_is_declared_as() -> None:
    declared = attack_objective("margin")
    about = declared.metadata["setting"]
    assert declared.default == "margin"
    assert about.help == "Objective that the attack maximises"
    assert about.choices == OBJECTIVES
    assert about.section == ""
