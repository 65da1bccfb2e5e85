"""A data set from outside the package: a function, and a row of `DATASETS`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.training import run

from jeatcli.checkpoints.checkpoint import load
from jeatcli.cli.types import datasets
from jeatcli.data.facts import DATASETS, DatasetFacts, Request
from jeatcli.data.folder import Parts
from jeatcli.data.images import load_images
from jeatcli.errors import UsageProblem
from jeatcli.robustness.evaluate import attack


def stripes(request: Request) -> Parts:
    """Vertical or horizontal stripes, 8x8, of random contrast."""
    count, seed = (64, 1) if request.split == "train" else (32, 2)
    contrast = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 2
    lines = (torch.arange(8) % 2).expand(8, 8)
    pattern = torch.where(labels.bool().view(-1, 1, 1), lines, lines.T).unsqueeze(1)
    return (pattern * (60 + 195 * contrast)).to(torch.uint8), labels, ("rows", "columns")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    module = ModuleType("my_data")
    module.stripes = stripes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_data", module)
    classes, eps = ("rows", "columns"), {"linf": 0.1, "l2": 0.5}
    row = DatasetFacts(
        *("Stripes of two directions", "my_data:stripes", (1, 8, 8), classes, (0.3,), (0.3,)),
        *(eps, "none", {"arch": "small", "epochs": 2, "val_split": 0}),
    )
    DATASETS.add("stripes", row)
    yield "stripes"
    DATASETS.remove("stripes")


def test_a_data_set_from_outside(outside: str, tmp_path: Path) -> None:
    images = load_images(outside, "test")
    assert images.x.shape == (32, 1, 8, 8)
    trained = run(tmp_path / "lines", "at", dataset=outside, arch="small", limit=64)
    model = load(trained.run)
    assert model.meta.classes == ("rows", "columns")
    result = attack(trained.run, attacks="pgd", num=16)
    assert result.eps == 0.1
    assert result.clean > 0.6


def test_its_name_is_completed_and_a_wrong_one_corrected(outside: str) -> None:
    assert datasets()["stripes"] == "Stripes of two directions"
    with pytest.raises(UsageProblem, match="unknown data set `stripe`") as caught:
        load_images("stripe", "test")
    assert "stripes" in str(caught.value.hint)
