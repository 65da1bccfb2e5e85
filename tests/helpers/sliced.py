"""Networks that take parts of images by slices, and convolutions of 1x1 in every place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.wired import Wired


def several_slices(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return (
        net.b(h[:, :, ::2, 1:]) + net.one(h[:, 2:, 1::2, :-1].repeat(1, 8, 1, 1)[:, :16])[:, :, :1]
    )


def option_a(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.act(net.down(h) + F.pad(h[:, ::2, ::2, ::2], (0, 0, 0, 0, 4, 4)))


def slice_of_nothing(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.b(torch.cat([h[:, :0], h], 1)) + h[:, :, :0].sum(2, keepdim=True)


def slice_of_two_dimensions(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.a(x)).mean((2, 3))[:, 2:11:3]


def sliced_and_used(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    normed = net.act(net.norm(h))[:, :, 1:]
    return net.b(h[:, :, 1:]) + h[:, :, :-1] * h[:, :, 1:] + normed * h.sin()[:, :, 1:]


def slice_of_images(net: Wired, x: Tensor) -> Tensor:
    return net.b(x[:, :, 1:]) + x[:, :, :-1]


def slice_of_a_slice(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.one(net.a(x)[:, :, 1:][:, :, ::3, -2:]))


def result_is_a_slice(net: Wired, x: Tensor) -> Tensor:
    return net.a(x)[:, :3, 1:]


def ends_are_computed(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.b(h[:, :, : h.shape[2] // 2]) + h[:, :, : h.shape[2] // 2]


def other_indices(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    parts = h[:, :, :, None, 1:].sum(3) + h[:, :1, 1:2, 2:3] + h[0:1, :, :, 1:]
    return net.b(h[..., 1:]) + parts * h[:, [0, 0, 3]].sum((1, 2, 3), keepdim=True)


def one_pixel_after_another(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.one(net.act(net.norm(net.one(net.act(net.one(x)) + x)))) + x)


def projection(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.norm(x))
    return net.act(net.c(net.act(net.a(h))) + net.one(h))


def cut_by_others(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.leaky(net.one(h)) + net.act(net.other(net.one(h) + h)) * net.one(net.leaky(h))


SLICED = [
    several_slices,
    option_a,
    slice_of_nothing,
    slice_of_two_dimensions,
    sliced_and_used,
    slice_of_images,
    slice_of_a_slice,
    result_is_a_slice,
    ends_are_computed,
    other_indices,
]
POINTS = [one_pixel_after_another, projection, cut_by_others]


# A part lies where the whole does.


def slice_in_place(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    part = h[:, :, ::2]
    part.mul_(2)
    return net.b(h * 1)


def activated_slice_in_place(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    part = net.act_(h[:, :, ::2])
    return net.b(part) + net.c(h)[:, :, ::2]


def activated_itself_in_place(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(net.act_(net.nothing(h))) + net.c(h)


def activated_slice_is_read_again(net: Wired, x: Tensor) -> Tensor:
    part = net.a(x)[:, :, ::2]
    return net.b(net.act_(part)) + net.c(part * 1)


IN_PLACE = [
    slice_in_place,
    activated_slice_in_place,
    activated_itself_in_place,
    activated_slice_is_read_again,
]
