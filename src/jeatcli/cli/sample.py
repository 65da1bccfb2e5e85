"""`jeat sample`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageProblem
from ..paths import check_writable
from . import ui
from .options import (
    Command,
    batch_size,
    data_dir,
    device,
    foreign_options,
    option,
    output_options,
    run_argument,
    sampler_options,
    seed,
)
from .parameters import COUNT

if TYPE_CHECKING:
    from ..generate import Samples

FORMATS = {"grid": ".png", "png": "", "npz": ".npz"}


@click.command("sample", cls=Command)
@run_argument
@option(
    "Images",
    "--class",
    "classes",
    help="Class, by name or index; repeatable; several are taken in turn",
    metavar="CLASS",
    multiple=True,
    default=("all",),
)
@option(
    "Images",
    "-n",
    "--num",
    help="Images to draw",
    type=COUNT,
    metavar="N",
    shown="eight of each class",
)
@seed("Images")
@sampler_options
@foreign_options()
@data_dir
@batch_size(256)
@device
@option(
    "Output",
    "--format",
    "layout",
    help="One grid, a directory of PNGs, or an .npz of arrays",
    type=click.Choice(list(FORMATS)),
    shown="by the ending of -o, else grid",
)
@option(
    "Output",
    "-o",
    "--out",
    help="File to write, or directory",
    type=click.Path(path_type=Path),
    metavar="PATH",
    shown="samples/ of the run",
)
@option(
    "Output",
    "--scale",
    help="Side of the square that a pixel becomes in a grid",
    type=COUNT,
    metavar="N",
    shown="to 32 pixels an image",
)
@output_options
def command(
    run: str | None,
    classes: Sequence[str],
    layout: str | None,
    out: Path | None,
    scale: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Draw images from a RUN and print the path of the file.

    They come of descent on the energy, which needs the checkpoint alone. Image k is the same
    whatever the batch size.

    \b
    Examples:
      jeat sample
      jeat sample runs/jeat --class dog --class cat -n 16 -o pets.png
      jeat sample runs/jeat -n 1000 --format png -o images
      jeat sample runs/jeat --sampler pgd --steps 60 --seed 3
      jeat sample theirs.pt --arch resnet-18-v1 --dataset cifar10 --init uniform
    """
    terminal = ui.open_terminal(quiet, verbose)
    layout = layout or layout_of(out)
    from .. import __version__, runs

    path = runs.resolve(run)
    home = runs.results_dir(path) / "samples"
    target = destination(out, layout, home, f"{'-'.join(classes)}-seed{settings['seed']}")
    check_writable(target / "000000.png" if layout == "png" else target)
    from ..generate import sample

    drawn = sample(run, classes=classes, reporter=terminal, **settings)
    save(drawn, layout, target, scale, {**drawn.settings, "classes": classes})
    result = {
        "run": drawn.settings["run"],
        "path": target,
        "format": layout,
        "n": len(drawn.images),
        "labels": drawn.labels,
        "classes": drawn.classes,
        "settings": drawn.settings,
        "seconds": drawn.seconds,
        "device": drawn.device,
        "seed": drawn.settings["seed"],
        "version": __version__,
    }
    ui.emit(result, as_json, lambda: str(target))
    if not runs.is_foreign(path):
        terminal.hint(ui.next_command("landscape", run))


def layout_of(out: Path | None) -> str:
    """Read off the ending of `out` what is wanted."""
    return "npz" if out is not None and out.suffix.lower() == ".npz" else "grid"


def destination(out: Path | None, layout: str, home: Path, name: str) -> Path:
    """Return the file or directory to write: `out`, something of that name in it, or in `home`.

    Raises:
        UsageProblem: If the ending of `out` is another format's.
    """
    ending = FORMATS[layout]
    if out is None:
        return home / f"{name}{ending}"
    if layout == "png":
        if out.suffix.lower() in (".png", ".npz") and not out.is_dir():
            raise UsageProblem(
                f"`--format png` writes a directory, not `{out}`", "name a directory with `-o`"
            )
        return out
    if out.is_dir() or not out.suffix:
        return out / f"{name}{ending}"
    if out.suffix.lower() != ending:
        raise UsageProblem(
            f"`--format {layout}` writes a {ending} file, not `{out}`",
            f"name a file that ends in {ending}",
        )
    return out


def save(
    drawn: Samples, layout: str, target: Path, scale: int | None, settings: Mapping[str, Any]
) -> None:
    """Write the images, and in each PNG the settings that drew it."""
    from .. import render

    text = {"jeat": json.dumps(ui.plain(settings))}
    if layout == "png":
        render.save_images(drawn.images, target, text)
    elif layout == "npz":
        _save_npz(drawn, target)
    else:
        scale = scale or max(1, 32 // drawn.images.shape[-1])
        # A column for each class, for the images take the classes in turn.
        distinct = len(set(drawn.labels.tolist()))
        columns = distinct if 1 < distinct <= 20 else None
        render.save_png(render.grid(drawn.images, columns, scale), target, text)


def _save_npz(drawn: Samples, target: Path) -> None:
    """Write the arrays in the layout of improved-diffusion: uint8 NHWC, then the labels."""
    import numpy as np

    from ..paths import write_atomic
    from ..render import to_uint8

    pixels = to_uint8(drawn.images).transpose(0, 2, 3, 1)

    def write(beside: Path) -> None:
        with beside.open("wb") as handle:
            np.savez_compressed(handle, pixels, drawn.labels.numpy())

    write_atomic(target, write)
