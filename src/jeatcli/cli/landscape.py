"""`jeat landscape`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..landscapes import KINDS
from ..runtime.files import LANDSCAPE_NUMBERS, LANDSCAPE_PICTURE, check_output
from . import output
from . import terminal as ui
from .from_settings import foreign_options
from .landscape_report import report
from .options import Command, batch_size, combine, data_dir, device, option, output_options, seed
from .types import (
    COUNT,
    DATASET,
    ENERGIES,
    KIND,
    NATURAL,
    NORM,
    PATH_OBJECTIVES,
    PLANE_AXES,
    POSITIVE,
    RUN,
    UNIT_NORMS,
)

if TYPE_CHECKING:
    from ..checkpoints.settings import Foreign

_what = partial(option, "Picture")
_plane = partial(option, "Plane (--kind contour)")
_other = partial(option, "Other kinds")

plane_options = combine(
    _plane(
        "--image",
        help="Index into the test images; repeatable, a row each",
        type=NATURAL,
        metavar="N",
        multiple=True,
        shown="0",
    ),
    _plane(
        "--axes",
        help="Random directions; or one toward the PGD example; or toward samples of two classes",
        type=click.Choice(PLANE_AXES),
        metavar="random|adversarial|classes",
        shown="random",
    ),
    _plane(
        "--class",
        "class_",
        help="Class of a sample for --axes classes, by name or index; given twice",
        metavar="CLASS",
        multiple=True,
        shown="the image's and the next",
    ),
    _plane(
        "--energy",
        help="E(x,y), E(x), or their difference, the cross-entropy",
        type=click.Choice(ENERGIES),
        metavar="joint|marginal|ce",
        shown="joint",
    ),
    _plane(
        "--span",
        help="The plane reaches from -SPAN to SPAN in both directions",
        type=POSITIVE,
        metavar="FLOAT",
        shown="4, or what holds the samples",
    ),
    _plane("--grid", help="Points along each side", type=COUNT, metavar="N", shown="51"),
    _plane(
        "--unit-norm",
        help="What of a direction is one unit: its RMS over the pixels, l2 length, largest pixel",
        type=click.Choice(UNIT_NORMS),
        metavar="rms|l2|linf",
        shown="rms",
    ),
    _plane("--relative", is_flag=True, default=None, help="Draw the energy less that at the image"),
    _plane("--clip", is_flag=True, default=None, help="Clip the plane's points to [0, 1]"),
    _plane("--surface", is_flag=True, default=None, help="Draw in three dimensions"),
)
other_options = combine(
    _other(
        "-n",
        "--num",
        help="Use the first N test images (path, histogram, sharpness)",
        type=COUNT,
        metavar="N",
        shown="100, 200, 200",
    ),
    _other(
        "--norm",
        help="Norm of the ball of attacks and worst rises",
        type=NORM,
        shown="linf",
    ),
    _other(
        "--eps",
        help="Radius of that ball in the [0, 1] pixel scale",
        type=POSITIVE,
        metavar="FRACTION",
        shown="by data set",
    ),
    _other(
        "--objective",
        help="What the attack raises (path)",
        type=click.Choice(PATH_OBJECTIVES),
        metavar="OBJECTIVE",
        shown="ce",
    ),
    _other("--steps", help="Its steps in the ball (path)", type=COUNT, metavar="N", shown="20"),
    _other(
        "--beyond",
        help="Its steps on beyond the ball (path)",
        type=NATURAL,
        metavar="N",
        shown="20",
    ),
    _other("--chain", help="Steps of the chain (path)", type=COUNT, metavar="N", shown="100"),
    _other(
        "--against",
        help="Another data set of the same shape (histogram)",
        type=DATASET,
        metavar="DATASET",
    ),
    _other(
        "--radius",
        help="Length of random perturbations in units; repeatable (sharpness)",
        type=POSITIVE,
        metavar="FLOAT",
        multiple=True,
        shown="0.25 0.5 1 2 4",
    ),
    _other(
        "--directions",
        help="Random directions an image (sharpness)",
        type=COUNT,
        metavar="N",
        shown="8",
    ),
)


@click.command("landscape", cls=Command, lists={"Kinds": KINDS.summaries}, shared=False)
@click.argument("runs", nargs=-1, type=RUN, metavar="[RUN]...")
@_what("--kind", help="What to show, listed below", type=KIND, metavar="KIND", default="contour")
@_what(
    "--unit",
    help="Size of a distance of 1, in the [0, 1] pixel scale (contour, sharpness)",
    type=POSITIVE,
    metavar="FRACTION",
    shown="linf eps of the data set",
)
@seed("Picture")
@plane_options
@other_options
@foreign_options()
@data_dir
@batch_size(512)
@device
@option(
    "Output",
    "--style",
    help="Style of matplotlib's, by name or .mplstyle file, over ours",
    metavar="STYLE",
)
@option(
    "Output",
    "-o",
    "--out",
    help="Picture to write: .png, .svg or .pdf; the numbers go beside it as .npz",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    shown="KIND.png of the run",
)
@output_options
def command(
    runs: Sequence[str],
    kind: str,
    out: Path | None,
    style: str | None,
    foreign: Foreign | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Draw and measure the energy around test images, for one RUN or several.

    The contour is Figure 2 of Zhu et al. (2021): E(x,y) on a plane through an image, a panel
    for each run, darker where it is lower; the star is the image, the outline a ball of one
    unit. `rise` is the mean inside it less the value at the image.

    \b
    Examples:
      jeat landscape
      jeat landscape standard at prejeat jeat -o fig2.pdf
      jeat landscape jeat --axes adversarial --image 7 --image 8 --relative
      jeat landscape standard jeat --kind sharpness -n 500
    """
    terminal = ui.open_terminal(quiet, verbose)
    from ..checkpoints.runs import resolve, results_dir
    from ..plots.figure import check_style

    chosen = [resolve(run) for run in runs] or [resolve(None)]
    path = out or results_dir(chosen[0]) / f"{'landscape' if kind == 'contour' else kind}.png"
    check_style(style)
    check_output(path, LANDSCAPE_PICTURE)
    check_output(path.with_suffix(".npz"), LANDSCAPE_NUMBERS)
    from ..landscapes.landscape import energy_landscape, save_numbers
    from ..plots.landscape import draw

    said = {key: value for key, value in settings.items() if value not in (None, ())}
    result = energy_landscape(chosen, kind=kind, foreign=foreign, reporter=terminal, **said)
    picture = draw(result, path, style)
    numbers = save_numbers(result, path.with_suffix(".npz"))
    figures = result.summary() | {"picture": picture, "numbers": numbers}
    output.emit(figures, as_json, lambda: report(figures))
    if foreign is None:
        terminal.hint(ui.next_command("score", runs[0] if runs else None))
