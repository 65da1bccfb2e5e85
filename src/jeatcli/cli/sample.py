"""`jeat sample`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime import launch
from ..runtime.files import SAMPLE_ARCHIVE, SAMPLE_PICTURE, SAMPLE_TRACE, check_output
from . import output
from . import terminal as ui
from .from_settings import foreign_options
from .options import (
    Command,
    batch_size,
    data_dir,
    device,
    option,
    output_options,
    run_argument,
    seed,
)
from .sample_files import (
    FORMATS,
    check_pictures,
    destination,
    layout_of,
    name_for,
    pictures_in,
)
from .sampler_options import sampler_options
from .types import COUNT

if TYPE_CHECKING:
    from ..sampling.drawing import Drawing

PICTURE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
    shown="eight of each of 2 to 20 classes, else 64; one of each from a picture",
)
@seed("Images")
@option(
    "Images",
    "--interpolate",
    help="Lead from one class to another, with the same random numbers",
    metavar="A B",
    nargs=2,
)
@option(
    "Images",
    "--from",
    "image",
    help="Start at a picture: what would make it the --class",
    type=PICTURE,
    metavar="IMAGE",
)
@option("Images", "--inpaint", help="Draw a part of a picture", type=PICTURE, metavar="IMAGE")
@option(
    "Images",
    "--mask",
    help="Picture whose light pixels are that part",
    type=PICTURE,
    metavar="IMAGE",
)
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
@option(
    "Output",
    "--trace",
    help="Write the first ten images on their way: a strip (.png), or moving (.gif, .webp)",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
)
@option("Output", "--preview", help="Show the grid in the terminal, if there is one", is_flag=True)
@output_options
def command(
    run: str | None,
    layout: str | None,
    out: Path | None,
    scale: int | None,
    trace: Path | None,
    preview: bool,
    batch_size: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Draw images from a RUN and print the path of the file.

    They come of descent on the energy, which needs the checkpoint alone. Image k is the same
    whatever the batch size. PNGs and .npz are written batch by batch, and the same command
    goes on where it was stopped.

    \b
    Examples:
      jeat sample
      jeat sample runs/jeat --class dog --class cat -n 16 -o pets.png --trace pets.gif
      jeat sample runs/jeat -n 50000 --format png -o images
      jeat sample runs/jeat --sampler pgd --steps 60 --best-of 4
      jeat sample runs/jeat --from cat.png --class dog
      jeat sample runs/jeat --inpaint cat.png --mask hole.png --class cat -n 8
      jeat sample theirs.pt --arch resnet-18-v1 --dataset cifar10 --init uniform
    """
    terminal = ui.open_terminal(quiet, verbose)
    layout = layout or layout_of(out)
    check_pictures(layout, scale, trace, preview, settings["best_of"])
    from ..checkpoints import runs

    path = runs.resolve(run)
    home = runs.results_dir(path) / "samples"
    target = destination(out, layout, home, name_for(settings))
    for file in [target] if layout != "png" else pictures_in(target):
        check_output(file, SAMPLE_ARCHIVE if layout == "npz" else SAMPLE_PICTURE)
    if trace:
        check_output(trace, SAMPLE_TRACE, "--trace")
    from .. import __version__
    from ..sampling import writers

    drawing = _plan(run, terminal, **settings)
    began = time.perf_counter()
    found: dict[str, Any] = {}
    if layout == "grid":
        frames = writers.frames_for(trace) if trace else 0
        drawn = drawing.all(batch_size, terminal, frames)
        found = {"trace": trace, "distance": drawn.distance}
        if launch.first():
            picture = writers.save_grid(drawn, target, scale)
            if trace:
                writers.save_trace(drawn, trace, scale)
            if preview:
                ui.show(picture)
    elif layout == "png":
        writers.save_folder(drawing, target, batch_size, terminal)
    else:
        writers.save_npz(drawing, target, batch_size, terminal)
    result = {
        "run": drawing.settings["run"],
        "path": target,
        "format": layout,
        "n": len(drawing.labels),
        "labels": drawing.labels,
        "classes": drawing.recipe.model.meta.classes,
        "settings": drawing.settings,
        **found,
        "seconds": time.perf_counter() - began,
        "device": str(drawing.recipe.model.device),
        "seed": drawing.settings["seed"],
        "version": __version__,
    }
    output.emit(result, as_json, lambda: str(target))
    if not runs.is_foreign(path):
        terminal.hint(ui.next_command("landscape", run))


def _plan(
    run: str | None,
    terminal: ui.Terminal,
    interpolate: tuple[str, str] | None,
    image: Path | None,
    inpaint: Path | None,
    mask: Path | None,
    **settings: Any,
) -> Drawing:
    from ..sampling.edits import Edit
    from ..sampling.sample import plan

    edit = Edit(image, inpaint, mask, interpolate)
    return plan(run, edit=edit, reporter=terminal, **settings)
