"""What `jeat score` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import output

if TYPE_CHECKING:
    from ..scoring.classifier_scores import ClassifierScores
    from ..scoring.image_scores import Scores
    from ..scoring.neighbours import Neighbours


# The same arithmetic in the features of another network has no right to Inception's names.
NAMES = {
    "inception": ("Inception Score", "FID", "KID"),
    "run": ("classifier score", "Fréchet distance", "kernel distance"),
}


def report(result: Scores) -> str:
    """Write the scores, and below them how they were measured."""
    score, frechet, kernel = NAMES[result.protocol["features"]["kind"]]
    rows = [
        (score, f"{result.inception_score:.3f} ± {result.inception_score_std:.3f}"),
        (frechet, f"{result.fid:.3f}"),
        (kernel, f"{result.kid:.5f} ± {result.kid_std:.5f}"),
        ("precision", f"{result.precision:.4f}"),
        ("recall", f"{result.recall:.4f}"),
        *(_memory(result.neighbours) if result.neighbours else ()),
    ]
    about = [
        (key.replace("_", " "), "not known" if found is None else output.inline(found))
        for key, found in result.protocol.items()
    ]
    return f"{output.table(rows)}\n\n{output.table(about)}"


def _memory(found: Neighbours) -> list[tuple[str, str]]:
    between = f"{found.median:.4g} (of a training image to another: {found.median_train:.4g})"
    return [
        ("distance to the nearest training image", between),
        ("training images among them", output.percent(found.identical)),
        ("nearest neighbours", str(found.picture)),
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
    if diagram:
        rows.append(("reliability", str(diagram)))
    text = output.table(rows)
    if not result.ood:
        return text
    heading = ("AUROC against", "images", "-E(x)", "max p(y|x)", "-|d log p(x)/dx|")
    areas = [
        (name, f"{found['n']:,}", *(f"{found[each]:.4f}" for each in list(found)[1:]))
        for name, found in result.ood.items()
    ]
    return f"{text}\n\n{output.table([heading, *areas])}"
