"""What a user's network must allow: logits, gradients, images apart from their batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.strangers import RAW, Net
from torch import Tensor

from jeatcli import JeatError, load, wrap


def raised(logits: Tensor) -> Tensor:
    raise ValueError("only on Mondays")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda logits: logits.detach(), "have no gradient with respect to the images"),
        (lambda logits: (logits,), "returns a tuple, not logits"),
        (lambda logits: logits.argmax(1), "returns a tensor of torch.int64, not logits"),
        (lambda logits: logits[:, :7], "returns 2x7 for 2 images, not 2x10"),
        (lambda logits: logits[:2], "not one of 3: `Net` returns 2x10 for 3 images"),
        (raised, "fails on images 2x1x8x8: ValueError: only on Mondays"),
        (lambda logits: logits.log(), "gives logits that are NaN or infinite"),
        (lambda logits: logits.mean(0), "returns 10 for 2 images, not 2x10"),
        (lambda logits: {"logits": logits}, "returns a dict, not logits"),
    ],
)
def test_what_a_network_lacks_is_named(after: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises(JeatError) as caught:
        wrap(Net(after), dataset="digits", **RAW)
    assert words in caught.value.message
    assert caught.value.hint


def standardised(x: Tensor) -> Tensor:
    """Divide by the standard deviation of each image, which may be 0."""
    return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


def test_a_network_that_a_grey_image_breaks() -> None:
    net = Net()
    net.register_forward_pre_hook(lambda _, given: standardised(given[0]))
    model = wrap(net, dataset="digits", **RAW)
    with pytest.raises(JeatError, match="NaN or infinite for a grey image") as caught:
        load(model)  # type: ignore[arg-type]
    assert "divide by the deviation" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("after", "fix"),
    [
        (lambda logits: logits[:, :1], "`torch.stack([0 * z, z], 1)`"),
        (lambda logits: logits[:, 0], "`torch.stack([0 * z, z], 1)`"),
        (lambda logits: logits[:, :2, None, None], "return `logits.flatten(1)`"),
        (lambda logits: logits[:, :3], "it must have the 2 classes"),
    ],
)
def test_logits_of_another_shape_have_a_fix(after: Callable[[Tensor], Any], fix: str) -> None:
    with pytest.raises(JeatError, match="images, not 2x2") as caught:
        wrap(Net(after), classes=2, shape=(1, 8, 8), **RAW)
    assert fix in str(caught.value.hint)


def brightest(x: Tensor) -> Tensor:
    """Scale images by the brightest pixel of all, which one of them has."""
    return x / x.abs().amax()


def last(x: Tensor) -> Tensor:
    """Add to the first image what the last has."""
    return torch.cat([x[:1] + x[-1:], x[1:]])


@pytest.mark.parametrize("change", [brightest, last])
def test_what_depends_on_other_images_of_a_batch_is_refused(
    change: Callable[[Tensor], Tensor],
) -> None:
    """Of some images, such as that with the brightest pixel, the logits stay the same."""
    net = Net()
    net.register_forward_pre_hook(lambda _, given: change(given[0]))
    with pytest.raises(JeatError, match="depend on the other images of its batch"):
        wrap(net, dataset="digits", **RAW)
