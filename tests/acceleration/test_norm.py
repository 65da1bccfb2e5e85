"""Batch normalisation in training, what follows it, and their gradients, against float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.convolutions import needs_compiler
from helpers.threads import in_threads
from torch import Tensor, nn

from jeatcli.acceleration.native import norm
from jeatcli.acceleration.native.norm import NormAct, fits_norm

Case = tuple[Tensor, Tensor | None, Tensor]
# What follows, and whether a residual is added before; no network has one before SiLU.
FOLLOWING = [
    (nn.Identity(), False),
    (nn.Identity(), True),
    (nn.ReLU(), False),
    (nn.ReLU(), True),
    (nn.SiLU(), False),
]
# Of some vectors of channels, and several blocks of pixels, the last one not whole.
SIZES = [(3, 16, 5, 7), (9, 64, 16, 16), (5, 48, 7, 3), (2, 512, 4, 3), (33, 32, 2, 2)]


def layer(channels: int, **options: object) -> nn.BatchNorm2d:
    """Return a layer with weights and running statistics that are not the first ones."""
    made = nn.BatchNorm2d(channels, **options)
    for each in (*made.parameters(), *made.buffers()):
        if each.is_floating_point():
            nn.init.uniform_(each, 0.5, 2)
    return made


def given(size: tuple[int, ...], residual: bool, dtype: torch.dtype = torch.float32) -> Case:
    """Return images that are not centred, what is added, and a gradient by the result."""
    torch.manual_seed(0)
    x, added, gradient = torch.randn(3, *size).to(dtype)
    return 2 * x + 3, added if residual else None, gradient


def learnt(module: nn.Module, act: nn.Module, case: Case) -> list[Tensor]:
    """Return the result, and the gradients by images, residual and weights."""
    x, residual, gradient = case
    images = [each.clone().requires_grad_(True) for each in (x, residual) if each is not None]
    if isinstance(module, NormAct):
        out = module(*images)
    else:
        out = act(module(images[0]) if residual is None else module(images[0]) + images[1])
    weights = [each for each in module.parameters() if each.requires_grad]
    return [out.detach(), *torch.autograd.grad(out, [*images, *weights], gradient)]


def close(ours: Tensor, theirs: Tensor, most: float) -> None:
    """Assert that two tensors differ by at most that share of their largest value."""
    atol = most * theirs.abs().max().item()
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=atol)


def doubled(case: Case) -> Case:
    x, residual, gradient = case
    return x.double(), None if residual is None else residual.double(), gradient.double()


@needs_compiler
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(("act", "residual"), FOLLOWING)
@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_same_layer(
    size: tuple[int, ...], act: nn.Module, residual: bool, dtype: torch.dtype, most: float
) -> None:
    plain = layer(size[1])
    exact, case = copy.deepcopy(plain).double(), given(size, residual, dtype)
    joined = NormAct(plain, act)
    for _ in range(2):
        ours, theirs = learnt(joined, act, case), learnt(exact, act, doubled(case))
        for one, other in zip(ours, theirs, strict=True):
            close(one, other, most)
    # Statistics and weights are float32 throughout.
    close(plain.running_mean, exact.running_mean, 1e-6)
    close(plain.running_var, exact.running_var, 1e-6)
    for one, other in zip(ours[-2:], theirs[-2:], strict=True):
        close(one, other, 2e-6)
    assert plain.num_batches_tracked == exact.num_batches_tracked == 2


@needs_compiler
@pytest.mark.parametrize(
    "options",
    [
        {"affine": False},
        {"track_running_stats": False},
        {"affine": False, "track_running_stats": False},
        {"momentum": 0.3, "eps": 0.1},
    ],
)
def test_layers_of_other_options(options: dict[str, object]) -> None:
    plain, case = layer(16, **options), given((3, 16, 5, 7), False)
    exact = copy.deepcopy(plain).double()
    ours = learnt(NormAct(plain, nn.ReLU()), nn.ReLU(), case)
    theirs = learnt(exact, nn.ReLU(), doubled(case))
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, 2e-6)
    for one, other in zip(plain.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(one, other.to(one.dtype))


@needs_compiler
def test_the_variance_of_large_numbers_is_exact() -> None:
    """A mean of squares less the square of the mean would lose all digits."""
    torch.manual_seed(0)
    x, measured = torch.randn(40, 16, 16, 16) + 3000, nn.BatchNorm2d(16, momentum=1.0)
    NormAct(measured, nn.Identity())(x)
    variance, mean = torch.var_mean(x.double(), (0, 2, 3))
    torch.testing.assert_close(measured.running_var.double(), variance, rtol=1e-4, atol=0)
    torch.testing.assert_close(measured.running_mean.double(), mean, rtol=1e-6, atol=0)


@needs_compiler
def test_nan_stays_nan() -> None:
    x = torch.randn(2, 16, 4, 4)
    x[1, 3, 2, 2] = torch.nan
    out = NormAct(layer(16), nn.ReLU())(x)
    assert out[:, 3].isnan().all()
    assert not out[:, :3].isnan().any()


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    case = given((7, 48, 13, 11), True)

    def run() -> Any:
        torch.manual_seed(0)
        return learnt(NormAct(layer(48), nn.ReLU()), nn.ReLU(), case)

    found = [in_threads(count, run) for count in (1, 2, 5)]
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


@needs_compiler
def test_any_memory_layout_will_do() -> None:
    (x, residual, gradient), act = given((3, 16, 6, 8), True), nn.ReLU()
    assert residual is not None
    last = [each.contiguous(memory_format=torch.channels_last) for each in (x, residual, gradient)]
    torch.manual_seed(0)
    expected = learnt(NormAct(layer(16), act), act, (last[0], last[1], last[2]))
    torch.manual_seed(0)
    for one, other in zip(
        learnt(NormAct(layer(16), act), act, (x, residual, gradient)), expected, strict=True
    ):
        assert torch.equal(one, other)


@needs_compiler
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("act", "residual"), FOLLOWING)
def test_gradients_have_gradients(
    act: nn.Module, residual: bool, form: torch.memory_format
) -> None:
    (x, added, gradient), plain = given((5, 16, 6, 7), residual), layer(16)
    found = []
    for module, dtype in ((NormAct(plain, act), torch.float32), (copy.deepcopy(plain), None)):
        wide = dtype or torch.float64
        module.to(wide)
        leaves = [
            each.to(wide).contiguous(memory_format=form).requires_grad_(True)
            for each in (x, added, gradient)
            if each is not None
        ]
        images, by_result = leaves[:-1], leaves[-1]
        if dtype:
            out = module(*images)
        else:
            out = act(module(images[0]) + images[1] if residual else module(images[0]))
        weights = [*module.parameters()]
        first = torch.autograd.grad(out, [*images, *weights], by_result, create_graph=True)
        total = sum((each * each).sum() for each in first)
        wanted = [images[0], by_result, *weights]
        found.append(torch.autograd.grad(total, wanted, allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None) or not (one if other is None else other).any()
        if one is not None and other is not None:
            close(one, other, 1e-4)


def never(*arguments: object) -> None:
    raise AssertionError("the kernel was called")


@pytest.mark.parametrize("residual", [torch.ones(1, 16, 1, 1), torch.ones(3, 16, 5, 7).double()])
def test_what_the_kernel_cannot_add_is_added_by_torch(monkeypatch, residual: Tensor) -> None:
    monkeypatch.setattr(norm, "_run", never)
    x, _, _ = given((3, 16, 5, 7), False)
    plain = layer(16)
    expected = (copy.deepcopy(plain)(x) + residual).relu()
    assert torch.equal(NormAct(plain, nn.ReLU())(x, residual), expected)


def test_running_statistics_are_torchs(monkeypatch) -> None:
    monkeypatch.setattr(norm, "_run", never)
    x, _, _ = given((3, 16, 5, 7), False)
    plain = layer(16).eval()
    assert torch.equal(NormAct(plain, nn.SiLU())(x), nn.functional.silu(plain(x)))


def test_one_number_for_each_channel_is_refused_as_by_torch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        NormAct(layer(16), nn.ReLU())(torch.randn(1, 16, 1, 1))


@needs_compiler
def test_frozen_weights_get_no_gradient() -> None:
    case, act = given((3, 16, 5, 7), False), nn.ReLU()
    plain = layer(16).requires_grad_(False)
    exact = copy.deepcopy(plain).double()
    ours, theirs = learnt(NormAct(plain, act), act, case), learnt(exact, act, doubled(case))
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, 2e-6)


@needs_compiler
@pytest.mark.parametrize("change", ["double", "bfloat16", "expanded", "strided", "momentum"])
def test_a_layer_that_was_changed_since_is_torchs(monkeypatch, change: str) -> None:
    monkeypatch.setattr(norm, "_run", never)
    plain, (x, _, _) = layer(16), given((3, 16, 5, 7), False)
    joined = NormAct(plain, nn.ReLU())
    if change in ("double", "bfloat16"):
        getattr(plain, change)()
        x = x.to(plain.weight.dtype)
    elif change == "expanded":
        plain.weight.data = torch.ones(1).expand(16)
    elif change == "strided":
        plain.running_mean = torch.zeros(32)[::2]
    else:
        plain.momentum = None
    expected = copy.deepcopy(plain)(x).relu()
    torch.testing.assert_close(joined(x), expected)


@needs_compiler
def test_which_layers_fit() -> None:
    assert fits_norm(layer(16))
    assert not fits_norm(layer(12))
    assert not fits_norm(layer(16, momentum=None))
    assert not fits_norm(layer(16).double())
    assert not fits_norm(nn.GroupNorm(4, 16))


@pytest.mark.parametrize("compiler", ["/nonexistent/g++", '"'])
def test_without_a_compiler_none_fits(monkeypatch, anew, compiler: str) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert not fits_norm(layer(16))
