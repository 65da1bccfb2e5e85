"""What an attack keeps of several starts, rows and classes, piece by piece."""

from __future__ import annotations

import torch
from helpers.linear_model import batch, linear
from torch import Tensor

from jeatcli.robustness.attacks.batch import Batch
from jeatcli.robustness.attacks.restarts import Broken, from_starts, tries
from jeatcli.robustness.attacks.surrogate import Surrogate


def test_no_start_is_made_for_what_is_broken() -> None:
    model = linear()
    images = batch(model, 3)
    seen: list[tuple[int, list[int]]] = []

    def search(restart: int, part: Batch, left: Tensor, broken: Broken) -> None:
        seen.append((restart, left.tolist()))
        assert torch.equal(part.x, images.x[left])
        broken.add(left, part.x + 1 + restart, left <= restart)

    moved = from_starts(Surrogate(model), images, 9, search)
    assert seen == [(0, [0, 1, 2]), (1, [1, 2]), (2, [2])]
    torch.testing.assert_close(moved, images.x + torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1))


def test_of_several_rows_of_an_image_the_first_counts_for_good() -> None:
    images = batch(linear(), 3)
    broken, rows = Broken(images), torch.tensor([2, 0, 2, 0])
    moved = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 4, 4)
    broken.add(rows, moved, torch.tensor([False, True, True, True]))
    broken.add(rows, moved + 10, torch.ones(4, dtype=torch.bool))
    assert broken.images[0].unique().tolist() == [1]
    assert broken.images[2].unique().tolist() == [2]
    assert torch.equal(broken.images[1], images.x[1])
    assert broken.left.tolist() == [1]


def test_every_class_to_try_has_starts_of_its_own() -> None:
    images = batch(linear(), 3)
    classes = torch.tensor([[1, 2], [3, 4], [0, 1]])
    rows, rngs = tries(images, 7, 4, classes)
    assert rows.toward is not None
    assert rows.toward.tolist() == [1, 3, 0, 2, 4, 1]
    assert torch.equal(rows.x, images.x.repeat(2, 1, 1, 1))
    for number, rng in enumerate(rngs):
        assert torch.equal(rng.uniform(images.x), images.rng(7, 4, number).uniform(images.x))
    alone, (rng,) = tries(images, 7, 4, None)
    assert alone is images
    assert torch.equal(rng.uniform(images.x), images.rng(7, 4, 0).uniform(images.x))
