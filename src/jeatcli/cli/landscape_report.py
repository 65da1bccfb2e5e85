"""What `jeat landscape` prints, kind by kind: the numbers that the picture shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.naming import told_apart
from ..core.threat import fraction
from . import output

_MEASURES = {
    "energy": "E(x,y) at the data",
    "marginal": "E(x) at the data",
    "rise": "mean rise, random directions",
    "variance": "variance, random directions",
    "worst": "worst rise in the ball",
    "gradient": "gradient norm",
    "curvature": "top Hessian eigenvalue",
}


def report(figures: Mapping[str, Any]) -> str:
    """Write a table, what it is of, and where the picture is."""
    write = {"contour": _contour, "path": _path, "histogram": _histogram, "sharpness": _sharpness}
    runs = figures["runs"]
    names = told_apart([each["name"] for each in runs], [Path(each["run"]) for each in runs])
    named = [{**each, "name": name} for each, name in zip(runs, names, strict=True)]
    return f"{write[figures['kind']]({**figures, 'runs': named})}\n{figures['picture']}"


def _contour(figures: Mapping[str, Any]) -> str:
    header = ("run", "image", "prediction", "centre", "mean", "min", "max", "rise")
    keys = ("name", *header[1:])
    rows = [header, *(tuple(_cell(each[key]) for key in keys) for each in figures["runs"])]
    counts = sorted({each["points_in_ball"] for each in figures["runs"]})
    points = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    symbol = {"joint": "E(x,y)", "marginal": "E(x)", "ce": "CE(x,y)"}[figures["energy"]]
    about = (
        f"{symbol} around the image; mean to rise over the {points} grid points "
        f"within {figures['ball']['norm']} {figures['ball']['radius']:.3g}"
    )
    return f"{output.table(rows)}\n{about}"


def _path(figures: Mapping[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = [("run", "way", "at", "E(x,y)", "E(x)", "CE(x,y)", "predicted y")]
    for each in figures["runs"]:
        for way in ("pgd", "sgld"):
            for place, means in each[way].items():
                energies = (means["joint"], means["marginal"], means["ce"])
                rows.append((each["name"], way, place, *energies, output.percent(means["correct"])))
    about = (
        f"means over {figures['n']} test images; PGD on {figures['objective']}, "
        f"{figures['norm']} {fraction(figures['eps'])}, {figures['steps']} steps to the edge and "
        f"{figures['beyond']} beyond; {figures['chain']} steps of SGLD"
    )
    return f"{output.table(rows)}\n{about}"


def _histogram(figures: Mapping[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = [("run", "set", "E(x)", "5 %", "95 %", "E(x,y)", "AUROC")]
    for each in figures["runs"]:
        for name, found in each["sets"].items():
            shown = figures["against"] if name == "against" else name
            low, _, high = found["marginal"]["quantiles"]
            energies = (found["marginal"]["mean"], low, high, found["joint"]["mean"])
            rows.append((each["name"], shown, *energies, found["marginal_auroc"]))
    other = figures["runs"][0]["sets"].get("against", {"n": figures["n"]})["n"]
    fewer = "" if other == figures["n"] else f" ({other} of {figures['against']})"
    about = (
        f"means and quantiles over {figures['n']} images a set{fewer}, "
        f"{figures['norm']} {fraction(figures['eps'])}; AUROC: the chance that a test image has "
        "the lower E(x)"
    )
    return f"{output.table(rows)}\n{about}"


def _sharpness(figures: Mapping[str, Any]) -> str:
    rows = [("", *(each["name"] for each in figures["runs"]))]
    for measure, title in _MEASURES.items():
        rows.append((title, *(_interval(each[measure]) for each in figures["runs"])))
    about = (
        f"means over {figures['n']} test images [95 % bootstrap interval]; random directions of "
        f"{fraction(figures['unit'])} per-pixel RMS, worst rise in {figures['norm']} "
        f"{fraction(figures['eps'])}"
    )
    return f"{output.table(rows)}\n{about}"


def _interval(found: Mapping[str, float]) -> str:
    mean, low, high = (f"{found[key]:.3g}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _cell(value: object) -> object:
    return "none" if value is None else value
