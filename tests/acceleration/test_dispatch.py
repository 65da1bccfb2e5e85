"""What decides how a network is computed: a measurement that pays, and is kept, and checked."""

from __future__ import annotations

import math
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.convolutions import needs_compiler
from helpers.networks import classifier
from helpers.runs import Listener
from helpers.speeds import AUTO, EAGER, LITTLE, MUCH, SHAPE, Clock, asked, chosen
from torch import Tensor, nn

from jeatcli.acceleration import bench, dispatch, possible
from jeatcli.acceleration.choices import Place, Speeds
from jeatcli.acceleration.dispatch import choose
from jeatcli.acceleration.native import amx, convolution, direct, finish
from jeatcli.acceleration.native.kernel import kernel
from jeatcli.acceleration.ways import KERNELS, NEVER_MEASURED, Way, Wish, Work, compilable
from jeatcli.errors import Interrupted

HALF = torch.bfloat16
SWAPPED = possible.swapped


def test_the_fastest_is_taken_and_told(model, clock: Clock) -> None:
    way, told = chosen(model)
    assert way == Way("winograd-32")
    assert "winograd-32" in told
    assert "library 500, fused 556, winograd 333, winograd-32 1,000" in told
    clock |= {"library": 5e-4}
    assert choose(model, torch.bfloat16, MUCH, EAGER) == Way()  # of another precision


