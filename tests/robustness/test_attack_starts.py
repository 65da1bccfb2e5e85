"""What an attack keeps of several starts, rows and classes, piece by piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.linear_model import Linear, batch, linear
from torch import Tensor

from jeatcli.acceleration.ways import Way
from jeatcli.core.models.classifier import Classifier
from jeatcli.robustness.attacks import surrogate
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


@pytest.mark.parametrize("kind", ["exact", "coarse", "transfer", "coarse transfer"])
def test_best_points_are_tried_on_a_victim_that_the_search_did_not_see(kind: str) -> None:
    model = linear()
    judge = Classifier(Linear(gain=-1.0), (0.0,), (1.0,))
    dtype = torch.bfloat16 if "coarse" in kind else None
    search = Surrogate(model, dtype, victim=judge if "transfer" in kind else None)
    images = batch(model, 4)
    broken, rows = Broken(images), torch.tensor([3, 1])
    part = images.take(rows)
    # Turned around, the first is something else to the network, and what it was to the judge.
    best = torch.stack([-part.x[0], part.x[1]])
    broken.confirm(search, rows, part, best)
    found = {"exact": [], "coarse": [3], "transfer": [1], "coarse transfer": [1]}[kind]
    assert broken.mask.nonzero().flatten().tolist() == found
    assert all(torch.equal(broken.images[k], best[rows.tolist().index(k)]) for k in found)
    assert search.forward == (0 if kind == "exact" else 2)
    broken.confirm(search, rows[:0], part.take(rows[:0]), best[:0])
    assert search.forward == (0 if kind == "exact" else 2)


def test_what_is_counted_while_an_attack_searches() -> None:
    images = batch(linear(), 3)
    search = Surrogate(linear())
    assert search.nan == search.forward == search.backward == 0

    def loss(logits: Tensor) -> Tensor:
        """The root of 0 has no slope; times 0, it is NaN."""
        return (logits[:, 0] * torch.tensor([0.0, 1.0, 1.0])).abs().sqrt()

    for passes in (1, 2):
        _, gradient, _ = search.gradient(loss, images.x)
        assert gradient.isnan().flatten(1).any(1).tolist() == [True, False, False]
        assert (search.nan, search.forward, search.backward) == (passes, 3 * passes, 3 * passes)
    twin = search.fresh(lambda: None)
    assert twin.nan == twin.forward == twin.backward == 0
    assert search.nan == 2


def test_how_the_search_is_made_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(surrogate, "accelerate", lambda *asked_for: asked.append(asked_for))
    model = linear()
    for dtype, way in ((None, Way()), (torch.bfloat16, Way("winograd", compiled=True))):
        Surrogate(model, dtype, way=way)
        assert asked.pop() == (model, dtype, way)


def test_an_image_of_nan_breaks_nothing() -> None:
    """Of it any class is the likeliest; the others of its batch count."""
    model = linear()
    images = batch(model, 3)
    moved = -images.x
    moved[1, 0, 2, 3] = torch.nan
    search = Surrogate(model)
    for broken in (search.broken(images, moved, model(moved)), search.breaks_victim(images, moved)):
        assert broken.tolist() == [True, False, True]
