"""Every architecture behind the classifier; published module names; the frozen mode."""

from __future__ import annotations

import shutil

import pytest
import torch
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration.compiled import CPU_SIZES, SIZES, Compiled, pieces
from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import Way
from jeatcli.core.models import ARCHITECTURES, build
from jeatcli.core.models.classifier import Classifier, PixelConv, frozen
from jeatcli.core.models.layers import Shape
from jeatcli.errors import UsageProblem

NETS = ["small", "resnet-18", "resnet-18-wong", "resnet-18-v1", "cifar-resnet-8", "wrn-10-1"]
NETS += ["cifar-resnet-b-8", "dm-wrn-10-1", "jem-wrn-10-1"]


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("arch", NETS)
def test_logits_and_features(arch: str, norm: str) -> None:
    model = classifier(arch, norm).eval()
    x = torch.rand(2, 3, 32, 32)
    features = model.features(x)
    assert model(x).shape == (2, 10)
    torch.testing.assert_close(model.net.head(features), model(x))


@pytest.mark.parametrize("image", [(1, 8, 8), (1, 28, 28), (3, 20, 30)])
@pytest.mark.parametrize("arch", NETS)
def test_other_image_sizes(arch: str, image: tuple[int, int, int]) -> None:
    assert classifier(arch, "batch", image)(torch.rand(2, *image)).shape == (2, 10)


def test_normalisation_is_the_first_layer() -> None:
    model = classifier()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(x), model.net((x - 0.5) / 0.25))


def test_bf16_inside_gives_float32_outside() -> None:
    model = classifier()
    x = torch.rand(2, 3, 32, 32)
    plain = model(x)
    model.autocast = torch.bfloat16
    assert model(x).dtype == model.features(x).dtype == torch.float32
    assert not torch.equal(model(x), plain)
    torch.testing.assert_close(model(x), plain, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("arch", NETS)
@pytest.mark.parametrize("copied", [False, True], ids=["plain", "folded"])
def test_bf16_takes_neither_the_pixels_nor_the_logits(arch: str, copied: bool) -> None:
    """A tenth of a grey level, lost in bfloat16's steps, moves what the second layer takes."""
    model = classifier(arch, "batch").eval()
    model = accelerate(model, torch.bfloat16) if copied else model
    model.autocast = torch.bfloat16
    logits = model(torch.rand(8, 3, 32, 32))
    assert not torch.equal(logits, logits.bfloat16().float())
    seen: list[torch.Tensor] = []
    for each in model.modules():
        if isinstance(each, PixelConv):
            each.register_forward_hook(lambda module, given, found: seen.append(found))
    grey = torch.full((1, 3, 32, 32), 0.8)
    for x in (grey, grey + 0.1 / 255):
        assert torch.equal(grey.bfloat16(), x.bfloat16())
        model(x)
    assert seen[0].dtype == torch.float32
    assert not torch.equal(*seen)


def test_wide_resnet_has_the_published_names_and_size() -> None:
    net = build("wrn-28-10", Shape((3, 32, 32), 10))
    keys = net.state_dict()
    assert sum(weight.numel() for weight in net.parameters()) == 36_479_194
    for key in ("block1.layer.0.convShortcut.weight", "block3.layer.3.bn2.running_var", "fc.bias"):
        assert key in keys


def test_preactivation_resnet_has_the_published_names_and_size() -> None:
    net = build("resnet-18", Shape((3, 32, 32), 10))
    assert sum(weight.numel() for weight in net.parameters()) == 11_172_170
    for key in ("layer2.0.shortcut.0.weight", "layer4.1.bn2.weight", "bn.weight", "linear.bias"):
        assert key in net.state_dict()


def test_frozen_restores_modes_and_gradients() -> None:
    model = classifier("resnet-18", "batch").train()
    model.net.bn.eval()
    with frozen(model):
        assert not model.training
        assert not any(weight.requires_grad for weight in model.parameters())
    assert model.training
    assert not model.net.bn.training
    assert all(weight.requires_grad for weight in model.parameters())


def test_wrong_names_are_told_with_the_nearest() -> None:
    shape = Shape((3, 32, 32), 10)
    with pytest.raises(UsageProblem, match="unknown architecture `resnet18`") as caught:
        build("resnet18", shape)
    assert "did you mean `resnet-18`" in (caught.value.hint or "")
    with pytest.raises(UsageProblem, match="not 6n") as caught:
        build("wrn-29-10", shape)
    assert "wrn-28-10" in (caught.value.hint or "")
    with pytest.raises(UsageProblem, match="depth 4"):
        build("wrn-4-1", shape)
    with pytest.raises(UsageProblem, match="unknown norm layer"):
        Shape((3, 32, 32), 10, "layer")


def test_every_file_says_its_name() -> None:
    assert {"small", "resnet-18", "wrn-D-W"} <= set(ARCHITECTURES)
    assert all(ARCHITECTURES.summaries().values())


def normalisations(net: object) -> int:
    """Count the batch normalisations of a network."""
    assert isinstance(net, nn.Module)
    return sum(isinstance(each, nn.BatchNorm2d) for each in net.modules())


def outputs(model: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of images, and the gradient of their logsumexp by the images."""
    x = x.detach().requires_grad_(True)
    logits = model(x)
    return logits.detach(), torch.autograd.grad(logits.logsumexp(1).sum(), x)[0]


def used(arch: str, image: tuple[int, int, int] = (3, 32, 32)) -> Classifier:
    """Return a network of other statistics than a new one's: folding them wrongly shows."""
    model = classifier(arch, "batch", image)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 2.0)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(0.0, 0.3)
    return model.eval()


def same(one: Classifier, other: Classifier, x: Tensor) -> None:
    """Compare two classifiers' logits and gradients."""
    (logits, gradient), (expected, slope) = outputs(one, x), outputs(other, x)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient, slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("arch", NETS)
def test_what_attacks_search_on_has_the_same_logits_and_gradients(arch: str) -> None:
    model = used(arch)
    fast = accelerate(model)
    assert fast is not model
    assert normalisations(fast.net.body) < normalisations(model.net)
    same(fast, model, torch.rand(4, 3, 32, 32))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
# torch asks it of each piece, and hides the warning that this gives, if warnings are no errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_what_is_compiled_has_the_same_logits_and_gradients() -> None:
    model = used("small", (1, 8, 8))
    fast = accelerate(model, way=Way("winograd", compiled=True))
    assert isinstance(fast, Compiled)
    for count in (1, 83):
        same(fast, model, torch.rand(count, 1, 8, 8))
    with torch.no_grad():
        x = torch.rand(20, 1, 8, 8)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
        assert fast(x[:0]).shape == (0, 10)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20, 24, 40, 54, 64, 200, 300, 600])
