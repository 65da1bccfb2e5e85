"""`jeat sample`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Interrupted, UsageProblem
from ..runtime import launch
from ..runtime.files import (
    SAMPLE_ARCHIVE,
    SAMPLE_PICTURE,
    SAMPLE_TRACE,
    check_output,
    check_writable,
    safe_name,
)
from ..sampling.settings import INITIALIZERS, SAMPLERS, SamplerSettings, SampleSettings
from ..settings import declared
from . import output
from . import terminal as ui
from .from_settings import foreign_options, options_of
from .options import Command, option, output_options, run_argument
from .types import COUNT

if TYPE_CHECKING:
    from torch import Tensor

    from ..sampling.plan import SamplingPlan

_ENDINGS = {"grid": ".png", "png": "", "npz": ".npz"}
# Of a grid alone.
_PICTURES = ("scale", "columns", "trace", "preview")
_SHARED = tuple(declared(SamplerSettings))
_LAST = ("data_dir", "batch_size", "device")


@click.command(
    "sample",
    cls=Command,
    lists={"Samplers": SAMPLERS.summaries, "Starts": INITIALIZERS.summaries},
)
@run_argument
@options_of(SampleSettings, without=(*_SHARED, *_LAST))
@options_of(SamplerSettings)
@foreign_options()
@options_of(SampleSettings, only=_LAST)
@option(
    "Output",
    "--format",
    "layout",
    help="One grid, a directory of PNGs, or an .npz of arrays",
    type=click.Choice(list(_ENDINGS)),
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
    "--columns",
    help="Images in a row of a grid",
    type=COUNT,
    metavar="N",
    shown="one, or several, of each class",
)
@option(
    "Output",
    "--scale",
    help="Side of the square that a pixel becomes in a grid",
    type=COUNT,
    metavar="N",
    shown="to 64 pixels an image",
)
@option(
    "Output",
    "--headings/--no-headings",
    help="Write the classes above the columns of a grid",
    default=True,
)
@option(
    "Output",
    "--trace",
    help="Write the first ten images along their descent: a strip (.png), or moving (.gif, .webp)",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
)
@option("Output", "--preview", help="Show the grid in the terminal, if there is one", is_flag=True)
@output_options
def command(
    run: str | None,
    layout: str | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Draw images from a RUN and print the path of the file.

    Images descend the energy of the classifier; the checkpoint alone is needed. Image k is the
    same whatever the batch size. PNGs and .npz are written batch by batch, and the same command
    goes on where it was stopped. A file of other settings is never replaced, unless -o names it.

    \b
    Examples:
      jeat sample
      jeat sample runs/jeat --class dog --class cat -n 16 -o pets.png --trace pets.gif
      jeat sample runs/jeat -n 50000 --format png -o images
      jeat sample runs/jeat --sampler pgd --steps 60 --best-of 4
      jeat sample runs/jeat --from cat.png --class dog
      jeat sample runs/jeat --from 17 --class dog --sampler pgd --eps 1.5
      jeat sample runs/jeat --inpaint cat.png --mask hole.png --class cat -n 8
      jeat sample theirs.pt --arch resnet-18-v1 --dataset cifar10 --init uniform
    """
    terminal = ui.open_terminal(quiet, verbose)
    layout = layout or ("npz" if out and out.suffix.lower() == ".npz" else "grid")
    look = {name: settings.pop(name) for name in (*_PICTURES, "headings")}
    _check_look(layout, look, settings["best_of"])
    from ..checkpoints import runs

    path = runs.resolve(run, reporter=terminal)
    target, chosen = destination(out, layout, runs.results_dir(path) / "samples", settings)
    if chosen:
        check_writable(target / "000000.png" if layout == "png" else target)
    elif layout != "png":
        check_output(target, SAMPLE_PICTURE if layout == "grid" else SAMPLE_ARCHIVE)
    _check_trace(look["trace"], target)
    from ..sampling import writers
    from ..sampling.sample import prepare

    began = time.perf_counter()
    plan = prepare(path, reporter=terminal, **settings)
    if chosen and layout != "grid":
        target = writers.free_path(target, plan)
    distance = None
    if layout == "grid":
        target, distance = _draw_grid(plan, target, chosen, look, terminal)
    elif layout == "png":
        writers.save_folder(plan, target, terminal)
    else:
        writers.save_npz(plan, target, terminal)
    result = _result(plan, layout, distance, began)
    result |= output.written(images=target, trace=look["trace"])
    output.emit(output.document("sample", result), as_json, lambda: str(target))
    if not runs.is_foreign(path):
        terminal.hint(ui.next_command("landscape", run))