def test_a_long_measurement_is_announced_and_may_be_stopped(
    model, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock |= {f"{name}, compiled": 1e-4 for name in ("library", "winograd-32")}
    long = MUCH._replace(passes=1e9)
    listener = Listener()
    choose(model, None, long, AUTO, listener)
    (said,) = listener.said  # once, and what is quick is not announced
    assert said.startswith("compiling the network to see whether it pays: up to minutes")
    monkeypatch.setattr(bench, "_LONG", -1.0)
    shutil.rmtree(Path(os.environ["JEAT_CACHE_DIR"]), ignore_errors=True)
    listener.said.clear()
    choose(model, None, long, AUTO, listener)
    first = "measuring how this processor computes the network fastest: 0 s or so "
    assert listener.said[0] == first + "(`--kernel library --no-compile` does without)"
    for passes in range(4):
        answers = iter([False] * passes + [True])
        asked.clear()
        with pytest.raises(Interrupted, match="before anything was computed"):
            choose(model, None, long, AUTO, listener, partial(next, answers))
        assert len(asked) == passes


@pytest.mark.parametrize("work", [LITTLE, Work(SHAPE, 8, 0)], ids=["little", "none"])
def test_with_little_to_do_nothing_is_measured(
    model, clock: Clock, cache: Path, work: Work
) -> None:
    assert chosen(model, work, AUTO) == (Way(), "")
    assert not asked
    assert not cache.exists()
    # A measurement goes through the network this often, and must be a few per cent.
    images = 8 * 6 * len(KERNELS)
    assert chosen(model, MUCH._replace(passes=images / 0.031))[1] == ""
    assert chosen(model, MUCH._replace(passes=images / 0.029))[1]


@pytest.mark.parametrize("work", [LITTLE, MUCH])
def test_what_is_wished_for_is_not_measured(model, clock: Clock, work: Work) -> None:
    for way in (Way(name, compiled) for name in KERNELS for compiled in (False, True)):
        # A graph that torch compiles has no tiles, and is fused by it.
        kernel = compilable(way.kernel) if way.compiled else way.kernel
        found, told = chosen(model, work, Wish(*way))
        assert found == way._replace(kernel=kernel)
        assert told == f"convolutions: {found} (not measured)"
    assert chosen(model, work, NEVER_MEASURED)[0] == Way()
    assert not asked


def test_one_wish_leaves_the_other_to_the_clock(model, clock: Clock) -> None:
    assert chosen(model, LITTLE, Wish(compiled=True))[0] == Way("winograd", True)
    assert chosen(model, MUCH, Wish(compiled=True))[0] == Way("winograd-32", True)
    assert chosen(model, LITTLE, Wish("winograd"))[0] == Way("winograd")
    clock |= {"winograd, compiled": 1e-3}
    longer = MUCH._replace(passes=5e6)
    assert chosen(model, longer, Wish("winograd"))[0] == Way("winograd", True)


def test_a_graph_is_compiled_where_the_work_repays_it(model, clock: Clock) -> None:
    clock |= {"winograd-32, compiled": 8e-4, "library, compiled": 9e-4}
    # Whether it pays is not known yet: 3 % of 2,900 s are less than the compiler may take.
    assert chosen(model, MUCH._replace(passes=2.9e6), AUTO)[0] == Way("winograd-32")
    assert "winograd-32, compiled" not in asked
    longer = MUCH._replace(passes=3.1e6)
    assert chosen(model, longer, AUTO)[0] == Way("winograd-32", True)
    # Now it is known: a second of compiling is repaid by 5,000 images, at 0.2 ms each.
    place = Place(model, None, MUCH)
    place.write(Speeds(place.read().seconds, compiling=19.0))
    assert chosen(model, MUCH._replace(passes=9e4), AUTO)[0] == Way("winograd-32")
    assert chosen(model, MUCH._replace(passes=1e5), AUTO)[0] == Way("winograd-32", True)


@pytest.mark.parametrize("slow", [True, False])
def test_what_torch_cannot_compile_or_only_slower_is_left(model, clock: Clock, slow: bool) -> None:
    if slow:
        clock |= {"winograd-32, compiled": 2e-3, "library, compiled": 3e-3}
    longer = MUCH._replace(passes=1e7)
    assert chosen(model, longer, AUTO)[0] == Way("winograd-32")
    assert "winograd-32, compiled" in asked
    chosen(model, longer, AUTO)
    assert ("winograd-32, compiled" in asked) == (not slow)


@pytest.mark.parametrize("patient", [False, True])
def test_without_a_compiler_of_cpp_there_is_no_kernel(
    model, cache: Path, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    # Not the kernel of all tests, nor for them that there is none.
    for module in (amx, convolution, direct, finish):
        monkeypatch.setattr(module, "kernel", kernel.__wrapped__)
    monkeypatch.setattr(dispatch, "_BUILDING", 0 if patient else math.inf)
    for command in ("/nonexistent/g++", "false", "'"):
        monkeypatch.setenv("CXX", command)
        assert chosen(model)[0] in (Way(), Way("fused"))


@needs_compiler
def test_it_leaves_the_network_and_the_random_numbers_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel()  # from the cache of all tests
    monkeypatch.setenv("JEAT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(dispatch, "is_built", lambda: True)
    model = classifier("cifar-resnet-8", "batch").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    work = Work((3, 16, 16), 4, 6e3, 6e3)
    way, told = chosen(model, work)
    assert "winograd " in told
    assert way.kernel in KERNELS
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {type(module) for module in model.modules()} == {
        type(module) for module in classifier("cifar-resnet-8", "batch").modules()
    }


def test_a_slow_kernel_is_not_chosen_by_the_real_clock(
    model, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's way is slowed down, then that of the kernel, in the network itself."""
    real = bench.accelerate
    slow = ""

    def slowed(seen, dtype, way: Way):
        twin = real(seen, dtype)

        def forward(x: Tensor) -> Tensor:
            out = twin(x)
            for _ in range(4 if way.kernel == slow else 0):
                out = out + 0 * twin(x)
            return out

        return forward

    monkeypatch.setattr(bench, "accelerate", slowed)
    monkeypatch.setattr(dispatch, "is_built", lambda: True)
    kinds = {"library": "library", "winograd": "winograd"}
    monkeypatch.setattr(
        possible, "swapped", lambda _, dtype, way, learns: (kinds.get(way.kernel, "winograd"), 1)
    )
    for slow in ("library", "winograd"):
        assert chosen(model, Work((3, 16, 16), 4, 3e4))[0].kernel != slow
        shutil.rmtree(cache)


@pytest.fixture
def fast_tiles(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    """The speeds of a processor on which tiles are there and win."""
    monkeypatch.setattr(possible, "swapped", SWAPPED)
    monkeypatch.setattr(amx, "has_tiles", lambda: True)
    clock["amx"] = 5e-4
    return clock


def test_tiles_are_taken_where_they_win(model, fast_tiles: Clock) -> None:
    assert choose(model, HALF, MUCH, EAGER) == Way("amx")
    assert "amx" in asked
    fast_tiles["amx"] = 9e-3
    assert choose(model, HALF, MUCH._replace(batch=16), EAGER) != Way("amx")


def test_gradients_by_the_weights_are_by_tiles_where_that_wins(model, fast_tiles: Clock) -> None:
    learning = MUCH._replace(updates=MUCH.passes / 10)
    fast_tiles["amx-wgrad"] = 4e-4
    assert choose(model, HALF, learning, EAGER) == Way("amx-wgrad")
    fast_tiles["amx-wgrad"] = 6e-4
    assert choose(model, HALF, learning._replace(batch=16), EAGER) == Way("amx")
    asked.clear()
    # Where nothing is learnt, the two are the same.
    assert choose(model, HALF, MUCH, EAGER) == Way("amx")
    assert "amx-wgrad" not in asked


@pytest.mark.parametrize("what", ["type", "processor", "network"])
def test_tiles_that_change_nothing_are_not_measured(
    model, fast_tiles: Clock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "processor":
        monkeypatch.setattr(amx, "has_tiles", lambda: False)
    elif what == "network":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.padding_mode = "circular"
    dtype = None if what == "type" else HALF
    assert choose(model, dtype, MUCH, EAGER) != Way("amx")
    assert "amx" not in asked


def test_a_compiled_graph_has_no_tiles(model, fast_tiles: Clock) -> None:
    assert Way(compilable("amx"), compiled=True) == Way("library", True)
    assert choose(model, HALF, MUCH, Wish(compiled=True)) == Way("library", True)
    longer = MUCH._replace(passes=1e7)
    for seconds, way in ((6e-4, Way("amx")), (2e-4, Way("library", True))):
        fast_tiles["library, compiled"] = seconds
        for wish in (AUTO, Wish("amx")):
            shutil.rmtree(Path(os.environ["JEAT_CACHE_DIR"]))
            assert choose(model, HALF, longer, wish) == way
    assert {name for name in asked if "compiled" in name} == {"library, compiled"}


@needs_compiler
def test_too_little_work_has_no_kernel_built(anew, tmp_path) -> None:
    model = classifier("cifar-resnet-8", "batch").eval()
    work = Work((3, 32, 32), 8, 20_000)  # seconds, of which it may take three hundredths
    assert choose(model, None, work, Wish(compiled=False)) == Way("library")
    assert not list(tmp_path.rglob("*.so"))
