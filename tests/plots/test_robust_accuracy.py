"""The curves of robust accuracy over the radius."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jeatcli.plots import robust_accuracy


def drawn_curves(
    results: list[SimpleNamespace], radii: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[float]]:
    """Return the radii of each curve by its label."""
    figures: list[Any] = []
    monkeypatch.setattr(robust_accuracy, "save", lambda figure, *_: figures.append(figure) or path)
    names = [result.run for result in results]
    robust_accuracy.plot(results, names, path, radii)  # type: ignore[arg-type]
    (axis,) = figures[0].axes
    return {str(each.get_label()): list(each.get_xdata()) for each in axis.lines}


def a_result(**changes: object) -> SimpleNamespace:
    about = {"run": "a", "norm": "l2", "eps": 0.5, "clean": 1.0, "robust": 0.5, "attacks": ["fmn"]}
    return SimpleNamespace(**about | {"minimum_norm": None, "certificate": None} | changes)


def test_each_norm_has_a_curve_of_smallest_radii(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [
        a_result(
            run=run,
            norm=norm,
            minimum_norm={"curve": {"eps": [0.0, top], "robust": [1.0, 0.0]}},
        )
        for run in ("a", "b")
        for norm, top in (("linf", 0.1), ("l2", 2.0))
    ]
    found = drawn_curves(results, 2, tmp_path / "a.svg", monkeypatch)
    assert len(found) == 4
    assert sorted(radii[-1] for radii in found.values()) == [0.1, 0.1, 2.0, 2.0]


def test_both_curves_of_a_certificate_have_one_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = {"curve": {"eps": [0.0, 16 / 255], "certified": [1.0, 0.0]}}
    found = drawn_curves(
        [a_result(eps=16 / 255, certificate=sure)], 1, tmp_path / "a.svg", monkeypatch
    )
    assert found["a, fmn"][-1] == found["a, certified"][-1] == 16
