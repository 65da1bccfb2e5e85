"""A sampler and a start from outside the package: a row and a class, or a function."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.cli import done, here, refused
from helpers.runs import load_run

from jeatcli.catalogue import Entry
from jeatcli.checkpoints.model import Model
from jeatcli.core.sgld import Chain, langevin
from jeatcli.errors import UsageProblem
from jeatcli.sampling.sample import sample
from jeatcli.sampling.samplers import Sampler
from jeatcli.sampling.settings import INITIALIZERS, SAMPLERS


@dataclass(frozen=True, kw_only=True)
class Plain(Sampler):
    """Gradient descent."""

    clip: float = 0.0

    @classmethod
    def suited(cls, model: Model) -> Plain:
        return cls(steps=3, step_size=0.1)

    def run(self, energy: Any, start: Any, rng: Any, hook: Any) -> Any:
        return langevin(energy, start, Chain(self.steps, self.step_size, 0.0, self.clip), rng, hook)


def grey(model: Model, data_dir: object, reporter: object) -> Any:
    return lambda y, like, rng: torch.full_like(like, 0.5)


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("outside")
    vars(module).update(Plain=Plain, grey=grey)
    monkeypatch.setitem(sys.modules, "outside", module)
    with monkeypatch.context() as patch:
        patch.setattr(SAMPLERS, "_entries", dict(SAMPLERS))
        patch.setattr(INITIALIZERS, "_entries", dict(INITIALIZERS))
        SAMPLERS.add("plain", Entry("Gradient descent", "outside:Plain"))
        INITIALIZERS.add("grey", Entry("Grey", "outside:grey"))
        yield


def test_they_are_used_like_any_other() -> None:
    model = load_run("jeat", method="jeat")
    given: dict[str, Any] = {"sampler": "plain", "init": "grey", "num": 4}
    start = sample(model, steps=0, **given)
    assert torch.equal(start.images, torch.full_like(start.images, 0.5))
    drawn = sample(model, step_size=0.2, **given)
    assert drawn.settings["sampler"] == "plain"
    assert (drawn.settings["init"], drawn.settings["step_size"]) == ("grey", 0.2)
    chain = sample(
        model, sampler="sgld", init="grey", num=4, steps=3, step_size=0.2, noise=0, clip=0
    )
    assert torch.equal(drawn.images, chain.images)
    with pytest.raises(UsageProblem, match="`noise` belongs to the sampler `sgld`"):
        sample(model, noise=0.1, **given)


def test_the_command_knows_them() -> None:
    load_run("jeat", method="jeat")
    told = here("sample", "jeat", "--sampler", "plane")
    refused(told, 2, "did you mean `plain`?")
    done("sample", "jeat", "--sampler", "plain", "--init", "grey", "-n", 2)
    assert "Gradient descent" in done("sample", "--help")
