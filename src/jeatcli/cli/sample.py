"""`jeat sample`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..checkpoints import runs
from ..errors import Interrupted, UsageProblem
from ..runtime import launch
from ..runtime.files import check_writable, safe_name
from ..runtime.outputs import SAMPLE_ARCHIVE, SAMPLE_PICTURE, SAMPLE_TRACE, check_output
from ..runtime.quick_start import import_torch
from ..sampling.settings import (
    ENDINGS,
    INITIALIZERS,
    SAMPLERS,
    SampleOutput,
    SamplerSettings,
    SampleSettings,
)
from ..settings import declared
from . import output
from . import terminal as ui
from .command import Command
from .from_settings import foreign_options, options_of, take
from .options import output_options
from .record import keep
from .types import RUN

if TYPE_CHECKING:
    from torch import Tensor

    from ..sampling.plan import SamplingPlan

_SHARED = tuple(declared(SamplerSettings))
_LAST = ("data_dir", "batch_size", "device")
_NPZ_AND_PNG = "`--format png` and `--format npz` write batch by batch, and resume from there"


@click.command(
    "sample", cls=Command, lists={"Samplers": SAMPLERS.summaries, "Starts": INITIALIZERS.summaries}
)
@click.argument("run", required=False, type=RUN)
@options_of(SampleSettings, without=(*_SHARED, *_LAST))
@options_of(SamplerSettings)
@foreign_options()
@options_of(SampleSettings, only=_LAST)
@options_of(SampleOutput)
@output_options
def command(run: str | None, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    """Draw images from a RUN and print the path of the file.

    Images descend the energy of the classifier; only the checkpoint is needed. Image k is the
    same whatever the batch size. PNGs and .npz are written batch by batch, and the same command
    resumes them. A file with other settings is never replaced unless -o names it.

    \b
    Examples:
      jeat sample
      jeat sample runs/jeat --class dog --class cat -n 16 --trace pets.gif
      jeat sample runs/jeat -n 50000 --format png -o images
      jeat sample runs/jeat --sampler pgd --steps 60 --best-of 4
      jeat sample runs/jeat --from cat.png --class dog
      jeat sample runs/jeat --from 17 --class dog --sampler pgd --eps 1.5
      jeat sample runs/jeat --inpaint cat.png --mask hole.png --class cat -n 8
      jeat sample theirs.pt --arch resnet-18-v1 --dataset cifar10 --init uniform
    """
    terminal = ui.open_terminal(quiet, verbose)
    files = take(SampleOutput, options)
    if files.trace and options["best_of"] not in (None, 1):
        raise UsageProblem(
            "`--trace` shows the descent of an image, and `--best-of` draws several of each",
            "leave one of the two out",
        )
    path = runs.resolve(run, reporter=terminal)
    target, ours = destination(files, runs.results_dir(path) / "samples", options)
    if ours:
        check_writable(target / "000000.png" if files.format == "png" else target)
    elif files.format != "png":
        check_output(target, SAMPLE_PICTURE if files.format == "grid" else SAMPLE_ARCHIVE)
    if files.trace:
        if files.trace.absolute() == target.absolute():
            raise UsageProblem("`--trace` and `-o` name the same file", "choose two")
        check_output(files.trace, SAMPLE_TRACE, "--trace")
    import_torch()
    from ..sampling import writers
    from ..sampling.sample import prepare

    began = time.perf_counter()
    plan = prepare(path, reporter=terminal, **options)
    if ours and files.format != "grid":
        target = writers.free_path(target, plan)
    distance, beside = None, output.Files(trace=files.trace)
    if files.format == "grid":
        target, distance = _draw_grid(plan, target, ours, files, beside, terminal)
    elif files.format == "png":
        writers.save_folder(plan, target, terminal)
    else:
        writers.save_npz(plan, target, terminal)
    result = _result(plan, files.format, distance, began)
    result |= output.written(images=target, **beside.written)
    try:
        output.emit(output.document("sample", result), as_json, lambda: str(target))
    finally:
        keep(path, [result], terminal)
    beside.end()
    if not runs.is_foreign(path):
        terminal.hint(ui.next_command("landscape", run))


def destination(files: SampleOutput, home: Path, options: Mapping[str, Any]) -> tuple[Path, bool]:
    """Return the file or directory to write, and whether its name is ours to choose."""
    out, ending = files.out, ENDINGS[files.format]
    name = f"{name_for(options)}{ending}"
    if out is None:
        return home / name, True
    if str(out) == "-":
        raise UsageProblem(
            "images are not written to stdout", "name a file or a directory with `-o`"
        )
    if files.format == "png":
        if out.suffix.lower() in (".png", ".npz") and not out.is_dir():
            raise UsageProblem(
                f"`--format png` writes a directory, not `{out}`", "name a directory with `-o`"
            )
        return out, False
    if out.is_dir() or not out.suffix:
        return out / name, True
    if out.suffix.lower() != ending:
        raise UsageProblem(
            f"`--format {files.format}` writes a {ending} file, not `{out}`",
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
    plan: SamplingPlan,
    target: Path,
    ours: bool,
    files: SampleOutput,
    beside: output.Files,
    terminal: ui.Terminal,
) -> tuple[Path, Tensor | None]:
    """Draw a grid; return its file, and how far the images are from what they were made of."""
    from ..sampling import grids, writers
    from ..sampling.sample import draw_all

    frames = grids.frames_for(files.trace) if files.trace else 0
    grids.check_size(plan, files.scale, frames)
    try:
        samples = draw_all(plan, frames, terminal)
    except KeyboardInterrupt:
        message = "stopped; a grid is written when all its images are drawn"
        raise Interrupted(message, _NPZ_AND_PNG) from None
    if launch.first():
        target = writers.free_path(target, plan) if ours else target
        text = plan.identity | {"n": len(plan.labels)}
        picture = grids.save_grid(samples, target, text, files.scale, files.columns, files.headings)
        if files.trace:
            with beside.writing("trace"):
                grids.save_trace(samples, files.trace, files.scale, files.headings)
                terminal.say(f"descent in `{files.trace}`")
        if files.preview:
            from .preview import show

            show(picture)
    return target, samples.distance


def _result(
    plan: SamplingPlan, layout: str, distance: Tensor | None, began: float
) -> dict[str, Any]:
    from .. import __version__

    return {
        "run": plan.settings["run"],
        "path": plan.model.path,
        "epoch": plan.model.epoch,
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
