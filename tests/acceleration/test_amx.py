"""Convolutions by the processor's matrix tiles, value by value against torch's in float64.

What they have in common with the kernel's others is in `test_direct.py`.
"""

from __future__ import annotations

import copy
import ctypes
import itertools
import mmap
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.convolutions import conv, needs_compiler
from helpers.direct import HALF, backward, close, compare, pixels, point, tiled
from helpers.following import every, followed
from helpers.networks import classifier
from torch import Tensor, nn

from jeatcli.acceleration.folding import Rewritten
from jeatcli.acceleration.native import amx
from jeatcli.acceleration.native.after import NOTHING, After, last
from jeatcli.acceleration.native.amx import AmxConv, fits_tiles, has_tiles
from jeatcli.acceleration.native.kernel import call, kernel
from jeatcli.acceleration.steps import Affine
from jeatcli.acceleration.twins import accelerate, attach_twin, learn_by
from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import PixelConv, frozen

pytestmark = pytest.mark.usefixtures("tiles")
every_form = pytest.mark.parametrize(
    ("side", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)], ids=["3x3", "3x3-2", "1x1", "1x1-2"]
)
CHANNELS = (16, 32, 48, 64, 80, 128)
# Images lie side by side in a tile, and of the last ones there may be fewer.
BATCHES = (1, 2, 3, 5, 7, 17)
SIZES = [
    *((0, 4, 4), (1, 1, 1), (17, 1, 1), (5, 7, 9), (7, 4, 4), (3, 7, 7), (2, 8, 8), (17, 2, 4)),
    *((3, 14, 14), (1, 15, 15), (2, 6, 16), (1, 3, 28), (1, 5, 32), (1, 2, 64), (2, 33, 5)),
]


@every_form
def test_any_channels(side: int, stride: int) -> None:
    sizes = itertools.cycle(SIZES)
    for inputs, outputs in itertools.product(CHANNELS, CHANNELS):
        fast = tiled(side, inputs, outputs, stride, bias=outputs != 48)
        for size in itertools.islice(sizes, 2):
            compare(fast, pixels(fast, *size))


@every_form
@pytest.mark.parametrize("channels", [(16, 48), (48, 16)], ids=["16-to-48", "48-to-16"])
def test_any_size(side: int, stride: int, channels: tuple[int, int]) -> None:
    fast = tiled(side, *channels, stride)
    for size in SIZES:
        compare(fast, pixels(fast, *size))
    for width, count in itertools.product((*range(1, 37), 64), BATCHES):
        compare(fast, pixels(fast, count, 1 + (width + count) % 4, width))


@every_form
def test_lines_that_fill_the_cache(side: int, stride: int) -> None:
    fast = tiled(side, 512, 16, stride)
    compare(fast, pixels(fast, 1, 3, 230))


def test_the_padding_may_be_a_word() -> None:
    fast = tiled(3, 16, 48)
    same = nn.Conv2d(16, 48, 3, padding="same").requires_grad_(False)
    same.load_state_dict(fast.conv.state_dict())
    assert fits_tiles(same, HALF)
    compare(AmxConv(same), pixels(fast, 3, 5, 9))


@every_form
@pytest.mark.parametrize("size", [(2, 5, 16), (17, 3, 4), (5, 2, 7)], ids=str)
def test_what_follows_is_done_in_any_tile(
    side: int, stride: int, size: tuple[int, int, int]
) -> None:
    """In whole ones, and in those of which some rows are pixels of no image."""
    fast = tiled(side, 48, 48, stride)
    x = pixels(fast, *size)
    exact = copy.deepcopy(fast.conv).double()(x.double())
    for each in every(fast.empty(x), ("residual", "too", "scale_too", "silu", "keep_slope")):
        for after in (each, each._replace(relu=True)):
            result, too = followed(exact, after)
            close(fast.run(x, after), result)
            if after.too is not None:
                close(after.too, too)
    gradient = torch.randn(exact.shape).to(HALF)
    for after in every(x, ("residual", "cut", "slope", "scale", "more", "silu", "of_cut")):
        found, wanted = backward(fast, gradient, x, after)
        close(found, followed(wanted, after)[0])


def part_of(after: After, part: slice) -> After:
    """Return what follows some images."""
    names = ("residual", "cut", "slope", "more", "too")
    given = {name: value for name in names if (value := getattr(after, name)) is not None}
    return after._replace(**{name: value[part] for name, value in given.items()})


@every_form
@pytest.mark.parametrize("size", [(17, 5, 4), (7, 3, 8), (17, 9, 5), (4, 12, 16)], ids=str)
def test_an_image_does_not_depend_on_those_beside_it(
    side: int, stride: int, size: tuple[int, int, int]
) -> None:
    fast = tiled(side, 48, 48, stride)
    x = pixels(fast, *size)
    gradient = last(torch.randn(fast.shape(x)), HALF)
    parts = (slice(0, 1), slice(size[0] - 1, None), slice(1, 4))
    for after in every(fast.empty(x), ("residual", "scale_too", "silu", "keep_slope")):
        whole = fast.run(x, after)
        for part in parts:
            alone = part_of(after, part)
            if alone.too is not None:
                alone = alone._replace(too=torch.full_like(alone.too, torch.nan))
            assert torch.equal(fast.run(x[part], alone), whole[part])
            assert alone.too is None or torch.equal(alone.too, after.too[part])
    for after in every(x, ("residual", "cut", "slope", "scale", "more", "silu", "of_cut")):
        whole = fast.back(gradient, x.shape, None, after)
        for part in parts:
            alone = part_of(after, part)
            assert torch.equal(fast.back(gradient[part], x[part].shape, None, alone), whole[part])


