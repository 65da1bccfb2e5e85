"""What `jeat landscape` and `jeat score` print: tables of a result, and how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.runs import told_apart
from ..core.threat import fraction
from . import output

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


def landscape_report(summary: Mapping[str, Any]) -> str:
    """Write a table, what it is of, and where the picture is."""
    write = {"contour": _contour, "path": _path, "histogram": _histogram, "sharpness": _sharpness}
    results = summary["results"]
    names = told_apart([run["run"] for run in results], [Path(run["path"]) for run in results])
    named = [{**run, "run": name} for run, name in zip(results, names, strict=True)]
    # A kind that was added from outside has its numbers in the `.npz` and in `--json`.
    table = (
        write[summary["kind"]]({**summary, "results": named}) + "\n"
        if summary["kind"] in write
        else ""
    )
    return f"{table}{summary['outputs']['picture']}"


def _contour(summary: Mapping[str, Any]) -> str:
    header = ("run", "image", "prediction", "centre", "mean", "min", "max", "rise")
    rows: list[tuple[Any, ...]] = [header]
    for run in summary["results"]:
        rows.append(tuple("none" if run[key] is None else run[key] for key in header))
    counts = sorted({run["points_in_ball"] for run in summary["results"]})
    points = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    symbol = {"joint": "E(x,y)", "marginal": "E(x)", "ce": "CE(x,y)"}[summary["energy"]]
    about = (
        f"{symbol} around the image; mean to rise over the {points} grid points "
        f"within {summary['ball']['norm']} {summary['ball']['radius']:.3g}"
    )
    return f"{output.table(rows)}\n{about}"


def _path(summary: Mapping[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = [("run", "way", "at", "E(x,y)", "E(x)", "CE(x,y)", "predicted y")]
    for run in summary["results"]:
        for path in ("pgd", "sgld"):
            for point, means in run[path].items():
                energies = (means["joint"], means["marginal"], means["ce"])
                rows.append((run["run"], path, point, *energies, output.percent(means["correct"])))
    about = (
        f"means over {summary['n']} test images; PGD on {summary['objective']}, {_ball(summary)}, "
        f"{summary['steps']} steps to the edge and {summary['beyond']} beyond; "
        f"{summary['chain']} steps of SGLD"
    )
    return f"{output.table(rows)}\n{about}"


def _histogram(summary: Mapping[str, Any]) -> str:
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
    about = (
        f"means and quantiles over {summary['n']} images a set{fewer}, {_ball(summary)}; "
        "AUROC: the chance that a test image has the lower E(x)"
    )
    return f"{output.table(rows)}\n{about}"


def _sharpness(summary: Mapping[str, Any]) -> str:
    rows = [("", *(run["run"] for run in summary["results"]))]
    for measure, title in _MEASURES.items():
        rows.append((title, *(_interval(run[measure]) for run in summary["results"])))
    about = (
        f"means over {summary['n']} test images [95 % bootstrap interval]; random directions of "
        f"{fraction(summary['unit'])} per-pixel RMS, worst rise in {_ball(summary)}"
    )
    return f"{output.table(rows)}\n{about}"


def _ball(summary: Mapping[str, Any]) -> str:
    return f"{summary['norm']} {fraction(summary['eps'])}"


def _interval(interval: Mapping[str, float]) -> str:
    mean, low, high = (f"{interval[key]:.3g}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


# The same arithmetic in the features of another network has no right to Inception's names.
SCORE_NAMES = {
    "inception": ("Inception Score", "FID", "KID"),
    "run": ("classifier score", "Fréchet distance", "kernel distance"),
}


def score_report(result: Scores) -> str:
    """Write the scores, beside them for what the images are too few, and below the protocol."""
    score, frechet, kernel = SCORE_NAMES[result.protocol["features"]["kind"]]
    rows = [
        (score, _spread(result.inception_score, result.inception_score_std, 3), "inception_score"),
        (frechet, f"{result.fid:.3f}", "fid"),
        (kernel, _spread(result.kid, result.kid_std, 5), "kid"),
        ("precision", f"{result.precision:.4f}", "precision"),
        ("recall", f"{result.recall:.4f}", "recall"),
        *((name, f"{value:.4f}", name) for name, value in result.metrics.items()),
        *((name, value, "") for name, value in _memory(result.neighbours)),
    ]
    noted = [(name, value, result.notes.get(key, "")) for name, value, key in rows]
    about = [
        (key.replace("_", " "), "not known" if value is None else output.inline(value))
        for key, value in result.protocol.items()
    ]
    return f"{output.table(noted)}\n\n{output.table(about)}"


def _spread(mean: float | None, deviation: float | None, digits: int) -> str:
    if mean is None:
        return "-"
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _memory(neighbours: Neighbours | None) -> list[tuple[str, str]]:
    if neighbours is None:
        return []
    beside = f"(of a training image to another: {neighbours.median_train:.4g})"
    return [
        ("distance to the nearest training image", f"{neighbours.median:.4g} {beside}"),
        ("training images among them", output.percent(neighbours.identical)),
        ("nearest neighbours", str(neighbours.picture)),
    ]


def classifier_report(result: ClassifierScores, diagram: Path | None) -> str:
    """Write accuracy, calibration, and a row of areas for each kind of images."""
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
    tables = [output.table(rows), *map(output.table, _separations(result))]
    return "\n\n".join(tables)


def _separations(result: ClassifierScores) -> list[list[tuple[str, ...]]]:
    """Return a table of the areas under the ROC curve, of the FPR at 95 % TPR, and of the AUPR."""
    names = ("-E(x)", "max p(y|x)", "-|d log p(x)/dx|")
    tables = []
    for title, key in (("AUROC", None), ("FPR at 95 % TPR", "fpr95"), ("AUPR", "aupr")):
        rows: list[tuple[str, ...]] = [(f"{title} against", "images", *names)]
        for name, values in result.ood.items():
            scores = (
                values[key] if key else {k: v for k, v in values.items() if k in values["aupr"]}
            )
            rows.append((name, f"{values['n']:,}", *(f"{score:.4f}" for score in scores.values())))
        tables.append(rows)
    return tables if result.ood else []
