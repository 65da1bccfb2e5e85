"""Radii as the field writes them, and threat models that are none."""

from __future__ import annotations

from typing import Any

import pytest

from jeatcli.core.threat import Threat, fraction, parse_number
from jeatcli.errors import UsageProblem


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (8 / 255, "8/255"),
        (0.5 / 255, "0.5/255"),
        (0.25 / 255, "0.25/255"),
        (0.005 / 255, "1.96078e-05"),
        (0.01 / 255, "0.01/255"),
        (0.125 / 255, "0.125/255"),
        # Six digits hold neither of them exactly.
        (32 / 255, "32/255"),
        (64 / 255, "64/255"),
        (0.03, "0.03"),
        (0.0305, "0.0305"),
        (0.0001, "0.0001"),
        (51 / 255, "0.2"),
        (254 / 255, "254/255"),
        (1.0, "1"),
        (255.0, "255"),
        (300 / 255, "1.17647"),
        (3 / 255 + 1e-8, "0.0117647"),
        (3 / 255 + 1e-9, "3/255"),
        (0.123456, "0.123456"),
    ],
)
def test_a_radius_is_a_fraction_of_255_where_it_is_one(value: float, written: str) -> None:
    assert fraction(value) == written


def test_numbers_and_fractions_are_read() -> None:
    assert parse_number("8/255") == 8 / 255
    assert parse_number("-1e-3") == -0.001
    assert parse_number(" 1 / 4 ") == 0.25
    for text in ("eight", "1/0", "1/", "/3", "1/2/3", ""):
        with pytest.raises(
            ValueError, match=f"`{text}` is not a number or a fraction such as 8/255"
        ):
            parse_number(text)


@pytest.mark.parametrize(
    ("norm", "eps", "message", "hint"),
    [
        ("l3", 0.1, "unknown norm `l3`", "did you mean"),
        ("linf", float("nan"), "eps must be at least 0, not nan", None),
        ("l2", float("inf"), "eps must be at least 0, not inf", None),
        ("l2", -0.1, "eps must be at least 0, not -0.1", None),
        ("linf", 1.5, "eps 1.5 under linf is more than the whole pixel range", "1.5/255"),
        ("linf", 8, "eps 8 under linf is more than the whole pixel range", "8/255"),
        ("linf", "8/255", "not 'linf' and '8/255'", 'write it as `Threat("linf", 8 / 255)`'),
        (8 / 255, 0.1, "a threat model is a norm and a radius, not 0.03", "write it as"),
    ],
)
def test_threat_models_that_are_none(norm: Any, eps: Any, message: str, hint: str | None) -> None:
    with pytest.raises(UsageProblem) as caught:
        Threat(norm, eps)
    assert message in caught.value.message
    assert (hint or "") in (caught.value.hint or "")
    assert (caught.value.hint is None) == (hint is None)


def test_the_bounds_themselves_are_allowed() -> None:
    assert str(Threat("linf", 0)) == "linf 0"
    assert str(Threat("linf", 1)) == "linf 1"
    assert str(Threat("l2", 3)) == "l2 3"
