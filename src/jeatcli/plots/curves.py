"""The curves of a training run: loss, accuracy, energies and learning rate by epoch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figure import line, mark, new_figure, plain_text, save, styled, tidy
from .settings import PLAIN, PlotSettings

_LOSS = {"loss": "loss", "cross_entropy": "cross-entropy"}
_ACCURACY = {
    "test_clean": "test, clean",
    "test_robust": "test, PGD-10",
    "val_clean": "held out, clean",
    "val_robust": "held out, PGD-10",
}
_ENERGY = {"energy_clean": "$E(x)$", "energy_attacked": r"$E(\hat{x})$", "energy_sgld": "$E(x_K)$"}


def draw(
    lines: Sequence[Mapping[str, Any]], path: Path, name: str, settings: PlotSettings = PLAIN
) -> Path:
    """Draw the lines of a run's `metrics.jsonl`; what it does not log has no panel."""
    last = lines[-1]
    # Without an attack, the positive images are the clean ones.
    energies = _ENERGY if "energy_clean" in last else {**_ENERGY, "energy": "$E(x)$"}
    training = "training, attacked" if "energy_attacked" in last else "training"
    accuracy = {**_ACCURACY, "clean_accuracy": "training, clean", "accuracy": training}
    panels = [("loss", _LOSS), ("accuracy (%)", accuracy), ("energy", energies), ("lr", {"lr": ""})]
    shown = [(label, found) for label, known in panels if (found := _curves(lines, known, label))]
    with styled(settings):
        rows = (len(shown) + 1) // 2
        figure = new_figure(6.8, 2.3 * rows)
        for place, (label, found) in enumerate(shown, 1):
            axis = figure.add_subplot(rows, 2, place)
            _panel(axis, "learning rate" if label == "lr" else label, found)
        figure.align_ylabels()
        figure.suptitle(plain_text(name), fontsize="medium")
        return save(
            figure, path, f"Training of {name}", json.dumps({"epochs": len(lines)}), settings
        )


def _curves(
    lines: Sequence[Mapping[str, Any]], known: Mapping[str, str], label: str
) -> dict[str, list[tuple[float, float]]]:
    """Return the points of the figures that were logged, by their names in the legend."""
    scale = 100 if "%" in label else 1
    points = {
        title: [(entry["epoch"], scale * entry[key]) for entry in lines if key in entry]
        for key, title in known.items()
    }
    return {title: found for title, found in points.items() if found}


def _panel(axis: Any, label: str, found: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for number, (title, points) in enumerate(found.items()):
        look = line(number) | (mark(number) | {"markersize": 3} if len(points) < 30 else {})
        # Marks at the ends are whole, not cut by the frame.
        axis.plot(*zip(*points, strict=True), label=title, clip_on=False, **look)
    axis.set_ylabel(label)
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    if label.endswith("(%)"):
        axis.set_ylim(0, 100)
    tidy(axis)
    if any(found):
        axis.legend(frameon=False)
