"""What `jeat score` prints: the scores of images or of a classifier, and their protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.words import counted
from . import output
from .output import Section

if TYPE_CHECKING:
    from ..scoring.classifier_scores import ClassifierScores
    from ..scoring.image_scores import Scores
    from ..scoring.neighbours import Neighbours

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
            (name.replace("_", " "), _between(value, result.intervals.get(name)), name)
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
