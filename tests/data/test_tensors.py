"""Images of the caller's own, as tensors, arrays and loaders, under the verbs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from jeatcli import attack, classifier_scores, energy_landscape, sample, wrap
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.data.tensors import own_images
from jeatcli.errors import JeatError, UsageProblem

CLASSES = tuple("0123456789")
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return wrap(net, mean=0.5, std=0.5, classes=10, shape=(1, 8, 8))


@pytest.mark.parametrize(
    "given",
    [
        {"images": X, "labels": Y},
        {"images": X.numpy(), "labels": Y.tolist()},
        {"images": DataLoader(TensorDataset(X, Y), batch_size=4)},
        {"images": [(X[:2], Y[:2]), (X[2:], Y[2:])]},
    ],
    ids=["tensors", "arrays", "loader", "batches"],
)
def test_each_form_is_the_same_attack(model: Model, given: dict[str, Any]) -> None:
    found = attack(model, eps=0.1, steps=3, **given)
    assert found.dataset == "tensors"
    assert found.n == 6
    assert found.samples == attack(model, eps=0.1, steps=3, images=X, labels=Y).samples
    clean = (model.classifier(X).argmax(1) == Y).float().mean().item()
    assert found.clean == pytest.approx(clean)


def test_bytes_are_the_images_of_the_data_set(model: Model) -> None:
    digits = load_images("digits", "test").first(40)
    named = wrap(model.classifier.net, mean=0.5, std=0.5, dataset="digits")
    settings = {"eps": 0.1, "steps": 3, "device": "cpu"}
    theirs = attack(named, num=40, **settings)
    for images in (digits.x, to_unit_range(digits.x)):
        own = attack(model, images=images, labels=digits.y, **settings)
        assert own.samples == theirs.samples


PAIRS = list(zip(X, Y.tolist(), strict=True))


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (X * 255, Y, "pixels from"),
        (X * 2 - 1, Y, "not in [0, 1]"),
        (X / 0, Y, "not in [0, 1]"),
        (X / 255, Y, "are black"),
        (X.round() / 255, Y, "are black"),  # white among them: 1/255 in float32 is above 1/255
        (X.round().double() / 255, Y, "are black"),
        (X[:0], Y[:0], "there are no images"),
        (X[0], Y, "have the shape 1x8x8"),
        (X.permute(0, 2, 3, 1), Y, "channels last"),
        ((X * 255).int(), Y, "torch.int32"),
        (X, Y[:5], "have the shape 5 for 6 images"),
        (X[:1], Y[:5], "have the shape 5 for 1 image"),
        (X, Y + 5, "go from 5 to 10, but there are 10 classes; 10 at index 5 is the"),
        (X, Y.float(), "torch.float32"),
        (X, None, "the images have no labels"),
        ([(X, Y)], Y, "already have labels"),
        ([], None, "no batches"),
        (X.numpy().astype(np.longdouble), Y, "images cannot be read as numbers"),
        (X.numpy().astype(object), Y, "read as numbers (object)"),
        (X.where(X > 0.5, torch.nan), Y, "pixels that are NaN"),
        (X, ["a"] * 6, "labels cannot be read as numbers"),
        (X, [2**70] * 6, "labels cannot be read as numbers"),
        (PAIRS, None, "single images with a label"),
        (list(X), Y, "a batch is a Tensor, not images and their labels"),
        (DataLoader([{"image": x} for x in X], 3), None, "a batch is a dict, not images"),
        (DataLoader(TensorDataset(X), 3), None, "a batch is a list of length 1, not images"),
        ([(X, Y), (X[:, :, 1:], Y)], None, "batches differ: torch.float32 of 1x7x8, torch.float32"),
        ([(X, Y), ((255 * X).byte(), Y)], None, "batches differ"),
        (7, Y, "images cannot be of the type int"),
        (X.to_sparse(), Y, "the images are a tensor of the layout sparse_coo"),
        (np.ma.masked_greater(X.numpy(), 0.5), Y, "the images have masked values"),
        (X, np.ma.masked_equal(Y.numpy(), 0), "the labels have masked values"),
    ],
)
def test_what_does_not_fit_is_named(images: Any, labels: Any, words: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        own_images(images, labels, CLASSES)
    assert words in caught.value.message
    assert caught.value.hint


def test_nested_tensors_are_refused_and_eight_bit_floats_are_read() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are a prototype
        nested = torch.nested.nested_tensor([*X[:2]])
    with pytest.raises(UsageProblem, match="the images are a tensor of the layout nested"):
        own_images(nested, Y[:2], CLASSES)
    coarse = X.to(torch.float8_e4m3fn)
    assert own_images(coarse, Y, CLASSES).x.equal(coarse.float())
    assert own_images(np.ma.masked_array(X.numpy()), Y, CLASSES).x.equal(X)


def test_images_of_another_shape_are_refused(model: Model) -> None:
    with pytest.raises(UsageProblem, match="takes 1x8x8 images"):
        attack(model, images=torch.rand(2, 1, 9, 9), labels=[0, 1])


def test_images_of_two_sources_and_labels_of_none_are_refused(model: Model) -> None:
    for call in (attack, energy_landscape):
        with pytest.raises(UsageProblem, match="exclude each other"):
            call(model, images=X, labels=Y, on="digits")
    for call in (attack, energy_landscape, classifier_scores):
        with pytest.raises(UsageProblem, match="labels, but no images"):
            call(model, labels=Y)


SORTED = torch.arange(100) // 10
VERBS: list[tuple[Any, dict[str, Any]]] = [
    (attack, {"steps": 1}),
    (classifier_scores, {}),
    (energy_landscape, {"kind": "sharpness", "directions": 2}),
]


@pytest.mark.parametrize(("call", "more"), VERBS, ids=["attack", "score", "landscape"])
def test_the_first_images_of_a_sorted_set_are_warned_of(
    model: Model, call: Any, more: dict[str, Any]
) -> None:
    x = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    target = [model] if call is energy_landscape else model

    def warned(labels: torch.Tensor, num: int) -> bool:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call(target, images=x, labels=labels, num=num, **more)
        return any("of 2 of 10 classes" in str(each.message) for each in caught)

    assert warned(SORTED, 20)
    assert not warned(SORTED[torch.randperm(100)], 20)
    assert not warned(SORTED, 100)


def test_networks_that_do_not_go_together_are_told_apart(model: Model) -> None:
    def another(classes: str, side: int) -> Model:
        net = nn.Sequential(nn.Flatten(), nn.Linear(side * side, 10))
        return wrap(net, mean=0, std=1, classes=list(classes), shape=(1, side, side), name="net")

    pairs = [
        (another("9123456780", 8), "classes differ: .*9, 1, 2"),
        (another("0123456789", 9), "images differ: .*1x9x9"),
    ]
    for other, words in pairs:
        with pytest.raises(UsageProblem, match=words):
            energy_landscape([model, other], images=X, labels=Y, grid=3)
        with pytest.raises(JeatError, match=words):
            attack(model, images=X, labels=Y, transfer_from=other)


def test_without_images_there_are_none(model: Model) -> None:
    with pytest.raises(UsageProblem, match="wrapped without a data set"):
        attack(model)


def test_a_landscape_around_them(model: Model) -> None:
    found = energy_landscape([model], kind="sharpness", images=X, labels=Y, num=6)
    assert found.dataset == "tensors"
    assert sample(model, num=2, steps=1).images.shape == (2, 1, 8, 8)
    # No training images are known, so chains start at noise.
    energy_landscape([model], kind="histogram", images=X, labels=Y, num=6)
    energy_landscape([model], images=X, labels=Y, grid=3, axes="classes")
