"""A rewritten network is compared with the network itself before it is believed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.convolutions import both, fuses_in, needs_compiler
from torch import Tensor, nn

from jeatcli.acceleration.comparison import check_same
from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import KERNELS, Way
from jeatcli.core.models.classifier import Classifier, Network, frozen
from jeatcli.errors import JeatError


class Straight(torch.autograd.Function):
    """Rounding, whose gradient is that of the identity (Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Base(Network):
    """A network that somebody brings; what is between its convolutions is that of each."""

    foldable = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.last, self.relu = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        self.out = nn.Linear(16, 10)
        self.nothing = nn.Identity()
        self.gain = 1.0

    def between(self, x: Tensor) -> Tensor:
        return x

    def features(self, x: Tensor) -> Tensor:
        x = self.between(self.relu(self.norm(self.first(x))))
        return self.relu(self.last(x)).mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.out(features)
        return logits


class Rounded(Base):
    def between(self, x: Tensor) -> Tensor:
        return Straight.apply(x)


class Held(Base):
    def between(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            gate = 4 * (x - x.mean((2, 3), keepdim=True))
        return x * gate


class Noisy(Base):
    def between(self, x: Tensor) -> Tensor:
        return x + torch.randn(1, 16, 1, 1)


class Named(Base):
    def features(self, x: Tensor) -> Tensor:
        x = self.relu(input=self.norm(input=self.first(input=x)))
        x = self.last(input=self.nothing(input=x))
        return self.relu(input=x).mean((2, 3))


class Changed(Base):
    def features(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x.add_(0.5)
        return self.relu(self.last(self.relu(self.norm(x)))).mean((2, 3))


class OfTheBatch(Base):
    def train(self, mode: bool = True) -> OfTheBatch:
        super().train(mode)
        self.norm.train()
        return self


class Gained(Base):
    def between(self, x: Tensor) -> Tensor:
        return x * self.gain


class Dull(Base):
    def features(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().features(x)


def model(kind: type[Network]) -> Classifier:
    classifier = Classifier(kind(), [0.5] * 3, [0.25] * 3).eval().requires_grad_(False)
    norm = classifier.net.norm
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.normal_(norm.running_mean)
    return classifier


x = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("kind", "what"), [(Rounded, "gradient by"), (Held, "gradient by"), (Noisy, "features by")]
)
def test_what_does_not_survive_is_refused(kind: type[Network], what: str, name: str) -> None:
    twin = accelerate(model(kind), None, Way(name))
    with pytest.raises(JeatError, match=f"another function than the network `{kind.__name__}`.*"):
        twin(x)
    refused = pytest.raises(JeatError, match=what)
    twin = accelerate(model(kind), torch.bfloat16, Way(name))
    if kind is not Held:  # whose difference is within what bfloat16 may round
        with refused:
            both(twin, x)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("kind", [Base, Named, Changed, OfTheBatch])
def test_what_survives_is_the_same(kind: type[Network], name: str) -> None:
    plain = model(kind)
    twin = accelerate(plain, None, Way(name))
    with torch.no_grad():
        torch.testing.assert_close(twin(x), plain(x), rtol=1e-4, atol=1e-5)
    for one, other in zip(both(twin, x), both(plain, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_a_network_without_a_gradient_is_the_same(name: str) -> None:
    plain = model(Dull)
    with pytest.raises(JeatError, match="gradient by"):  # which torch.fx would give it
        accelerate(plain, None, Way(name))(x)


def test_what_changes_beside_the_weights_is_seen_soon() -> None:
    learner = model(Gained).train().requires_grad_(True)
    attach_twin(learner)
    for step in range(9):
        with frozen(learner) as still:
            assert still is not learner
            if step == 6:  # the eighth time that the weights are fetched
                with pytest.raises(JeatError, match="features by"):
                    still(x)
                return
            still(x)
        learner.net.gain = 1.0 if step < 2 else 2.0
    raise AssertionError("nothing was seen")


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_rounding_is_no_difference(precision: torch.dtype | None) -> None:
    from helpers.networks import classifier

    for arch in ("cifar-resnet-8", "wrn-10-2", "jem-wrn-10-1", "small"):
        plain = classifier(arch, "batch").eval().requires_grad_(False)
        for name in KERNELS:
            both(accelerate(plain, precision, Way(name)), torch.rand(4, 3, 32, 32))


def test_it_neither_draws_nor_changes_anything() -> None:
    plain, given = model(Base), x.clone()
    before = torch.get_rng_state()
    twin = accelerate(plain)
    twin(given)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(given, x)
    assert not twin.net.unchecked


def test_no_images_leave_the_comparison_to_the_next() -> None:
    twin = accelerate(model(Rounded))
    twin(x[:0])
    with pytest.raises(JeatError):
        twin(x[:1])


@pytest.mark.parametrize("shape", [None, (3, 9, 9)])
def test_a_compiled_one_is_compared_uncompiled(monkeypatch, shape: tuple[int, ...] | None) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with pytest.raises(JeatError, match="gradient by 100%"):
        accelerate(model(Rounded), None, Way(compiled=True))(x)
    learner = model(Rounded).train()
    monkeypatch.setattr(Classifier, "compile", lambda *_, **__: None)
    attach_twin(learner, Way(compiled=True), shape)
    if shape is None:
        with frozen(learner) as still:
            assert still is not learner
        return
    with pytest.raises(JeatError, match="gradient by 100%"), frozen(learner):
        pass


def test_one_value_at_the_edge_is_no_difference() -> None:
    """Of two pairs of images one may be cut off otherwise."""

    def theirs(given: Tensor) -> Tensor:
        return given.flatten(1).relu()

    def ours(given: Tensor) -> Tensor:
        return theirs(given) * (1 if torch.equal(given[0], x[2]) else 2)

    check_same("net", ours, theirs, x, torch.float32)
    with pytest.raises(JeatError):
        check_same("net", ours, theirs, x[:2], torch.float32)


def test_nothing_is_no_share_of_nothing() -> None:
    check_same("net", lambda given: 0 * given, lambda given: 0 * given, x, torch.float32)
    with pytest.raises(JeatError, match="features by"):
        check_same("net", lambda given: 1.5 * given, lambda given: given, x, torch.float32)


@needs_compiler
def test_the_types_of_its_convolutions_say_how_it_rounds() -> None:
    half = torch.bfloat16
    if not fuses_in(half):
        pytest.skip("needs a processor that computes in bfloat16")
    plain = model(Base)
    both(accelerate(plain, half, Way("fused")).net.features, x)  # outside autocast
