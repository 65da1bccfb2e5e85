"""A module that is no network of ours, behind the interface of one; and programs."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import Tensor, nn

from jeatcli.core.models import ARCHITECTURES, classifier
from jeatcli.core.models.classifier import Classifier, Network, PixelConv
from jeatcli.core.models.layers import Shape, standardised
from jeatcli.core.models.wrapped import Program, Wrapped

X = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Two(nn.Module):
    """Two linear layers; `classify` gives the logits negated."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.hidden, self.out = nn.Linear(16, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.hidden(self.conv(x).flatten(1)).relu())
        return logits


class Jem(Two):
    def classify(self, x: Tensor) -> Tensor:
        return -self(x).squeeze()


def test_its_features_are_the_logits_until_the_last_layer_is_known() -> None:
    module = Two()
    net = Wrapped(module)
    assert net.about == ""
    assert net.layer is None
    assert net.mixed_precision is False
    assert net.memory_format is torch.contiguous_format
    logits = module(X)
    assert torch.equal(net(X), logits)
    for part in net.penultimate(X):
        assert torch.equal(part, logits)
    assert torch.equal(net.probe(X), logits)
    assert net.layer == "out"
    features, scores = net.penultimate(X)
    assert torch.equal(features, module.hidden(module.conv(X).flatten(1)).relu())
    assert torch.equal(scores, logits)
    assert not module.out._forward_pre_hooks


def test_it_is_called_as_jems_code_is() -> None:
    module = Jem()
    net = Wrapped(module, about="jem")
    assert net.about == "jem"
    assert torch.equal(net(X), -module(X))
    assert net(X[:1]).shape == (1, 3)


def test_a_layer_called_classify_is_no_method() -> None:
    class Layer(Two):
        def __init__(self) -> None:
            super().__init__()
            self.classify = self.out

    module = Layer()
    assert torch.equal(Wrapped(module)(X), module(X))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_method_classify_is_found_in_what_torch_makes_of_a_module() -> None:
    class Scripted(Jem):
        @torch.jit.export
        def classify(self, x: Tensor) -> Tensor:
            return -self(x)

    for module in (torch.jit.script(Scripted()), torch.compile(Jem())):
        assert Wrapped(module).classifies
    net = Wrapped(Jem())
    net.classifies = False
    assert torch.equal(net(X), net.module(X))


@pytest.mark.parametrize("named", [False, True])
def test_the_last_layer_may_be_of_a_class_of_its_own(named: bool) -> None:
    class Last(nn.Linear):
        """As of a library: the same layer, with something more."""

    class Own(Two):
        def __init__(self) -> None:
            super().__init__()
            self.out = Last(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.hidden(self.conv(x).flatten(1)).relu()
            logits: Tensor = self.out(input=hidden) if named else self.out(hidden)
            return logits

    net = Wrapped(Own())
    net.probe(X)
    assert net.layer == (None if named else "out")


def test_mixed_precision_keeps_the_pixels() -> None:
    module = Two()
    net = Wrapped(module, mixed=True)
    assert net.mixed_precision is True
    assert type(module.conv) is PixelConv
    assert type(Wrapped(nn.Sequential(nn.Linear(2, 2)), mixed=True).module[0]) is nn.Linear


@pytest.mark.parametrize(("mixed", "rounded"), [(False, False), (True, True)])
def test_autocast_is_for_networks_that_allow_it(mixed: bool, rounded: bool) -> None:
    model = Classifier(Wrapped(Two(), mixed), (0.5,), (0.5,)).eval()
    exact = model(X)
    model.autocast = torch.bfloat16
    assert torch.equal(model(X), exact) is not rounded


def test_autocast_is_for_any_module_unless_it_says_otherwise() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), nn.Identity()

    model = Classifier(Bare(), (0.5,), (0.5,))  # type: ignore[arg-type]
    exact = model(X)
    model.autocast = torch.bfloat16
    assert not torch.equal(model(X), exact)


def test_features_and_logits_that_score_images() -> None:
    class Halves(Network):
        def features(self, x: Tensor) -> Tensor:
            return x.flatten(1) / 2

        def head(self, features: Tensor) -> Tensor:
            return features[:, :3] * 4

    features, logits = Classifier(Halves(), (0.5,), (0.25,)).penultimate(X)
    torch.testing.assert_close(features, (X.flatten(1) - 0.5) / 0.5)
    torch.testing.assert_close(logits, 4 * features[:, :3])


class Pairs(nn.Module):
    """A graph that was exported for two images and more, and notes what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        assert len(x) >= 2
        return x.flatten(1)


def test_a_program_takes_one_image_twice_and_stays_in_evaluation_mode() -> None:
    graph = Pairs()
    program = Program(graph)
    for count in (1, 2, 3):
        assert torch.equal(program(X[:count]), X[:count].flatten(1))
    assert [len(seen) for seen in graph.seen] == [2, 2, 3]
    assert torch.equal(graph.seen[0], X[[0, 0]])
    assert program.train() is program
    assert [module.training for module in program.modules()] == [False] * 3


def test_what_torch_compiles_is_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(nn.Module, "compile", lambda _, *args, **more: given.extend((args, more)))
    model = Classifier(Wrapped(Two()), (0.0,), (1.0,))
    model.compile("eager", dynamic=False)
    assert given == [("eager",), {"dynamic": False}]


def test_of_torchs_warnings_only_the_intended_are_silenced() -> None:
    logger = logging.getLogger("torch.utils.cpp_extension")
    logger.setLevel(logging.NOTSET)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        classifier.quieten()
        warnings.warn("TensorFloat32 tensor cores for float32", UserWarning, stacklevel=1)
        warnings.warn("TensorFloat32 tensor cores for float32", RuntimeWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(each.message)[:9] for each in heard] == ["TensorFlo", "something"]
    assert logger.level == logging.ERROR


@pytest.mark.parametrize(("name", "kind"), [("relu", nn.ReLU), ("silu", nn.SiLU)])
def test_activations_by_name(name: str, kind: type[nn.Module]) -> None:
    assert type(Shape((1, 8, 8), 10, "none", name).act()) is kind


def test_groups_divide_the_channels() -> None:
    shape = Shape((1, 8, 8), 10, "group", "relu")
    groups = [norm.num_groups for norm in map(shape.norm, (64, 48, 7, 37))]  # type: ignore[union-attr]
    assert groups == [32, 24, 7, 1]


def test_rows_name_their_code() -> None:
    row = ARCHITECTURES["wrn-D-W"]
    assert row.summary.startswith("Wide residual network of depth D")
    assert row.target == "jeatcli.core.models.wrn:make_wrn"
    assert row.reader == "jeatcli.core.models.wrn:read_depth_and_width"
    assert ARCHITECTURES["small"].reader == ""
    assert ARCHITECTURES["small"].numbers({}) == ()
    assert [name for name, row in ARCHITECTURES.items() if row.rare] == ["mma-wrn-D-W"]


def test_an_image_is_standardised_by_itself() -> None:
    """As Ding et al. (2020): by the sample deviation, at least 1 / sqrt(pixels)."""
    x = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(3))
    x[2] = 0.5
    x[3] = 0.5 + 0.001 * x[3]
    for image, moved in zip(x, standardised(x), strict=True):
        deviation = max(image.std(), torch.tensor(90**-0.5))
        torch.testing.assert_close(moved, (image - image.mean()) / deviation)