@pytest.mark.parametrize(("device", "sizes"), [("cpu", CPU_SIZES), ("meta", SIZES)])
def test_batches_are_cut_into_pieces_of_few_sizes(
    count: int, device: str, sizes: tuple[int, ...]
) -> None:
    parts = list(pieces(torch.rand(count, 1, 2, 2, device=device)))
    assert {len(filled) for filled, _ in parts} <= set(sizes)
    assert sum(few for _, few in parts) == count
    idle = [len(filled) - few for filled, few in parts]
    assert all(each < max(len(parts[k][0]) * 3 / 8, sizes[-1]) for k, each in enumerate(idle))
    assert not any(idle[:-1])  # only the last is filled up


def test_pieces_are_the_images_in_their_order() -> None:
    x = torch.rand(107, 1, 2, 2)
    assert torch.equal(torch.cat([filled[:few] for filled, few in pieces(x)]), x)


@pytest.mark.parametrize(("count", "sizes"), [(54, [64]), (40, [32, 8]), (34, [32, 8]), (30, [32])])
def test_a_piece_nearly_full_goes_through_at_once(count: int, sizes: list[int]) -> None:
    assert [len(filled) for filled, _ in pieces(torch.rand(count, 1, 2, 2))] == sizes


@pytest.mark.parametrize("arch", NETS)
def test_what_inner_loops_see_follows_the_network_as_it_learns(arch: str) -> None:
    model = classifier(arch, "batch").train()
    x = torch.rand(4, 3, 32, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        attach_twin(model)
        with frozen(model) as still:
            assert still is not model
            assert not model.training
            same(still, model, x)
            assert not any(weight.requires_grad for weight in still.parameters())
        assert model.training
        model(x).square().mean().backward()
        optimizer.step()
    attach_twin(model)
    with frozen(model) as again:
        assert again is still
        same(again, model, x)


def test_inner_loops_in_train_mode_see_the_network_itself() -> None:
    model = classifier("small", "batch").train()
    attach_twin(model)
    with frozen(model, train=True) as still:
        assert still is model
        assert model.training


def test_nothing_is_folded_where_nothing_is_normalised() -> None:
    model = classifier("small", "none").eval()
    assert accelerate(model) is model
    attach_twin(model)
    with frozen(model) as still:
        assert still is model
    assert accelerate(model, torch.bfloat16).autocast is torch.bfloat16
    assert model.autocast is None
