"""What images and labels must be, whoever gives them: numbers, their shape and their range."""

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageProblem
from ..runtime.words import counted
from .stored import check_scale

# Of a normalisation that was taken back.
_ROUNDING = 1e-5
NUMBER_FROM_ZERO = "number the classes from 0, and leave out images without one"


def numbers(values: object, where: str) -> Tensor:
    """Return numbers of the caller's as a tensor on the CPU, whatever they are stored as."""
    kind = getattr(values, "dtype", type(values).__name__)
    if np.ma.is_masked(values):  # what is under the mask would be taken for data
        raise UsageProblem(f"{where} have masked values", "fill them, or leave these images out")
    try:
        if isinstance(values, np.ndarray):
            # Neither another byte order nor negative strides nor read-only memory is for torch.
            values = np.require(values, values.dtype.newbyteorder("="), ["C", "W", "E"])
        given = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise UsageProblem(
            f"{where} cannot be read as numbers ({kind})", "give a tensor or an array of numbers"
        ) from None
    if given.is_nested or given.layout != torch.strided:
        kind = "nested" if given.is_nested else str(given.layout).removeprefix("torch.")
        raise UsageProblem(f"{where} are a tensor of the layout {kind}", "give a dense tensor")
    return given


def pixels(x: Tensor, where: str = "the images") -> Tensor:
    """Return images as a data set has them, uint8 or float32 in [0, 1]; refuse any others."""
    shape = "x".join(map(str, x.shape))
    if x.ndim and not len(x):
        raise UsageProblem(f"there are no images: {where} have the shape {shape}", "give some")
    if x.ndim != 4 or not x.numel():
        raise UsageProblem(f"{where} have the shape {shape}", "give them as (n, C, H, W)")
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise UsageProblem(
            f"{where} have the shape {shape}, with the channels last",
            "move them: `images.transpose(0, 3, 1, 2)`, or `permute` for tensors",
        )
    if x.dtype == torch.uint8:
        check_scale(x.numpy(), where)
        return x
    if not x.is_floating_point():
        raise UsageProblem(f"{where} are {x.dtype}", "give uint8, or floats in [0, 1]")
    x = x.float()  # of 8-bit floats torch finds no minimum
    low, high = x.min().item(), x.max().item()
    if math.isnan(low):
        raise UsageProblem(f"{where} have pixels that are NaN", "leave these images out")
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise UsageProblem(
            f"{where} have pixels from {low:g} to {high:g}, not in [0, 1]",
            "divide pixels 0..255 by 255; undo a normalisation, and give it as mean and std",
        )
    if 0 < high <= (1 + _ROUNDING) / 255:  # white, divided twice, is 1/255 rounded up
        raise UsageProblem(
            f"no pixel of {where} is above {high:.2g}: they are black",
            "divide pixels 0..255 by 255 once",
        )
    return x.clamp(0, 1)


def indices(y: Tensor, count: int, classes: int | None, where: str = "the labels") -> Tensor:
    """Return labels as a data set has them, int64 (count,); refuse what are no indices of classes.

    `classes` is their number, None where it is not known.
    """
    if y.shape != (count,):
        shape = "x".join(map(str, y.shape))
        raise UsageProblem(
            f"{where} have the shape {shape} for {counted(count, 'image')}",
            "give one for each image",
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UsageProblem(f"{where} are {y.dtype}", "give whole numbers from 0")
    y = y.long()  # torch finds no minimum of some unsigned types
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= classes):
        there = "" if classes is None else f", but there are {classes} classes"
        none = (y < 0) | (y > high if classes is None else y >= classes)
        raise UsageProblem(
            f"{where} go from {low} to {high}{there}; "
            f"{first_label(y, none)} is the first that is none",
            NUMBER_FROM_ZERO,
        )
    return y


def first_label(y: Tensor, chosen: Tensor) -> str:
    """Name the first label of those that are chosen (n,), and its place."""
    place = int(chosen.nonzero()[0])
    return f"{int(y[place])} at index {place}"
