"""Values of settings, given as text, numbers or lists, against their declarations."""

from __future__ import annotations

import pytest
import torch

from jeatcli.errors import UsageProblem, unknown
from jeatcli.landscapes.settings import ContourSettings
from jeatcli.robustness.settings import AttackSettings
from jeatcli.sampling.settings import SampleSettings
from jeatcli.scoring.settings import ClassifierSettings, ScoreSettings
from jeatcli.settings import Settings
from jeatcli.training.settings import TrainConfig


@pytest.mark.parametrize("given", ["pgd", ["pgd"], ("pgd",)])
def test_one_value_stands_for_a_list_of_one(given: object) -> None:
    assert AttackSettings.of({"attacks": given}).attacks == ("pgd",)


@pytest.mark.parametrize("settings", [AttackSettings, SampleSettings, ScoreSettings])
def test_a_device_of_torch_is_a_device(settings: type[Settings]) -> None:
    for device in ("cpu", "cuda:1"):
        chosen = settings.of({"device": torch.device(device)})
        assert chosen == settings.of({"device": device})
    with pytest.raises(UsageProblem, match="`device` cannot be torch"):
        settings.of({"device": torch.float32})


@pytest.mark.parametrize(
    ("settings", "name", "values"),
    [
        (AttackSettings, "attacks", ("pgd", "fgsm")),
        (ContourSettings, "image", (4, 0)),
        (ScoreSettings, "metric", ("vendi", "mind")),
        (ClassifierSettings, "ood", ("svhn", "mnist")),
        (TrainConfig, "track", ("wandb", "tensorboard")),
    ],
)
def test_what_is_named_again_is_done_once(
    settings: type[Settings], name: str, values: tuple[object, ...]
) -> None:
    first, second = values
    assert getattr(settings.of({name: (first, second, first)}), name) == values


def test_a_class_that_is_named_again_has_more_turns() -> None:
    assert SampleSettings(classes=(3, 3, 5)).classes == (3, 3, 5)


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("attacks", {"pgd"}, "give a list"),
        ("attacks", 3, "give a text"),
        ("num", "ten", None),
        ("num", True, "give a whole number"),
        ("data_dir", 3, "give a path"),
    ],
)
def test_a_value_of_another_type_is_refused(setting: str, value: object, hint: str | None) -> None:
    with pytest.raises(UsageProblem, match=f"`{setting}`") as caught:
        AttackSettings.of({setting: value})
    assert hint is None or hint in str(caught.value.hint)


def test_an_error_shows_the_beginning_of_a_long_value() -> None:
    with pytest.raises(UsageProblem) as caught:
        SampleSettings(image=torch.zeros(3, 32, 32))  # type: ignore[arg-type]
    assert caught.value.message.startswith("`image` cannot be [[[0.0, 0.0")
    assert len(caught.value.message) < 120
    with pytest.raises(UsageProblem, match="unknown reference `") as caught:
        ScoreSettings(reference=torch.zeros(3, 32, 32))  # type: ignore[arg-type]
    assert len(caught.value.message) < 120


def test_an_error_lists_some_of_many_names() -> None:
    names = [f"net-{number:03}" for number in range(100)]
    hint = str(unknown("network", "net-99", names).hint)
    assert hint.startswith("did you mean `net-099`? known: net-000, ")
    assert hint.endswith("net-039, and 60 more")
    assert unknown("network", "?", names[:2]).hint == "known: net-000, net-001"


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (2**63, "at most 9,223,372,036,854,775,807, not 9,223,372,036,854,775,808"),
        (-1, "at least 0, not -1"),
        (10**30, "not 1e+30"),
        (10**400, "not an even larger number"),
    ],
)
def test_a_number_out_of_bounds_is_written_out(given: int, what: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        SampleSettings.of({"seed": given})
    assert str(caught.value).endswith(what)