@every_form
@pytest.mark.parametrize("channels", [(16, 48), (48, 16)], ids=["16-to-48", "48-to-16"])
def test_what_is_not_finite_goes_no_further(
    side: int, stride: int, channels: tuple[int, int]
) -> None:
    """Two pixels of 16 channels are side by side, of which one may be multiplied by nothing."""
    fast = tiled(side, *channels, stride)
    exact = copy.deepcopy(fast.conv).double()
    for size in [(3, 2, 1), (5, 3, 4), (3, 3, 9), (2, 2, 17)]:
        n, height, width = size
        for value, image, row, column in itertools.product(
            (torch.nan, torch.inf, -torch.inf), {0, n - 1}, {0, height - 1}, range(width)
        ):
            x = pixels(fast, *size)
            x[image, :: channels[0] - 1, row, column] = value
            close(fast.run(x, NOTHING), exact(x.double()))
            gradient = torch.randn(fast.shape(x)).to(HALF)
            gradient[image, :: channels[1] - 1, row // stride, column // stride] = value
            close(*backward(fast, gradient, pixels(fast, *size)))


@every_form
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(side: int, stride: int, value: float) -> None:
    for column in range(side):
        fast = tiled(side, 16, 48, stride)
        fast.conv.weight[1, 2, side // 2, column] = value
        fast.refresh()
        x = pixels(fast, 2, 3, 5)
        close(fast.run(x, NOTHING), copy.deepcopy(fast.conv).double()(x.double()))


@every_form
@pytest.mark.parametrize("size", [(1, 3, 5), (3, 4, 4), (5, 3, 7), (2, 2, 16)], ids=str)
def test_nothing_is_read_or_written_beside_the_images(
    side: int, stride: int, size: tuple[int, int, int]
) -> None:
    def among(images: Tensor) -> Tensor:
        """Return the same between two images that are not numbers."""
        around = torch.full_like(images[:1], torch.nan)
        return last(torch.cat([around, images, around]))

    fast = tiled(side, 16, 48, stride)
    x = pixels(fast, *size)
    out = fast.empty(x)
    gradient = last(torch.randn(out.shape), HALF)
    for name, given, weights, result in (
        (fast.names[0], x, fast.forward_weights, out),
        (fast.names[1], gradient, fast.backward_weights, x),
    ):
        expected = call(name, given, weights, torch.empty_like(result), NOTHING)
        beside = {key: among(torch.zeros_like(result)) for key in ("y", "too", "residual")}
        inner = {key: value[1:-1] for key, value in beside.items()}
        after = After(residual=inner["residual"], too=inner["too"])
        found = call(name, among(given)[1:-1], weights, inner["y"], after)
        assert torch.equal(found, expected)
        assert torch.equal(inner["too"], expected.relu())
        assert all(value[:: len(value) - 1].isnan().all() for value in beside.values())


@contextmanager
def at_the_end(numbers: Tensor) -> Iterator[Tensor]:
    """Yield a copy of numbers after which this process may neither read nor write."""
    size = numbers.numel() * numbers.element_size()
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + pages
    protect = ctypes.CDLL(None).mprotect
    assert protect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    flat = torch.frombuffer(memory, dtype=numbers.dtype, count=numbers.numel(), offset=pages - size)
    yield flat.as_strided(numbers.shape, numbers.stride()).copy_(numbers)
    protect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE)


@every_form
@pytest.mark.parametrize("size", [(1, 3, 5), (3, 4, 4), (17, 1, 2), (2, 2, 33)], ids=str)
def test_nothing_is_read_or_written_beyond_the_memory(
    side: int, stride: int, size: tuple[int, int, int]
) -> None:
    fast = tiled(side, 16, 48, stride)
    x = pixels(fast, *size)
    out = fast.empty(x)
    for name, given, weights, result in (
        (fast.names[0], x, fast.forward_weights, out),
        (fast.names[1], torch.ones_like(out), fast.backward_weights, x),
    ):
        expected = call(name, given, weights, torch.empty_like(result), NOTHING)
        zeros = torch.zeros_like(result)
        with ExitStack() as held:
            each = (given, weights, zeros, zeros, zeros, zeros)
            given, weights, y, *others = (held.enter_context(at_the_end(one)) for one in each)
            after = After(residual=others[0], more=others[1], too=others[2])
            assert torch.equal(call(name, given, weights, y, after), expected)


@pytest.mark.slow
def test_a_copy_may_go_to_another_process(tmp_path: Path) -> None:
    """Which has to ask the system for tiles, too."""
    if not isinstance(kernel(), ctypes.CDLL):
        pytest.skip("needs AMX")
    fast = tiled(3, 16, 48)
    x = pixels(fast, 2, 3, 5)
    (tmp_path / "sent").write_bytes(pickle.dumps((fast, x)))
    code = (
        "import pickle, sys; from pathlib import Path; fast, x = pickle.loads(Path(sys.argv[1])"
        ".read_bytes()); Path(sys.argv[2]).write_bytes(pickle.dumps(fast(x)))"
    )
    command = [sys.executable, "-c", code, tmp_path / "sent", tmp_path / "back"]
    subprocess.run(command, check=True)
    assert torch.equal(pickle.loads((tmp_path / "back").read_bytes()), fast(x))


@needs_compiler
def test_silu_is_in_the_pass_of_the_kernel_alone() -> None:
    model = classifier("wrn-10-1", "batch", activation="silu").eval().requires_grad_(False)
    # Without tiles nothing of the network may be left to swap in bfloat16.
    ways = [("winograd", None), ("fused", None), *([("amx", HALF)] if has_tiles() else [])]
    for name, dtype in ways:
        twin = accelerate(model, dtype, Way(name))
        assert isinstance(twin.net, Rewritten)
        assert twin.net.passes is not None
        found = [step for step in twin.net.passes.steps if isinstance(step, Affine) and step.silu]
        assert bool(found) == (name != "fused")
        # What a block adds its result to is read again; of the others the slope is kept.
        assert sum(step.has_slope for step in found) == (0 if name == "fused" else 6)


def test_a_network_that_learns_lends_a_twin_of_them() -> None:
    if not has_tiles():
        pytest.skip("needs g++ and AMX")
    model = classifier("cifar-resnet-8", "batch")
    model.autocast = HALF
    learn_by(model, Way("amx"))
    attach_twin(model, Way("amx"))
    x = torch.rand(2, 3, 32, 32)
    for _ in range(2):
        with frozen(model) as still:
            assert isinstance(still.net, Rewritten)
            assert sum(isinstance(swap, AmxConv) for swap in still.net.swaps) == 6
            torch.testing.assert_close(still(x), model(x), rtol=0.02, atol=0.02)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn_like(weight))
    model(x).square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


