"""Results on stdout: JSON, text, and tables whose numbers are aligned."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from jeatcli.cli import landscape_report, output
from jeatcli.runtime.plain import plain


@dataclass
class Result:
    path: Path
    clean: float
    broken: float
    per_attack: dict[str, float]
    classes: tuple[str, ...]
    seed: int
    done: bool


RESULT = Result(Path("runs/x"), 0.25, float("nan"), {"pgd": float("inf")}, ("cat",), 3, True)


def test_json_is_one_object_with_numbers_as_numbers(capsys):
    output.emit(RESULT, as_json=True, human=lambda: "human")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "path": "runs/x",
        "clean": 0.25,
        "broken": None,
        "per_attack": {"pgd": None},
        "classes": ["cat"],
        "seed": 3,
        "done": True,
    }


def test_json_takes_arrays_and_refuses_objects():
    numpy = pytest.importorskip("numpy")
    assert plain({"a": numpy.float32(0.5), "b": numpy.arange(2)}) == {"a": 0.5, "b": [0, 1]}
    with pytest.raises(TypeError, match="object has no place in JSON"):
        plain(object())


def test_human_text(capsys):
    output.emit(RESULT, as_json=False, human=lambda: "human")
    assert capsys.readouterr().out == "human\n"


def test_table_aligns_numbers_to_the_right():
    rows = [("run", "clean", "rise"), ("jeat", "9.00 %", 0.5), ("standard", "10.00 %", 12.25)]
    assert output.table(rows).splitlines() == [
        "run         clean   rise",
        "jeat       9.00 %   0.50",
        "standard  10.00 %  12.25",
    ]


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ((-2.108, -1.8, 0.0), ("-2.108", "-1.800", "0.000")),
        # Four digits of the largest, two of the smallest.
        ((12.25, 0.739, 0.0023), ("12.2500", "0.7390", "0.0023")),
        ((12345.6, 200.0), ("12346", "200")),
        ((37.95, 0.0397, 8.3e-9, 0.0), ("37.9500", "0.0397", "8.3e-09", "0.0000")),
        ((2e-7, 1.5e-7), ("2.000e-07", "1.500e-07")),
        ((12345678.9, 1.5), ("1.235e+07", "1.500")),
        ((1.5, float("nan")), ("1.500", "not finite")),
    ],
)
def test_the_numbers_of_a_column_have_the_same_decimals(values, written):
    rows = [("run", "rise"), *(("at", value) for value in values)]
    assert [row[1] for row in output.cell_texts(rows)] == ["rise", *written]


@pytest.mark.parametrize(
    ("numbers", "written"),
    [
        ((8.5, 8.3, 8.69), "8.50 [8.30, 8.69]"),
        ((8.6, 6.8, 10.7), "8.60 [6.80, 10.70]"),
        ((-1e-4, -0.5, 0.6), "-0.0001 [-0.5000, 0.6000]"),
        ((1234.0, 1200.4, 1300.0), "1234 [1200, 1300]"),
        ((1.23e-9, 0.0, 2e-9), "1.23e-09 [0.00e+00, 2.00e-09]"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
    ],
)
def test_the_numbers_of_an_interval_have_the_same_decimals(numbers, written):
    interval = dict(zip(("mean", "low", "high"), numbers, strict=True))
    assert landscape_report.interval_text(interval) == written


def test_numbers_that_are_text_or_missing_stand_to_the_right_too():
    rows = [
        ("run", "n", "clean", "size"),
        ("9", "1,797", "-", "17.1 MB"),
        ("10", "9", "7.00 %", "2 kB"),
    ]
    assert output.table(rows).splitlines() == [
        "run      n   clean     size",
        "9    1,797       -  17.1 MB",
        "10       9  7.00 %     2 kB",
    ]


def test_table_counts_the_columns_of_a_terminal():
    rows = [("run", "clean"), ("数字", "1 %"), ("e\u0301te", "22 %")]
    assert output.table(rows).splitlines() == ["run   clean", "数字    1 %", "e\u0301te    22 %"]


ACCURACIES = output.Section(
    [
        ("run", "eps", "clean", "robust"),
        ("digits-jeat-small", "linf 0.15", "98.33 %", "88.33 %"),
        ("at", "linf 0.15", "98.33 %", "86.67 %"),
    ],
    ["pgd, n = 60, searched in bf16, which is a note too wide"],
)
SCORES = output.Section(
    [("FID", "122.923", "too few: 200 images, a note too wide"), ("recall", "0.86", "")],
    header=False,
)


@pytest.mark.parametrize("section", [ACCURACIES, SCORES], ids=["header", "labels"])
@pytest.mark.parametrize("width", [30, 40, 44])
def test_a_table_too_wide_for_the_terminal_is_broken_at_spaces(section, width, monkeypatch):
    whole = section.text()
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))
    assert section.text() == whole  # not a terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    shown = section.text()
    assert max(map(len, shown.splitlines())) <= width
    assert sorted(set(shown.split())) == sorted(set(whole.split()))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    assert section.text() == whole


def test_a_narrow_terminal_shows_a_block_for_each_row(monkeypatch):
    monkeypatch.setattr(output, "room", lambda: 30)
    first, second = ACCURACIES.text().split("\n\n")
    assert first.splitlines() == [
        "run     digits-jeat-small",
        "eps     linf 0.15",
        "clean   98.33 %",
        "robust  88.33 %",
    ]
    assert second.splitlines()[0] == "run     at"
    monkeypatch.setattr(output, "room", lambda: 44)
    assert SCORES.text().splitlines() == [
        "FID     122.923  too few: 200 images, a note",
        "                 too wide",
        "recall  0.86",
    ]
