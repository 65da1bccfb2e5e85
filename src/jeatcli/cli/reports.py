"""What `jeat landscape` and `jeat score` print: tables of a result, and how it was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.runs import distinct_names
from ..core.threat import fraction
from ..runtime.words import counted
from . import output
from .output import Section

if TYPE_CHECKING:
    from ..scoring.classifier_scores import ClassifierScores
    from ..scoring.image_scores import Scores
    from ..scoring.neighbours import Neighbours

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


def landscape_report(summary: Mapping[str, Any]) -> str:
    """Write a table, what it is of, and where the picture is."""
    tables = output.lay_out(landscape_sections(summary))
    return "\n".join([*([tables] if tables else []), *[*summary["outputs"].values()][:1]])


def landscape_sections(summary: Mapping[str, Any]) -> list[Section]:
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


# In the features of another network the same arithmetic goes by other names.
SCORE_NAMES = {
    "inception": ("Inception Score", "FID", "KID"),
    "dinov2": ("", "FD, DINOv2", "KD, DINOv2"),
    "clip": ("", "FD, CLIP", "KD, CLIP"),
    "run": ("classifier score", "Fréchet distance", "kernel distance"),
}


def score_sections(result: Scores) -> list[Section]:
    """Return the table of the scores, with what the images are too few for, and the protocol."""
    score, frechet, kernel = SCORE_NAMES[result.protocol["features"]["kind"]]
    # Networks without classes have no such score.
    first = (score, _spread(result.inception_score, result.inception_score_std, 3))
    rows = [
        *([(*first, "inception_score")] if score else []),
        (frechet, f"{result.fid:.3f}", "fid"),
        (kernel, _spread(result.kid, result.kid_std, 5), "kid"),
        ("precision", f"{result.precision:.4f}", "precision"),
        ("recall", f"{result.recall:.4f}", "recall"),
        *(
            (name, _between(value, result.intervals.get(name)), name)
            for name, value in result.metrics.items()
        ),
        *((name, value, "") for name, value in _nearest(result.neighbours)),
    ]
    scores = [(name, value, result.notes.get(key, "")) for name, value, key in rows]
    about = [
        (key.replace("_", " "), "not known" if value is None else output.inline(value))
        for key, value in result.protocol.items()
    ]
    return [Section(scores, header=False), Section(about, header=False)]


def _spread(mean: float | None, deviation: float | None, digits: int) -> str:
    if mean is None:
        return "-"
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _between(value: float, interval: tuple[float, float] | None) -> str:
    digits = 4 if abs(value) < 10 else 2
    if interval is None:
        return f"{value:.{digits}f}"
    low, high = interval
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _nearest(neighbours: Neighbours | None) -> list[tuple[str, str]]:
    if neighbours is None:
        return []
    usual = f"(between training images: {neighbours.median_train:.4g})"
    return [
        ("median distance to the nearest training image", f"{neighbours.median:.4g} {usual}"),
        ("copies of training images", output.percent(neighbours.identical)),
        *([("nearest neighbours", str(picture))] if (picture := neighbours.picture) else []),
    ]


def classifier_sections(
    result: ClassifierScores, diagram: Path | None = None, heat_map: Path | None = None
) -> list[Section]:
    """Return the tables of accuracy and calibration, and of areas for each kind of images."""
    rows = [
        ("test images", f"{result.n:,} of {result.dataset}"),
        ("accuracy", output.percent(result.accuracy)),
    ]
    if result.calibration:
        bins = len(result.calibration.counts)
        rows.append((f"ECE, {bins} bins", output.percent(result.calibration.ece)))
    if scaled := result.temperature:
        before, after = output.percent(scaled.ece_before), output.percent(scaled.ece_after)
        about = f"fitted on one half; on the other, ECE {before} before and {after} after"
        rows.append(("temperature", f"{scaled.temperature:.4g} ({about})"))
    if diagram:
        rows.append(("reliability", str(diagram)))
    if found := result.corruptions:
        each = counted(found.n, "image")
        kinds = f"{len(found.accuracy)} corruptions, 5 severities, {each} each"
        rows.append(("mean corruption error", f"{output.percent(found.mean_error)} ({kinds})"))
    if heat_map:
        rows.append(("heat map", str(heat_map)))
    tables = [*_corrupted(result), *_separations(result)]
    return [Section(rows, header=False), *map(Section, tables)]


def _corrupted(result: ClassifierScores) -> list[list[tuple[str, ...]]]:
    """Return the table of accuracies by corruption and severity."""
    if result.corruptions is None:
        return []
    rows = [
        (kind, *(f"{100 * value:.1f}" for value in row))
        for kind, row in result.corruptions.accuracy.items()
    ]
    return [[("accuracy at severity", "1", "2", "3", "4", "5"), *rows]]


def _separations(result: ClassifierScores) -> list[list[tuple[str, ...]]]:
    """Return tables of the area under the ROC curve, the FPR at 95 % TPR and the AUPR."""
    header = ("images", "-E(x)", "max p(y|x)", "-|d log p(x)/dx|")
    tables = []
    for title, key in (("AUROC", None), ("FPR at 95 % TPR", "fpr95"), ("AUPR", "aupr")):
        rows: list[tuple[str, ...]] = [(f"{title} against", *header)]
        for name, values in result.ood.items():
            scores = values[key] if key else {score: values[score] for score in values["aupr"]}
            rows.append((name, f"{values['n']:,}", *(f"{score:.4f}" for score in scores.values())))
        tables.append(rows)
    return tables if result.ood else []
