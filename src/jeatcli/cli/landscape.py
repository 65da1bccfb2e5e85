"""`jeat landscape`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..paths import check_writable
from . import ui
from .options import Command, batch_size, data_dir, device, option, output_options, seed
from .parameters import NATURAL, POSITIVE, RUN

_plane = partial(option, "Plane")


@click.command("landscape", cls=Command)
@click.argument("runs", nargs=-1, type=RUN, metavar="[RUN]...")
@_plane("--image", help="Index into the test images", type=NATURAL, metavar="N", default=0)
@_plane(
    "--span",
    help="The plane reaches from -SPAN to SPAN in both directions",
    type=POSITIVE,
    metavar="FLOAT",
    default=4.0,
)
@_plane(
    "--grid",
    help="Points along each side",
    type=click.IntRange(min=3),
    metavar="N",
    default=51,
)
@_plane(
    "--unit",
    help="RMS over the pixels at a distance of 1, in the [0, 1] pixel scale",
    type=POSITIVE,
    metavar="FRACTION",
    shown="linf eps of the data set",
)
@seed("Plane")
@data_dir
@batch_size(512)
@device
@option(
    "Output",
    "--relative",
    is_flag=True,
    help="Draw E(x,y) less its value at the image",
)
@option(
    "Output",
    "-o",
    "--out",
    help="Picture to write: .png, .svg or .pdf; the numbers go beside it as .npz",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    shown="landscape.png of the run",
)
@output_options
def command(
    runs: Sequence[str],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Draw the energy E(x,y) around a test image, one panel for each RUN.

    The plane through the image is spanned by two random orthonormal directions, the same for
    every run (Zhu et al. 2021, Figure 2). Darker is lower; the star is the image. `rise` is
    the mean of E(x,y) inside the ball less its value at the image.

    \b
    Examples:
      jeat landscape
      jeat landscape runs/standard runs/at runs/prejeat runs/jeat -o fig2.png
      jeat landscape runs/jeat --image 7 --relative --json
    """
    terminal = ui.open_terminal(quiet, verbose)
    from ..figure import check_path
    from ..runs import resolve

    chosen = [resolve(run) for run in runs] or [resolve(None)]
    path = out or chosen[0].parent / "landscape.png"
    check_path(path)
    check_writable(path)
    from ..landscape import draw, energy_landscape, save_grid

    result = energy_landscape(chosen, reporter=terminal, **settings)
    picture = draw(result, path)
    grid = save_grid(result, path.with_suffix(".npz"))
    figures = result.summary() | {"picture": picture, "grid_file": grid}
    ui.emit(figures, as_json, lambda: report(figures))
    terminal.hint(ui.next_command("score", runs[0] if runs else None))


def report(figures: dict[str, Any]) -> str:
    """Write the numbers that the picture shows, and where it is."""
    header = ("run", "prediction", "centre", "mean", "min", "max", "rise")
    rows = [header] + [
        (
            each["name"],
            each["predicted_class"],
            *(each[key] for key in header[2:]),
        )
        for each in figures["runs"]
    ]
    about = (
        f"E(x,y) of test image {figures['image']} ({figures['class']}); mean to rise over the "
        f"{figures['points_in_ball']} grid points within l2 {figures['radius_l2']:.3g}"
    )
    return f"{ui.table(rows)}\n{about}\n{figures['picture']}"