def _check_look(layout: str, look: dict[str, Any], best_of: int | None) -> None:
    """Refuse what is for a grid where there is none."""
    for name in _PICTURES:
        if look[name] and layout != "grid":
            raise UsageProblem(
                f"`--{name}` goes with a grid, not `--format {layout}`",
                "leave one of the two out",
            )
    if look["trace"] and best_of not in (None, 1):
        raise UsageProblem(
            "`--trace` shows the descent of an image, and `--best-of` draws several of each",
            "leave one of the two out",
        )


def _check_trace(trace: Path | None, target: Path) -> None:
    if trace:
        if trace.absolute() == target.absolute():
            raise UsageProblem("`--trace` and `-o` name one file", "name two")
        check_output(trace, SAMPLE_TRACE, "--trace")


def destination(
    out: Path | None, layout: str, home: Path, settings: Mapping[str, Any]
) -> tuple[Path, bool]:
    """Return the file or directory to write, and whether its name is ours to choose.

    Raises:
        UsageProblem: If the ending of `out` is another format's.
    """
    ending = _ENDINGS[layout]
    if out is None:
        return home / f"{name_for(settings)}{ending}", True
    if layout == "png":
        if out.suffix.lower() in (".png", ".npz") and not out.is_dir():
            raise UsageProblem(
                f"`--format png` writes a directory, not `{out}`", "name a directory with `-o`"
            )
        return out, False
    if out.is_dir() or not out.suffix:
        return out / f"{name_for(settings)}{ending}", True
    if out.suffix.lower() != ending:
        raise UsageProblem(
            f"`--format {layout}` writes a {ending} file, not `{out}`",
            f"name a file that ends in {ending}",
        )
    return out, False


def name_for(settings: Mapping[str, Any]) -> str:
    """Return what the file is called if the user does not say."""
    classes = settings["interpolate"] or settings["classes"] or ("all",)
    what = ("-to-" if settings["interpolate"] else "-").join(map(str, classes))
    for source in (settings["image"], settings["inpaint"]):
        if source is not None:
            what = f"{f'test-{source}' if isinstance(source, int) else source.stem}-{what}"
    return f"{safe_name(what)}-seed{settings['seed'] or 0}"


def _draw_grid(
    plan: SamplingPlan, target: Path, chosen: bool, look: dict[str, Any], terminal: ui.Terminal
) -> tuple[Path, Tensor | None]:
    """Draw a grid; return its file, and how far the images are from what they were made of."""
    from ..sampling import grids, writers
    from ..sampling.sample import draw_all

    trace = look["trace"]
    try:
        samples = draw_all(plan, grids.frames_for(trace) if trace else 0, terminal)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; a grid is written when all its images are drawn",
            "`--format png` and `--format npz` write batch by batch, and go on from there",
        ) from None
    if launch.first():
        target = writers.free_path(target, plan) if chosen else target
        text = plan.identity | {"n": len(plan.labels)}
        picture = grids.save_grid(
            samples, target, text, look["scale"], look["columns"], look["headings"]
        )
        if trace:
            grids.save_trace(samples, trace, look["scale"])
        if look["preview"]:
            ui.show(picture)
    return target, samples.distance


def _result(
    plan: SamplingPlan, layout: str, distance: Tensor | None, began: float
) -> dict[str, Any]:
    from .. import __version__

    return {
        "run": plan.settings["run"],
        "path": plan.model.path,
        "format": layout,
        "n": len(plan.labels),
        "labels": plan.labels,
        "classes": plan.model.meta.classes,
        "settings": plan.settings,
        "distance": distance,
        "seconds": time.perf_counter() - began,
        "device": str(plan.model.device),
        "seed": plan.settings["seed"],
        "version": __version__,
    }
