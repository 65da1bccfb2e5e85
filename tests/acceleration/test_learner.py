"""Networks that learn with their normalisations, sums and activations joined."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.convolutions import needs_compiler
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration.learner import learner_of
from jeatcli.acceleration.native.norm import NormAct
from jeatcli.acceleration.twins import attach_twin, learn_by
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import Classifier, Network, evaluating, frozen
from jeatcli.core.worst_weights import at_worst_weights, layerwise

# Architectures with the sum before and after the normalisation, and both activations.
NETWORKS = [
    ("wrn-10-1", "relu"),
    ("wrn-10-1", "silu"),
    ("cifar-resnet-8", "relu"),
    ("cifar-resnet-b-8", "relu"),
    ("resnet-18", "relu"),
    ("resnet-18-v1", "silu"),
    ("dm-wrn-10-1", "silu"),
]
IMAGE = (3, 16, 16)


def learning(arch: str = "cifar-resnet-8", activation: str = "relu") -> Classifier:
    """Return a network in train mode, with its learner."""
    model = plain(arch, activation)
    learn_by(model, Way("winograd"))
    assert model.learner is not None
    return model


def plain(arch: str = "cifar-resnet-8", activation: str = "relu") -> Classifier:
    """Return the same network as it is."""
    return classifier(arch, "batch", IMAGE, activation).train()


def images() -> Tensor:
    return torch.rand(8, *IMAGE, generator=torch.Generator().manual_seed(1))


@needs_compiler
@pytest.mark.parametrize(("arch", "activation"), NETWORKS)
def test_it_learns_the_same(arch: str, activation: str) -> None:
    exact, model, x = plain(arch, activation).double(), learning(arch, activation), images()
    for _ in range(2):
        ours, theirs = model(x), exact.net(exact.normalize(x.double()))
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-3)
    ours.logsumexp(1).sum().backward()
    theirs.logsumexp(1).sum().backward()
    for one, other in zip(model.parameters(), exact.parameters(), strict=True):
        largest = other.grad.abs().max().item()
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=0, atol=1e-2 * largest)
    for one, other in zip(model.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize(("arch", "activation"), NETWORKS)
def test_all_normalisations_are_joined(arch: str, activation: str) -> None:
    model = learning(arch, activation)
    joined = [each for each in model.learner.body.modules() if isinstance(each, NormAct)]
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    assert {id(each.norm) for each in joined} == {id(each) for each in norms}
    left = [node.target for node in model.learner.body.graph.nodes if "relu" in str(node.target)]
    assert not left or arch == "dm-wrn-10-1"


@needs_compiler
def test_the_network_keeps_its_names_and_is_copied_whole() -> None:
    model = learning()
    assert [*model.state_dict()] == [*plain().state_dict()]
    twin, x = copy.deepcopy(model), images()
    before = model(x)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert torch.equal(model(x), before)
    assert not twin(x).any()


@needs_compiler
def test_evaluation_is_the_networks_own(monkeypatch) -> None:
    model = learning()
    monkeypatch.setattr(NormAct, "forward", None)
    with evaluating(model):
        model(images())
    attach_twin(model, Way("winograd"))
    with frozen(model) as still:
        still(images())


@needs_compiler
def test_an_attack_in_train_mode_gets_its_gradient() -> None:
    model, found = learning(), []
    for each in (model, plain()):
        x = images().requires_grad_(True)
        with frozen(each, train=True) as still:
            found.append(torch.autograd.grad(still(x).logsumexp(1).sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-5)
    assert all(weight.grad is None for weight in model.parameters())


@needs_compiler
def test_worst_weights_leave_statistics_alone() -> None:
    model, same = learning(), plain()
    for each in (model, same):
        value, _ = at_worst_weights(
            each, lambda net: (net(images()).logsumexp(1).sum(), None), layerwise(0.01)
        )
        value.backward()
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(
            one.grad, other.grad, rtol=0, atol=5e-3 * other.grad.abs().max().item()
        )
    for one, other in zip(model.buffers(), same.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Counting(Network):
    """A network that does something which its layers do not show."""

    foldable = True
    joinable = False

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
        self.calls = 0

    def features(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.convs(x).mean((2, 3)) * self.calls

    def head(self, features: Tensor) -> Tensor:
        return features


class Joinable(Counting):
    joinable = True


class Further(Joinable):
    """A class made of one that says it of itself."""


@needs_compiler
@pytest.mark.parametrize("kind", [Counting, Joinable, Further])
def test_only_a_class_that_says_so_is_joined(kind: type[Counting]) -> None:
    net = kind().train()
    assert (learner_of(net) is None) == (kind is not Joinable)
    if kind is not Joinable:
        assert net.calls == 0  # nor is it called


@needs_compiler
def test_layers_that_are_replaced_or_listened_to_are_the_networks_own() -> None:
    model, same, heard = learning(), plain(), []
    assert model.learner is not None
    for each in (model, same):
        each.net.layer1[0].bn1.register_forward_hook(lambda *given: heard.append(given[2].shape))
    torch.testing.assert_close(model(images()), same(images()), rtol=1e-3, atol=1e-4)
    assert len(heard) == 2
    for each in (learning(), plain()):
        torch.manual_seed(3)
        each.net.layer1[0].bn2 = nn.GroupNorm(4, 16)
        heard.append(each(images()))
    torch.testing.assert_close(heard[2], heard[3], rtol=1e-3, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("way", [Way("fused"), Way("winograd")])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_gradients_have_gradients(way: Way, activation: str) -> None:
    """A penalty of the gradient, as methods of one's own may have."""
    found = []
    for joined in (True, False):
        model = plain("wrn-10-1", activation)
        exact = model if joined else model.double()
        if joined:
            learn_by(model, way)
        x = images().to(next(exact.parameters()).dtype).requires_grad_(True)
        logits = exact(x) if joined else exact.net(exact.normalize(x))
        (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), x, create_graph=True)
        gradient.square().sum().backward()
        found.append([x.grad, *(weight.grad for weight in exact.net.parameters())])
    for one, other in zip(*found, strict=True):
        if other is None:  # the bias of the head
            assert one is None
            continue
        assert (one.double() - other).norm() <= 0.02 * other.norm() + 1e-9


class Scaled(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@needs_compiler
def test_layers_of_ones_own_are_not_joined() -> None:
    net = Joinable()
    net.convs[1] = Scaled(16)
    assert learner_of(net.train()) is None


@needs_compiler
def test_nothing_to_join_is_no_learner() -> None:
    model = classifier("small", "none", IMAGE).train()
    learn_by(model, Way("winograd"))
    assert model.learner is None
