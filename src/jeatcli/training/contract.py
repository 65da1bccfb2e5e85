"""What the loss of a method must be, which may be one of the user's own."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.jeat import Method
from ..errors import JeatError


def checked_loss(method: Method, returned: object) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a loss and what to log with it as tensors of no dimension.

    Raises:
        JeatError: If a method returned anything else, or a loss without a gradient.
    """
    problem = ""
    match returned:
        case (Tensor(ndim=0, requires_grad=True) as loss, Mapping() as logged):
            odd = [name for name, value in logged.items() if not _is_number(value)]
            if not odd:
                return loss, {
                    name: value if isinstance(value, Tensor) else loss.new_tensor(float(value))
                    for name, value in logged.items()
                }
            problem = f"`{odd[0]}` to log, which is no number"
        case (Tensor(ndim=0), Mapping()):
            problem = "a loss without a gradient"
        case (Tensor() as loss, Mapping()):
            problem = f"a loss of the shape {'x'.join(map(str, loss.shape))}"
        case tuple():
            parts = ", ".join(type(part).__name__ for part in returned)
            problem = f"a tuple of {parts or 'nothing'}"
        case _:
            problem = type(returned).__name__
    raise JeatError(
        f"`loss` of the method `{type(method).__name__}` returned {problem}",
        "return a number with a gradient by the weights, and a dictionary of numbers to log",
    )


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and value.dtype is not torch.bool
    return isinstance(value, int | float)
