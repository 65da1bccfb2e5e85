"""Calls from the Python API run the same whatever their caller has set in torch."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

# Of several threads one runs at a time: what is set here holds for all of them, as does torch.fx's
# change of `nn.Module` while it traces a network.
_TURN = threading.RLock()
_DEVICES = ("cpu", "cuda", "mps")
_CUDNN = ("deterministic", "benchmark", "allow_tf32")


def in_usual_state(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with gradients, in float32 and on the CPU by default, and put all of it back.

    Neither autocast nor rounded products reach into it; random numbers and flags, which a function
    may set for a device, are put back. Those that a network draws begin the same each time. Threads
    take turns.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with (
            _TURN,
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.random.fork_rng(devices=[]),
            _float32_on_cpu(),
        ):
            torch.default_generator.manual_seed(0)
            return function(*args, **kwargs)

    return run


@contextmanager
def _float32_on_cpu() -> Iterator[None]:
    """Compute in float32, unrounded, on the CPU by default; put back what the caller has set."""
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        for kind in _DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # torch refuses to tell a precision that was set partly by its old names, partly by the new.
        with suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.9 warns of the name alone
            if (usual := torch.get_float32_matmul_precision()) != "highest":
                stack.callback(torch.set_float32_matmul_precision, usual)
                torch.set_float32_matmul_precision("highest")
        for name in _CUDNN:
            with suppress(RuntimeError):
                usual = getattr(torch.backends.cudnn, name)
                stack.callback(setattr, torch.backends.cudnn, name, usual)
        # This context costs time at each of torch's functions.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
