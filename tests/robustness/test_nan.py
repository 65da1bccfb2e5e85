"""Gradients and logits that are no numbers: told, refused, and never taken for robustness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.prototypes import Prototypes, classifier, stranger
from helpers.runs import load_run
from torch import Tensor

from jeatcli.errors import JeatError
from jeatcli.robustness import evaluate


class Torn(Prototypes):
    """Its gradient is NaN at the images that are bright on the left."""

    def features(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        torn = (x[:, :, :, :4].sum((1, 2, 3)) > x[:, :, :, 4:].sum((1, 2, 3))).nonzero().flatten()
        nothing = flat.new_zeros(len(x)).index_put((torn,), (0 * flat[torn]).square().sum(1).sqrt())
        return flat + nothing[:, None]


class Undefined(Prototypes):
    """NaN where the first four columns are dark."""

    def features(self, x: Tensor) -> Tensor:
        bright = x[:, :, :, :4].mean((1, 2, 3)) - 0.22
        return x.flatten(1) + 0 * bright.sqrt()[:, None]


class Edged(Prototypes):
    """The same function, but its gradient is NaN where the first pixel is black."""

    def features(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return flat + 0 * flat[:, :1].sqrt()


@pytest.mark.parametrize("name", ["pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-t"])
def test_a_start_that_ends_in_nan_leaves_the_others(name: str) -> None:
    """Half of the starts begin at a black pixel; the others find what they find without NaN."""
    settings: dict[str, Any] = {"norm": "l2", "eps": 0.6, "steps": 10, "restarts": 6}
    model = stranger(Prototypes())
    edged = replace(model, classifier=classifier(Edged()).requires_grad_(False))
    clean, torn = (
        evaluate.attack(each, attacks=[name], num=60, **settings) for each in (model, edged)
    )
    assert clean.per_attack[name]["broken"] > 5
    assert torn.per_attack[name]["nan"] > 0
    assert torn.per_attack[name]["broken"] >= clean.per_attack[name]["broken"] - 1


def test_logits_of_nan_are_refused() -> None:
    model = load_run("model")
    next(model.classifier.parameters()).fill_(torch.nan)
    with pytest.raises(JeatError, match="`model` gives logits that are NaN or infinite"):
        evaluate.attack(model, num=20, batch_size=20)


def test_logits_of_nan_on_some_images_are_refused() -> None:
    """A network that is sound on a probe may not be on the test images."""
    with pytest.raises(JeatError, match="the logits are NaN or infinite for 2 of 20 images"):
        evaluate.attack(stranger(Undefined()), num=20, batch_size=20)


WITH_GRADIENTS = ["fgsm", "pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_of_nan_are_told_and_break_nothing(name: str, norm: str) -> None:
    model = stranger(Torn())
    settings: dict[str, Any] = {"norm": norm, "eps": 0.1 if norm == "linf" else 0.6, "queries": 20}
    settings |= {} if name == "fgsm" else {"steps": 5}
    found = evaluate.attack(model, attacks=[name, "square"], num=60, **settings)
    assert found.per_attack["square"]["nan"] == 0
    assert found.per_attack[name]["nan"] > 0
    assert "gradients-that-are-no-numbers" in [each["name"] for each in found.warnings]
    assert found.per_attack[name]["broken"] > 0
