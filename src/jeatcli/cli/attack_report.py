"""What `jeat attack` prints: one result in full, several as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.threat import Threat, fraction
from ..robustness.attacks import ENSEMBLES
from ..runtime.plain import plain
from ..runtime.words import counted
from . import output

if TYPE_CHECKING:
    from ..robustness.compare import Comparison, Subject
    from ..robustness.result import Robustness


def as_json_object(
    found: Comparison, subjects: Sequence[Subject], outputs: Mapping[str, Path | None]
) -> dict[str, Any]:
    """Return the results without the verdicts for each image, which the records have.

    One result is an object of its own; several are the list `results`. Under several norms a model
    has `union` in each of its own.
    """
    results, unions = found.results, found.unions
    each = len(results) // max(1, len(unions))
    objects = []
    for number, (result, subject) in enumerate(zip(results, subjects, strict=True)):
        values = plain(result) | ({"union": unions[number // each]} if unions else {})
        del values["samples"]
        written = _written(found, record=subject.record)
        objects.append({"run": result.run, "path": str(subject.path)} | values | written)
    if len(objects) > 1:
        return output.document("attack", {"results": objects} | _written(found, **outputs))
    record = subjects[0].record
    return output.document("attack", objects[0] | _written(found, record=record, **outputs))


def _written(found: Comparison, **files: Path | None) -> dict[str, dict[str, str]]:
    """Return the key `outputs` without the files that could not be written."""
    there = {kind: path for kind, path in files.items() if path not in found.unwritten}
    return output.written(**there)


def report(found: Comparison, names: Sequence[str], outputs: Mapping[str, str]) -> str:
    """Write the accuracies as a table; the names are those of the runs, one a result."""
    text = section(found.results, names, found.unions).text()
    return "\n".join([text, *(outputs[key] for key in ("plot", "report") if key in outputs)])


def section(
    results: Sequence[Robustness], names: Sequence[str], unions: Sequence[float] = ()
) -> output.Section:
    """Return the table of one result in full, or of several; `unions` are those of each run."""
    found = _one(results[0]) if len(results) == 1 else _several(results, names)
    each = len(results) // max(1, len(unions))
    norms = ", ".join(str(Threat(result.norm, result.eps)) for result in results[:each])
    more = [
        f"{name}: {output.percent(union)} withstand all of {norms}"
        for name, union in zip(names[::each], unions, strict=False)
    ]
    return replace(found, notes=[*found.notes, *more])


def costs(found: Comparison, names: Sequence[str]) -> list[output.Section]:
    """Return the table of what each attack did and took."""
    rows: list[tuple[object, ...]] = [
        ("run", "eps", "attack", "broke", "forward", "backward", "gradients NaN", "seconds")
    ]
    for result, name in zip(found.results, names, strict=True):
        for attack, outcome in result.per_attack.items():
            counts = (f"{outcome[key]:,}" for key in ("broken", "forward", "backward", "nan"))
            radius = f"{result.norm} {fraction(result.eps)}"
            took = f"{outcome['seconds']:.2f}"
            rows.append((name, radius, protocol(attack, outcome), *counts, took))
    return [output.Section(rows, ["forward and backward: images that passed through the network"])]


def _one(result: Robustness) -> output.Section:
    rows = [
        ("clean", output.percent(result.clean)),
        *(
            (f"after {protocol(name, outcome)}", output.percent(outcome["robust"]))
            for name, outcome in result.per_attack.items()
        ),
        ("robust", output.percent(result.robust)),
    ]
    threat = Threat(result.norm, result.eps)
    attacks = sum(outcome["seconds"] for outcome in result.per_attack.values())
    seconds = f"{result.seconds:.1f} s ({attacks:.1f} s attacking)"
    if attacks > result.seconds:  # those before an interruption count too
        seconds = f"{result.seconds:.1f} s since the interruption, {attacks:.1f} s attacking in all"
    about = f"{threat}, {_about(result)}, {seconds}"
    return output.Section(rows, [about, *_measured(result), *_published(result)], header=False)


def _measured(result: Robustness) -> list[str]:
    """Say what was measured besides the accuracies."""
    return [*_minimum_norm(result), *_certificate(result), *_corruptions(result)]


def _minimum_norm(result: Robustness) -> list[str]:
    """Say at which radii the images break, and at what price."""
    if (found := result.minimum_norm) is None:
        return []
    if not result.clean:
        return ["smallest radius that breaks an image: no image is classified correctly"]
    # In a run's records, which the model card shows, None stands for infinite.
    radii = [found[name] for name in ("lower_quartile", "median", "upper_quartile")]
    lower, median, upper = (
        "infinite" if radius is None or math.isinf(radius) else f"{radius:.4g}" for radius in radii
    )
    if result.norm == "linf" and median != "infinite":
        median += f" ({255 * found['median']:.4g}/255)"
    passes = sum(count["forward"] + count["backward"] for count in result.per_attack.values())
    attacked = max(1, round(result.clean * result.n))
    return [
        f"smallest radius that breaks an image ({result.norm}): median {median}, quartiles {lower} "
        f"and {upper}, {found['unbroken']:,} unbroken; {passes / attacked:,.0f} passes per image"
    ]


def _certificate(result: Robustness) -> list[str]:
    """Say what is certain, and on which numbers it stands."""
    if (found := result.certificate) is None:
        return []
    lines = [
        f"certified at l2 {result.eps:g}: {output.percent(found['certified'])} (sigma "
        f"{found['sigma']:g}, n0 {found['n0']:,}, n {found['n']:,}, alpha {found['alpha']:g}); "
        f"{found['abstained']:,} of {result.n:,} images without a prediction"
    ]
    if found["contradicted"]:
        lines.append(
            f"broken within their radius: {counted(found['contradicted'], 'image')}; alpha allows "
            f"{found['alpha'] * result.n:.3g}"
        )
    return lines


def _corruptions(result: Robustness) -> list[str]:
    """Say the mean corruption error, and those of which it is the mean."""
    if (found := result.corruption_errors) is None:
        return []
    each = ", ".join(f"{name} {100 * error:.1f}" for name, error in found.items() if name != "mean")
    return [f"mean corruption error: {output.percent(found['mean'])} ({each})"]


def _published(result: Robustness) -> list[str]:
    """Say how far the accuracies are from those that RobustBench has, of all test images."""
    known = result.published
    if known is None:
        return []
    parts = [f"clean {output.percent(known['clean'])} ({100 * known['clean_above']:+.1f} here)"]
    if known["robust_above"] is not None:
        there, above = output.percent(known["robust"]), 100 * known["robust_above"]
        parts.append(f"under AutoAttack {there} ({above:+.1f} here, {' + '.join(result.attacks)})")
    return [f"RobustBench's {known['name']}: {', '.join(parts)}"]


def _several(results: Sequence[Robustness], names: Sequence[str]) -> output.Section:
    attacks = list(dict.fromkeys(name for result in results for name in result.per_attack))
    header = ("run", "eps", "clean", *(f"after {name}" for name in attacks), "robust")
    rows: list[tuple[str, ...]] = [header]
    radii = [f"{result.norm} {fraction(result.eps)}" for result in results]
    for result, run, radius in zip(results, names, radii, strict=True):
        after = (
            output.percent(result.per_attack[name]["robust"]) if name in result.per_attack else "-"
            for name in attacks
        )
        clean, robust = output.percent(result.clean), output.percent(result.robust)
        rows.append((run, radius, clean, *after, robust))
    notes = ["\n".join([_about(result), *_measured(result)]) for result in results]
    if len({result.dataset for result in results}) > 1:
        notes = [f"{result.dataset}, {note}" for result, note in zip(results, notes, strict=True)]
    if len(set(notes)) == 1:
        return output.Section(rows, notes[:1])
    lines = zip(names, radii, notes, strict=True)
    return output.Section(rows, [f"{run}, {eps}: {note}" for run, eps, note in lines])


def _about(result: Robustness) -> str:
    """Name what was run, and what it is not."""
    named = " + ".join(result.attacks)
    ensembles = [ENSEMBLES[name] for name in result.attacks if name in ENSEMBLES]
    if ensembles and all(each.preview for each in ensembles):
        named += " (a part of AutoAttack, not AutoAttack)"
    parts = [named]
    if result.target is not None:
        parts.append(f"targeted at {result.target}")
    if result.transfer_from is not None:
        parts.append(f"examples of {result.transfer_from}")
    if result.certificate is not None:
        parts.append("of the smoothed classifier")
    if (chain := result.purification) is not None:
        over = f" over {chain['draws']} draws" if chain["draws"] > 1 else ""
        steps = counted(chain["steps"], "step")
        parts.append(f"purified by {steps}, gradient {chain['gradient']}{over}")
    of_class = "" if result.only is None else f" of class {result.only}"
    among = "" if result.indices is None else f" in {result.indices}"
    parts.append(f"n = {result.n:,}{of_class}{among}")
    if result.search != "fp32":
        parts.append(f"searched in {result.search}")
    # The card's results have the command's other warnings, too.
    if flags := [flag["name"] for flag in result.warnings if flag["name"] != "other"]:
        parts.append("flags: " + ", ".join(flags))
    return ", ".join(parts)


def protocol(name: str, outcome: Mapping[str, Any]) -> str:
    """Name an attack as papers do: `pgd-20-1, ce, step 1/255` has 20 steps and one start."""
    numbers = [str(outcome[key]) for key in ("steps", "queries", "restarts") if key in outcome]
    parts = ["-".join([name, *numbers])]
    if "objective" in outcome:
        parts.append(outcome["objective"])
    if outcome.get("draws", 1) > 1:
        parts.append(f"{outcome['draws']} draws a gradient")
    if "step_size" in outcome:
        parts.append(f"step {fraction(outcome['step_size'])}")
    return ", ".join(parts)
