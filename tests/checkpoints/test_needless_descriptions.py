"""A description of a checkpoint of others beside a model that needs none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import PLAIN, X, load, weights, written

from jeatcli import attack, classifier_scores, energy, energy_landscape, image_scores, sample
from jeatcli.checkpoints.model import Model
from jeatcli.errors import UsageProblem

LABELS = torch.arange(4)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: attack(model, images=X, labels=LABELS, attacks="fgsm", foreign=PLAIN),
        lambda model: sample(model, num=1, steps=1, init="uniform", foreign=PLAIN),
        lambda model: energy(model, X, foreign=PLAIN),
        lambda model: energy_landscape(model, images=X, labels=LABELS, grid=3, foreign=PLAIN),
        lambda model: classifier_scores(model, images=X, labels=LABELS, foreign=PLAIN),
        lambda model: image_scores(X.numpy(), real=X, features=model, foreign=PLAIN),
    ],
    ids=["attack", "sample", "energy", "landscape", "classifier", "images"],
)
def test_beside_a_loaded_model_it_is_refused(
    tmp_path: Path, call: Callable[[Model], object]
) -> None:
    """It would be passed over: the model has a network and a normalisation already."""
    model = load(written(tmp_path, weights()))
    with pytest.raises(UsageProblem, match="`theirs` is loaded already") as caught:
        call(model)
    assert "load(FILE, foreign=" in str(caught.value.hint)


def test_it_may_be_of_a_file_beside_a_loaded_model(tmp_path: Path) -> None:
    model = load(written(tmp_path, weights()))
    others = {name: each + 1 if each.dim() else each for name, each in weights().items()}
    path = written(tmp_path, others, "others.pt")
    settings = {"images": X, "labels": LABELS, "attacks": "fgsm", "foreign": PLAIN}
    found = attack(model, transfer_from=path, device="cpu", **settings)
    assert found.transfer_from == "others"
