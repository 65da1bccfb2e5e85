"""What `jeat landscape` prints: the numbers that its figure shows, and what they are of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.runs import distinct_names
from ..core.threat import fraction
from ..runtime.words import counted
from . import output
from .output import Section

_MEASURES = {
    "energy": "E(x,y) at the data",
    "marginal": "E(x) at the data",
    "rise": "mean rise, random directions",
    "variance": "variance, random directions",
    "worst": "worst rise in the ball",
    "gradient": "gradient norm",
    "curvature": "top Hessian eigenvalue",
}
# Runs that stand beside each other, each with an interval.
_ABREAST = 4
# The most decimals of an interval; smaller ones are written as powers of ten.
_SMALLEST = 6
Report = tuple[list[tuple[Any, ...]], str]


def report(summary: Mapping[str, Any]) -> str:
    """Write a table, what it is of, and where the picture is."""
    tables = output.lay_out(sections(summary))
    return "\n".join([*([tables] if tables else []), *[*summary["outputs"].values()][:1]])


def sections(summary: Mapping[str, Any]) -> list[Section]:
    """Return a table, or several where it would be too wide, and what it is of."""
    write = {"contour": _contour, "path": _path, "histogram": _histogram, "sharpness": _sharpness}
    # A kind that was added from outside has its numbers in the `.npz` and in `--json`.
    if summary["kind"] not in write:
        return []
    results = summary["results"]
    names = distinct_names(
        [run["run"] for run in results], [Path(run.get("path", run["run"])) for run in results]
    )
    named = [{**run, "run": name} for run, name in zip(results, names, strict=True)]
    rows, about = write[summary["kind"]]({**summary, "results": named})
    parts = [rows]
    if summary["kind"] == "sharpness":  # a column a run
        parts = [
            [(row[0], *row[first : first + _ABREAST]) for row in rows]
            for first in range(1, len(rows[0]), _ABREAST)
        ]
    return [*map(Section, parts[:-1]), Section(parts[-1], [about])]


def _contour(summary: Mapping[str, Any]) -> Report:
    header = ("run", "image", "prediction", "centre", "mean", "min", "max", "rise")
    runs = summary["results"]
    rows = [tuple("none" if run[key] is None else run[key] for key in header) for run in runs]
    counts = sorted({run["points_in_ball"] for run in runs})
    points = counted(counts[-1], "grid point")
    points = points if len(counts) == 1 else f"{counts[0]} to {points}"
    symbol = {"joint": "E(x,y)", "marginal": "E(x)", "ce": "CE(x,y)"}[summary["energy"]]
    return [header, *rows], (
        f"{symbol}; mean, min, max and rise over the {points} within "
        f"{summary['ball']['norm']} {summary['ball']['radius']:.3g} of the image"
    )


def _path(summary: Mapping[str, Any]) -> Report:
    rows: list[tuple[Any, ...]] = [
        ("run", "path", "at", "E(x,y)", "E(x)", "CE(x,y)", "predicted y")
    ]
    for run in summary["results"]:
        for path in ("pgd", "sgld"):
            for point, means in run[path].items():
                energies = (means["joint"], means["marginal"], means["ce"])
                rows.append((run["run"], path, point, *energies, output.percent(means["correct"])))
    return rows, (
        f"means over {counted(summary['n'], 'test image')}; PGD on {summary['objective']}, "
        f"{_ball(summary)}, {counted(summary['steps'], 'step')} to the edge and "
        f"{summary['beyond']} beyond; {counted(summary['chain'], 'step')} of SGLD"
    )


def _histogram(summary: Mapping[str, Any]) -> Report:
    rows: list[tuple[Any, ...]] = [("run", "set", "E(x)", "5 %", "95 %", "E(x,y)", "AUROC")]
    for run in summary["results"]:
        for name, energies in run["sets"].items():
            marginal, joint = energies["marginal"], energies["joint"]
            low, _, high = marginal["quantiles"]
            shown = summary["against"] if name == "against" else name
            means = (marginal["mean"], low, high, joint["mean"], energies["marginal_auroc"])
            rows.append((run["run"], shown, *means))
    other = summary["results"][0]["sets"].get("against", {"n": summary["n"]})["n"]
    fewer = "" if other == summary["n"] else f" ({other} of {summary['against']})"
    return rows, (
        f"means and quantiles over {counted(summary['n'], 'image')} a set{fewer}, "
        f"{_ball(summary)}; AUROC: the chance that a test image has the lower E(x)"
    )


def _sharpness(summary: Mapping[str, Any]) -> Report:
    runs = summary["results"]
    rows = [(title, *(interval_text(run[key]) for run in runs)) for key, title in _MEASURES.items()]
    return [("", *(run["run"] for run in runs)), *rows], (
        f"means over {summary['n']} test images [95 % bootstrap interval]; random directions of "
        f"{fraction(summary['unit'])} per-pixel RMS, worst rise in {_ball(summary)}"
    )


def _ball(summary: Mapping[str, Any]) -> str:
    return f"{summary['norm']} {fraction(summary['eps'])}"


def interval_text(interval: Mapping[str, float]) -> str:
    """Write a mean and its bounds with the same decimals: `8.50 [8.30, 8.69]`."""
    numbers = [float(interval[key]) for key in ("mean", "low", "high")]
    # Three digits of the mean, unless it is next to nothing in its own interval.
    size = max(abs(numbers[0]), 0.1 * max(map(abs, numbers)))
    decimals = 2 - math.floor(math.log10(size)) if size and math.isfinite(size) else 0
    form = f"z.{max(decimals, 0)}f" if decimals <= _SMALLEST else ".2e"
    mean, low, high = (format(value, form) for value in numbers)
    return f"{mean} [{low}, {high}]"
