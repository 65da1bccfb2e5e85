"""The table of `results.py`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results_runs import MEASURES, read, write
from results_scales import Scale

from jeatcli.runtime.files import write_atomic

COLUMNS = {
    "clean": "clean",
    "pgd": "PGD-20",
    "autoattack": "{ensemble}",
    "fd_alike": "FD, same sampler",
    "score_alike": "score, same sampler",
    "fd_own": "FD, own sampler",
    "score_own": "score, own sampler",
    "ece": "ECE",
    "auroc": "AUROC",
    "rise": "rise",
    "worst": "worst",
    "delta": "E(x) - E(x^)",
    "seconds": "CPU s",
    "passes": "passes",
}


def figures(known: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the figures of a row and seed by column; what a killed call cost is not known."""
    flat: dict[str, Any] = {}
    for measure in MEASURES:
        flat |= known.get(measure.__name__, {})
    cost = known["cost"]
    if known.get("trained"):
        # The last call went to the end; if it was not the only one, its images stand for all.
        share = images / known["trained"]
        flat["passes"] = cost[-1]["passed"] / known["trained"]
        flat["seconds"] = cost[-1]["cpu"] * share
    return flat


def table(rows: Sequence[str], found: Mapping[str, list[dict[str, Any]]], scale: Scale) -> str:
    """Write mean and standard deviation over the seeds as Markdown."""
    heads = [title.format(ensemble=f"`{scale.ensemble}`") for title in COLUMNS.values()]
    lines = [f"| method | {' | '.join(heads)} |", "| --- " + "| ---: " * len(heads) + "|"]
    for row in rows:
        if row in found:
            cells = [cell([one[key] for one in found[row] if key in one]) for key in COLUMNS]
            lines.append(f"| `{row}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: Sequence[float]) -> str:
    """Write mean and standard deviation with the digits that they deserve."""
    if not values:
        return "–"
    mean = statistics.mean(values)
    digits = 3 if abs(mean) < 1.5 else 2 if abs(mean) < 20 else 0
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def report(rows: Sequence[str], scale: Scale, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the table of what is there; return the figures by row."""
    known = [read(path) for row in rows for path in sorted(out.glob(f"{row}-[0-9]*.json"))]
    found: dict[str, list[dict[str, Any]]] = {}
    for one in known:
        found.setdefault(one["row"], []).append(figures(one, scale.images))
    text = table(rows, found, scale)
    write(out / "table.json", {"protocol": asdict(scale), "results": known})
    write_atomic(out / "table.md", lambda beside: beside.write_text(text + "\n"))
    return found
