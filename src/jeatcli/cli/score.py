"""`jeat score`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import ui
from .options import (
    Command,
    batch_size,
    data_dir,
    device,
    foreign_options,
    option,
    output_options,
    sampler_options,
    seed,
)
from .parameters import COUNT, DATASET, RUN

if TYPE_CHECKING:
    from ..score import Scores

_score = partial(option, "Score")


@click.command("score", cls=Command)
@click.argument("source", required=False, type=RUN, metavar="[RUN|FOLDER|FILE.npz]")
@_score(
    "-n",
    "--num",
    help="Images to score",
    type=COUNT,
    metavar="N",
    shown="all there are; as many as the reference has",
)
@_score(
    "--features",
    help="inception, or a RUN whose features take its place",
    type=RUN,
    metavar="RUN",
    default="inception",
)
@_score(
    "--reference",
    help="Real images to compare with",
    type=click.Choice(["train", "test"]),
    default="train",
)
@_score(
    "--splits",
    help="Parts over which the Inception Score is averaged",
    type=COUNT,
    metavar="N",
    default=10,
)
@_score("--kid-subsets", help="Subsets of KID", type=COUNT, metavar="N", default=100)
@_score("--kid-subset-size", help="Images in a subset", type=COUNT, metavar="N", default=1000)
@seed("Score")
@option(
    "Data",
    "--dataset",
    help="Data set of the reference, for a FOLDER, an .npz or a checkpoint of others",
    type=DATASET,
    metavar="DATASET",
    shown="the run's",
)
@data_dir
@option(
    "Data",
    "--inception-weights",
    help="File of the Inception weights, in place of the download",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
)
@sampler_options
@foreign_options(dataset=False)
@batch_size(None, "by features")
@device
@output_options
def command(source: str | None, as_json: bool, quiet: bool, verbose: bool, **settings: Any) -> None:
    """Score images by Inception Score, FID and KID.

    The images are drawn from a RUN, in equal numbers for each class, or read from a FOLDER of
    PNGs or an .npz. The protocol is printed with the numbers, for they mean nothing without
    it. Inception knows photographs: for digits name a classifier of yours with --features.
    Without a RUN, the latest finished one is meant that does not give the features.

    \b
    Examples:
      jeat score -n 50000
      jeat score runs/jeat --features runs/standard
      jeat score images/ --dataset cifar10 --reference test
      jeat score runs/jeat --features theirs.pt --arch cifar-resnet-20 --dataset cifar10
    """
    terminal = ui.open_terminal(quiet, verbose)
    from ..score import image_scores

    result = image_scores(source, reporter=terminal, **settings)
    ui.emit(result, as_json, lambda: report(result))


def report(result: Scores) -> str:
    """Write the scores, and below them how they were measured."""
    rows = [
        ("Inception Score", f"{result.inception_score:.3f} ± {result.inception_score_std:.3f}"),
        ("FID", f"{result.fid:.3f}"),
        ("KID", f"{result.kid:.5f} ± {result.kid_std:.5f}"),
    ]
    about = [(key.replace("_", " "), ui.inline(found)) for key, found in result.protocol.items()]
    return f"{ui.table(rows)}\n\n{ui.table(about)}"
