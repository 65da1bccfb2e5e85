"""Calls from the Python API run the same whatever their caller has set in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def in_usual_state(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with gradients, float32 as the default type, and random numbers put back."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.random.fork_rng(devices=[]),
            ):
                return function(*args, **kwargs)
        finally:
            torch.set_default_dtype(usual)

    return run
