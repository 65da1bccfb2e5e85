"""A module that is wrapped: copied, asked for its logits, refused where it is none."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import Listener
from helpers.strangers import RAW, Net
from torch import Tensor, nn
from torch.nn.utils import prune

from jeatcli import Foreign, JeatError, attack, load, wrap


def test_a_network_in_training_mode_is_copied_and_one_that_stays_in_it_refused() -> None:
    net = Net().train()
    wrap(net, dataset="digits", **RAW)
    assert net.training
    assert net.linear.weight.requires_grad
    net.train = lambda mode=True: net  # type: ignore[method-assign]
    with pytest.raises(JeatError, match="depend on the other images of its batch"):
        wrap(net, dataset="digits", **RAW)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda x: x, "takes a torch.nn.Module, not <lambda>"),
        (Net, "takes a torch.nn.Module, not Net"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "the weight `1.weight` of `Sequential`"),
        (Net().to("meta"), "the weight `norm.weight` of `Net` has no content"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10, device="meta")), "has no content"),
    ],
    ids=["function", "class", "lazy", "meta", "partly meta"],
)
def test_what_is_no_network_with_weights(net: Any, words: str) -> None:
    with pytest.raises(JeatError, match=words) as caught:
        wrap(net, dataset="digits", **RAW)
    assert caught.value.hint


def test_a_normalisation_without_running_statistics_is_refused() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), Net().linear)
    with pytest.raises(JeatError, match="depend on the other images") as caught:
        wrap(net, dataset="digits", **RAW)
    assert "no running statistics" in str(caught.value.hint)


class Idioms(Net):
    """What public code does: changes its input in place, views features, squeezes logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, 2, 1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(0.5).div_(0.5)
        return self.fc(self.conv(x).relu_().view(x.size(0), -1)).squeeze()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("traced", [False, True])
def test_idioms_of_public_code(traced: bool) -> None:
    net: nn.Module = Idioms().eval()
    x = torch.rand(3, 1, 8, 8)
    expected = net(x.clone())
    if traced:
        net = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        expected = net(x)
    model = wrap(net, dataset="digits", **RAW)
    torch.testing.assert_close(model.classifier(x), expected)
    torch.testing.assert_close(model.classifier(x[:1]), expected[:1])
    found = attack(model, images=x, labels=[1, 2, 3], steps=2, device="cpu")
    assert found.n == 3


def test_a_network_without_weights() -> None:
    class Pixels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10]

    model = wrap(Pixels(), dataset="digits", **RAW)
    assert model.device.type == "cpu"
    assert attack(model, images=torch.rand(3, 1, 8, 8), labels=[1, 2, 3], device="cpu").n == 3


class Classify(Net):
    """As JEM's: the module itself returns an energy."""

    def classify(self, x: Tensor) -> Any:
        return super().forward(x)

    def forward(self, x: Tensor) -> Any:
        return self.classify(x).logsumexp(1)


def test_a_pruned_network_is_copied() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    prune.l1_unstructured(net[1], "weight", 0.5)
    x = torch.rand(3, 1, 8, 8)
    expected = net(x)
    model = wrap(net, dataset="digits", **RAW)
    torch.testing.assert_close(model.classifier(x), expected)


class Scaled(nn.Module):
    """A network whose logits are multiplied by a number."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.scale = net, 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.net(x)


class Keeps(Net):
    """Keeps what it has computed, as a hook of a feature extractor does."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, list[Tensor]] = {"logits": []}

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        self.kept["logits"].append(logits)
        return logits


def test_a_network_that_keeps_activations_is_copied() -> None:
    net = Keeps()
    net(torch.rand(2, 1, 8, 8))
    assert not net.kept["logits"][0].is_leaf
    model = wrap(net, dataset="digits", **RAW)
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.classifier(x), net.eval()(x))


def test_a_network_that_cannot_be_copied() -> None:
    net = Net()
    net.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(JeatError, match=r"cannot be copied: cannot pickle") as caught:
        wrap(net, dataset="digits", **RAW)
    assert "keep no locks" in str(caught.value.hint)


def test_a_method_classify_is_called_in_place_of_the_module() -> None:
    net = Classify().eval()
    model = wrap(net, dataset="digits", **RAW)
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.classifier(x), net.classify(x))


class Twice(Net):
    """A module that gives logits itself, and something else by `classify`."""

    def classify(self, x: Tensor) -> Any:
        return self(x).softmax(1)


class Likely(Net):
    """A module that gives probabilities, and logits by `classify`."""

    def classify(self, x: Tensor) -> Any:
        return super().forward(x)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x).softmax(1)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (Classify, "its method `classify`, as in JEM's code"),
        (Twice, "`forward`"),
        (Likely, "its method `classify`, as in JEM's code"),
    ],
)
def test_a_method_classify_is_called_only_where_the_module_gives_no_logits(
    kind: type[Net], way: str, tmp_path: Path
) -> None:
    net = kind().eval()
    torch.save(net.state_dict(), tmp_path / "theirs.pt")
    foreign = Foreign(f"{__file__}:{kind.__name__}", "digits", (0.0,), (1.0,))
    listener = Listener()
    model = load(tmp_path / "theirs.pt", device="cpu", foreign=foreign, reporter=listener)
    assert listener.said[-1] == f"the logits of `theirs` are those of {way}"
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.classifier(x), Net.forward(net, x))
    assert wrap(net, dataset="digits", **RAW).classifier.net.classifies is (kind is not Twice)


def test_the_same_weights_in_other_code_are_another_model() -> None:
    first = Net()
    second = Classify()
    second.load_state_dict(first.state_dict())
    prints = {wrap(net, dataset="digits", **RAW).fingerprint for net in (first, second)}
    assert len(prints) == 2
    assert wrap(first, dataset="digits", **RAW).fingerprint in prints
    # As does a number that neither the weights nor `repr` show.
    scaled = Scaled(first)
    before = wrap(scaled, dataset="digits", **RAW).fingerprint
    scaled.scale = 2.0
    model = wrap(scaled, dataset="digits", **RAW)
    assert before != model.fingerprint
    # Even if it is changed in the model, between two calls.
    model.classifier.net.module.scale = 1.0
    assert before == model.fingerprint
    model.classifier.net.module.register_forward_hook(lambda _, inputs, output: 2 * output)
    assert before != model.fingerprint


def test_a_fingerprint_changes_nothing_and_stands_on_no_state_of_torch() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10), nn.Dropout())
    model = wrap(net, dataset="digits", **RAW)
    calm, state = model.fingerprint, torch.get_rng_state()
    model.classifier.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.fingerprint == calm
    assert all(module.training for module in model.classifier.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.classifier.net.module[2].num_batches_tracked == 0
    model.classifier.double()  # which takes other images
    assert model.fingerprint != calm