FITTING = [
    *(
        conv(inputs, outputs, stride=stride)
        for inputs, outputs in ((16, 48), (80, 16))
        for stride in (1, 2)
    ),
    *(point(16, 32, stride) for stride in (1, 2)),
    conv(32, 32, bias=False),
    nn.Conv2d(16, 16, 3, padding="same"),
    nn.Conv2d(16, 16, 1, padding="same"),
]
OTHERS = [
    conv(3, 16),
    conv(24, 16),
    conv(16, 24),
    conv(32, 8),
    point(20, 32),
    conv(16, 16, stride=3),
    nn.Conv2d(16, 16, 3, (2, 1), 1),
    nn.Conv2d(16, 16, (1, 3), padding=(0, 1)),
    nn.Conv2d(16, 16, 3),
    nn.Conv2d(16, 16, 3, padding="valid"),
    nn.Conv2d(16, 16, 3, padding=2),
    nn.Conv2d(16, 16, 1, padding=1),
    nn.Conv2d(16, 16, 5, padding=2),
    nn.Conv2d(16, 16, 3, padding=2, dilation=2),
    nn.Conv2d(32, 32, 3, padding=1, groups=2),
    nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"),
    nn.Conv2d(16, 16, 1, padding_mode="reflect"),
    PixelConv(16, 16, 3, 1, 1),
    conv(16, 16).double(),
    conv(16, 16).to(HALF),
    conv(16, 16).to("meta"),
    nn.ConvTranspose2d(16, 16, 1),
    nn.Linear(16, 16),
]


def test_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(amx, "has_tiles", lambda: asked.append(True) or True)
    assert not any(fits_tiles(each, HALF) for each in OTHERS)
    others = (torch.float32, torch.float16, torch.float64)
    assert not any(fits_tiles(conv(16, 16), dtype) for dtype in others)
    assert not asked  # so that no kernel is built for them
    assert all(fits_tiles(each, HALF) for each in FITTING)


@pytest.mark.parametrize("allows", [True, False])
def test_the_system_must_allow_them(monkeypatch: pytest.MonkeyPatch, allows: bool) -> None:
    library = SimpleNamespace(ask_for_amx=lambda: allows)
    monkeypatch.setattr(amx, "kernel", lambda: library)
    assert has_tiles.__wrapped__() == allows


def test_the_processor_must_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "kernel", SimpleNamespace)  # without the function that asks
    assert not has_tiles.__wrapped__()


@pytest.mark.parametrize("command", ["/nonexistent/g++", "false", "'"])
def test_a_compiler_must_know_them(
    monkeypatch: pytest.MonkeyPatch, anew: None, command: str
) -> None:
    monkeypatch.setenv("CXX", command)
    assert not has_tiles()
