"""`jeat landscape`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..checkpoints.runs import resolve, results_dir
from ..checkpoints.settings import Foreign
from ..data.facts import dataset_facts
from ..errors import UsageProblem
from ..landscapes import KINDS, make_settings
from ..plots.settings import PlotSettings
from ..runtime.outputs import LANDSCAPE_NUMBERS, LANDSCAPE_PICTURE, check_output, report_of
from ..runtime.quick_start import import_torch
from ..settings import Settings, declared
from . import output
from . import terminal as ui
from .command import Command
from .from_settings import foreign_options, options_of, plot_settings, used
from .landscape_report import report, sections
from .options import F, combine, file_option, option, output_options
from .page import Page, Picture, headline, is_page
from .record import keep, typed
from .types import BY_KIND, RUN

_OUT = "Picture (.png, .svg, .pdf) or report (.html); the numbers go beside it as .npz"


def kind_options() -> Callable[[F], F]:
    """Take the settings of all kinds; those that several kinds have are one option."""
    first: dict[str, type[Settings]] = {}
    for entry in KINDS.values():
        first |= {name: entry.settings for name in declared(entry.settings) if name not in first}
    return combine(*(options_of(settings, only=[name]) for name, settings in first.items()))


@click.command("landscape", cls=Command, lists={"Kinds": KINDS.summaries}, shared=False)
@click.argument("runs", nargs=-1, type=RUN, metavar="[RUN]...")
@option(
    "Picture",
    "--kind",
    help="Kind of landscape, listed below",
    type=BY_KIND["kind"],
    default="contour",
)
@kind_options()
@foreign_options()
@options_of(PlotSettings)
@file_option("-o", "--out", help=_OUT, shown="KIND.png of the run")
@output_options
def command(
    runs: Sequence[str],
    kind: str,
    out: Path | None,
    foreign: Foreign | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Draw and measure the energy around test images, for one RUN or several.

    The contour is Figure 2 of Zhu et al. (2021): E(x,y) on a plane through an image, a panel
    for each run, darker where it is lower; the star is the image, the outline a ball of one
    unit. `rise` is the mean inside it minus the value at the image.

    \b
    Examples:
      jeat landscape
      jeat landscape standard at prejeat jeat -o fig2.pdf
      jeat landscape jeat --axes adversarial --image 7 --image 8 --absolute
      jeat landscape standard jeat --kind sharpness -n 500 --figsize 6 4
      jeat landscape standard jeat -o report.html
    """
    terminal = ui.open_terminal(quiet, verbose)
    look = plot_settings(options)
    settings = make_settings(kind, {**used(options), "foreign": foreign})
    models = _found(runs) or [resolve(reporter=terminal)]
    path = out or results_dir(models[0]) / f"{'landscape' if kind == 'contour' else kind}.png"
    check_output(path, report_of("landscape") if is_page(path) else LANDSCAPE_PICTURE)
    check_output(path.with_suffix(".npz"), LANDSCAPE_NUMBERS)
    import_torch()
    from ..landscapes.landscape import energy_landscape, save_numbers
    from ..plots.landscape import check_colours, draw

    check_colours(kind, path, look)
    result = energy_landscape(models, settings, reporter=terminal)
    drawn, numbers = "report" if is_page(path) else "picture", path.with_suffix(".npz")
    files = output.Files(**{drawn: path, "numbers": numbers})
    summary = output.document("landscape", result.summary() | output.written(**files.written))
    with files.writing(drawn):
        if is_page(path):
            shown = Picture.drawn(lambda place: draw(result, place, look), result.result.title)
            names = [found["run"] for found in summary["results"]]
            title = f"{result.result.title}: {headline(names)}"
            tables = sections(summary)
            Page(title, typed(models[0]), summary, tables, [shown]).write(path)
        else:
            draw(result, path, look)
    with files.writing("numbers"):
        save_numbers(result, numbers)
    # Anew, with what the picture was warned of.
    summary = output.document("landscape", result.summary() | output.written(**files.written))
    try:
        output.emit(summary, as_json, lambda: report(summary))
    finally:
        _keep_each(models, summary, terminal)
    files.end()
    if foreign is None:
        terminal.hint(_next(result.dataset, runs[0] if runs else None))


def _found(runs: Sequence[str]) -> list[Path]:
    models = [resolve(run) for run in runs]
    places = [model.resolve() for model in models]
    if twice := [run for k, run in enumerate(runs) if places[k] in places[:k]]:
        raise UsageProblem(f"the run `{twice[0]}` is given twice", "name it once")
    return models


def _next(dataset: str, run: str | None) -> str:
    facts = dataset_facts(dataset)
    grey = facts is not None and facts.shape[0] == 1  # scores are in features of photographs
    return ui.next_command("score", run) + " --calibration" * grey


def _keep_each(models: Sequence[Path], summary: Mapping[str, Any], terminal: ui.Terminal) -> None:
    """Keep with each run what was found of it: a contour has a result for each run and image."""
    shared = {key: summary[key] for key in summary if key != "results"}
    for model in models:
        own = [found for found in summary["results"] if Path(found["path"]) == model]
        keep(model, [shared | found for found in own], terminal)
