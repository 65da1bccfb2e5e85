"""What `jeat attack` prints: one result in full, several as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.threat import Threat, fraction
from . import output

if TYPE_CHECKING:
    from ..robustness.result import Robustness

_PREVIEWS = ("fast", "quick")


def as_json_knows_it(
    results: Sequence[Robustness], records: Sequence[Path | None], picture: Path | None
) -> dict[str, Any]:
    """Return the results without the verdicts for each image, which the records have.

    One result is an object of its own; several are the list `results`.
    """
    each = []
    for result in results:
        plain = output.plain(result)
        del plain["samples"]
        each.append(plain)
    listed: Any = [None if record is None else str(record) for record in records]
    if len(each) == 1:
        found: dict[str, Any] = each[0] | {"record": listed[0]}
    else:
        found = {"results": each, "records": listed}
    return found | ({} if picture is None else {"picture": str(picture)})


def report(results: Sequence[Robustness], names: Sequence[str], picture: Path | None = None) -> str:
    """Write the accuracies as a table; the names are those of the runs, one a result."""
    text = _one(results[0]) if len(results) == 1 else _several(results, names)
    return text if picture is None else f"{text}\n{picture}"


def _one(result: Robustness) -> str:
    rows = [
        ("clean", output.percent(result.clean)),
        *(
            (f"after {protocol(name, found)}", output.percent(found["robust"]))
            for name, found in result.per_attack.items()
        ),
        ("robust", output.percent(result.robust)),
    ]
    threat = Threat(result.norm, result.eps)
    return f"{output.table(rows)}\n{threat}, {_about(result)}, {result.seconds:.1f} s"


def _several(results: Sequence[Robustness], names: Sequence[str]) -> str:
    attacks = list(dict.fromkeys(name for result in results for name in result.per_attack))
    header = ("run", "eps", "clean", *(f"after {name}" for name in attacks), "robust")
    rows: list[tuple[str, ...]] = [header]
    for result, run in zip(results, names, strict=True):
        after = (
            output.percent(result.per_attack[name]["robust"]) if name in result.per_attack else "-"
            for name in attacks
        )
        radius = f"{result.norm} {fraction(result.eps)}"
        clean, robust = output.percent(result.clean), output.percent(result.robust)
        rows.append((run, radius, clean, *after, robust))
    return "\n".join([output.table(rows), *_notes(results, names)])


def _notes(results: Sequence[Robustness], names: Sequence[str]) -> list[str]:
    """Say what was run: once if it is the same of all, else of each."""
    notes = [_about(result) for result in results]
    if len(set(notes)) == 1:
        return notes[:1]
    radii = [f"{result.norm} {fraction(result.eps)}" for result in results]
    return [
        f"{run}, {radius}: {note}" for run, radius, note in zip(names, radii, notes, strict=True)
    ]


def _about(result: Robustness) -> str:
    """Name what was run, and what it is not."""
    named = " + ".join(result.attacks)
    if any(name in _PREVIEWS for name in result.attacks):
        named += " (a part of AutoAttack, not AutoAttack)"
    parts = [named]
    if result.target is not None:
        parts.append(f"targeted at {result.target}")
    if result.transfer_from is not None:
        parts.append(f"examples of {result.transfer_from}")
    parts.append(f"n = {result.n:,}")
    if result.search != "fp32":
        parts.append(f"searched in {result.search}")
    if result.warnings:
        parts.append("doubtful: " + ", ".join(each["name"] for each in result.warnings))
    return ", ".join(parts)


def protocol(name: str, found: dict[str, Any]) -> str:
    """Name an attack as papers do: `pgd-20-1, ce, step 1/255` has 20 steps and one start."""
    numbers = [str(found[key]) for key in ("steps", "queries", "restarts") if key in found]
    parts = ["-".join([name, *numbers])]
    if "objective" in found:
        parts.append(found["objective"])
    if found.get("draws", 1) > 1:
        parts.append(f"{found['draws']} draws a gradient")
    if "step_size" in found:
        parts.append(f"step {fraction(found['step_size'])}")
    return ", ".join(parts)
