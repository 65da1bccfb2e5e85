"""Whether a rewritten network is still the same function, seen on images of its own.

The network may not be what its author took it for (gradients of its own making, layers that change
in place, numbers that it draws), and a compiler may be at fault: then a result would be wrong in
silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import JeatError

# The largest differences that are rounding, as shares of the features and of their gradient by the
# images. In bfloat16 both sides round, and cut off what is near zero differently.
_ROUNDING = {torch.float32: (0.01, 0.05), torch.bfloat16: (0.2, 0.8)}
# The same between an image alone and beside another one: libraries add up in another order.
_BESIDE = 0.02
# What is as small as this is no difference.
_NOTHING = 1e-6
_IMAGES = 2
_TRIES = 2

Function = Callable[[Tensor], Tensor]


def check_same(name: str, ours: Function, theirs: Function, x: Tensor, dtype: torch.dtype) -> None:
    """Compare two functions of images x (n, C, H, W), and their gradients, on a few of them.

    Args:
        name: The network's name.
        ours, theirs: The features (n, d) by the rewritten network and by itself.
        x: Images as the network takes them; not changed.
        dtype: What the network computes in.

    Raises:
        JeatError: If they differ by more than rounding.
    """
    worst = ""
    for images in x.detach().split(_IMAGES)[:_TRIES]:
        worst = _difference(ours, theirs, images, _ROUNDING.get(dtype, _ROUNDING[torch.bfloat16]))
        if not worst:  # a value near zero may be cut off in one alone
            return
    if worst:
        raise JeatError(
            f"attacks and chains would see another function than the network `{name}`: one that "
            f"differs in {worst}",
            f"leave `foldable = True` out of `{name}` if it is your own: it may have gradients of "
            "its own making, or draw; otherwise use `--kernel library`, and report it",
        )


@torch.no_grad()
def independent(function: Function, x: Tensor) -> bool:
    """Return whether an image's result is the same, to rounding, alone and beside another image.

    Args:
        function: Of images (n, C, H, W).
        x: At least one image; not changed.
    """
    pair = torch.cat([x[:1], 1 - x[:1]])
    together, alone = function(pair.clone()), torch.cat([function(each) for each in pair.split(1)])
    if together.shape != alone.shape:
        return False
    size, difference = together.float().norm(), (together.float() - alone.float()).norm()
    return bool(difference <= _BESIDE * size + _NOTHING)


def _difference(ours: Function, theirs: Function, x: Tensor, rounding: tuple[float, float]) -> str:
    """Say what differs by more than rounding, or nothing."""
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        expected = list(_evaluated(theirs, x))
        found = list(_evaluated(ours, x))
    for what, most, one, other in zip(
        ("its features", "its gradient", "its features without a gradient"),
        (*rounding, rounding[0]),
        found,
        expected,
        strict=True,
    ):
        size, difference = other.norm().item(), (one - other).norm().item()
        if difference > most * size + _NOTHING:
            return f"{what} by {difference / max(size, _NOTHING):.0%}"
    return ""


def _evaluated(function: Function, x: Tensor) -> Iterator[Tensor]:
    """Yield the result for images with a gradient, that gradient, and the result without one."""
    with torch.enable_grad():
        images = x.clone().requires_grad_(True)
        out = function(images * 1)  # which it may change in place, as no leaf can be
        yield out.detach().float()
        yield _gradient(out, images)
    with torch.no_grad():
        yield function(x.clone()).float()


def _gradient(out: Tensor, images: Tensor) -> Tensor:
    """Return the gradient by the images of a weighted sum of the results, zeros if it has none."""
    if not out.requires_grad:
        return torch.zeros_like(images)
    weights = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
    total = (out.float() * weights).sum()
    (gradient,) = torch.autograd.grad(total, images, allow_unused=True)
    return torch.zeros_like(images) if gradient is None else gradient.float()
