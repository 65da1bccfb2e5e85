"""`jeat score`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..checkpoints.settings import Foreign
from ..errors import JeatError, UsageProblem
from ..plots.settings import PlotSettings
from ..runtime import launch
from ..runtime.outputs import CORRUPTED, RELIABILITY, check_output, report_of
from ..runtime.plain import plain
from ..runtime.quick_start import import_torch
from ..sampling.settings import SamplerSettings
from ..scoring.settings import METRICS, ClassifierSettings, ScoreSettings
from . import output
from . import terminal as ui
from .command import Command
from .from_settings import foreign_options, options_of, plot_settings, used
from .options import F, file_option, option, output_options
from .output import Section
from .page import Page, Picture
from .record import keep, tell_unkept, typed
from .score_report import SCORE_NAMES, classifier_sections, score_sections
from .types import RUN

if TYPE_CHECKING:
    from ..scoring.classifier_scores import ClassifierScores
    from ..scoring.image_scores import Scores

# What the scores of the classifier take as well.
_OF_CLASSIFIER = ("num", "on", "dataset", "data_dir", "batch_size", "device", "foreign")
_NEAR = "Images, each beside the training images nearest to it"
_ENDINGS = (".png", ".svg", ".pdf")
_PRODUCTS = {"calibration": RELIABILITY, "corruptions": CORRUPTED}
_KINDS = {"calibration": "diagram", "corruptions": "heat_map"}


class Diagram(click.Path):
    """A picture's path; anything else behind the option is a RUN in the wrong place."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value and Path(value).suffix.lower() not in _ENDINGS:
            raise UsageProblem(
                f"`{param.opts[0]}` cannot draw into `{value}`",
                f"name a file in {', '.join(_ENDINGS)}, and a RUN before the options",
            )
        return value


def _measurement(flag: str, help: str) -> Callable[[F], F]:
    """Declare an option that measures the classifier, and draws the result if it names a file."""
    heading = "Classifier (instead of images)"
    kind = {"type": Diagram(), "is_flag": False, "flag_value": "", "metavar": "[FILE]"}
    return option(heading, flag, help=help, **kind)


@click.command("score", cls=Command, lists={"Metrics": METRICS.summaries})
@click.argument("source", required=False, type=RUN, metavar="[RUN|FOLDER|FILE.npz]")
@options_of(ScoreSettings)
@_measurement(
    "--calibration",
    "Accuracy, ECE and temperature on the test images; FILE is the reliability diagram",
)
@_measurement(
    "--corruptions", "Accuracy on CIFAR-10-C or CIFAR-100-C, and its mean error; FILE is a heat map"
)
@options_of(ClassifierSettings, only=("ood", "on"))
@options_of(PlotSettings, without=("cmap",))
@options_of(SamplerSettings)
@foreign_options(dataset=False)
@file_option(
    "-o",
    "--out",
    help="Write the scores, pictures and protocol as a report too",
    metavar="FILE.html",
)
@output_options
def command(
    source: str | None,
    calibration: str | None,
    corruptions: str | None,
    ood: tuple[str, ...],
    on: str | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Score images, or with --calibration, --corruptions and --ood the classifier itself.

    The images are drawn from a RUN, in equal numbers for each class, or read from a FOLDER of
    PNGs or an .npz. The protocol is printed with the numbers, which mean nothing without it.
    Inception was trained on photographs: for digits, name your own classifier with --features.
    Without a RUN, the latest finished run is scored, except that of --features.

    \b
    Examples:
      jeat score -n 50000
      jeat score runs/jeat --features runs/standard --neighbours nearest.png
      jeat score images/ --dataset cifar10 --reference test
      jeat score runs/jeat --calibration bins.png --ood svhn --ood textures/
      jeat score runs/jeat --features their.pt --arch wrn-28-10 --dataset cifar10
      jeat score runs/jeat --features runs/standard -o report.html
    """
    terminal = ui.open_terminal(quiet, verbose)
    pictures = {"calibration": calibration, "corruptions": corruptions}
    wanted = [file for file in pictures.values() if file is not None]
    fix = "name its file with `--calibration FILE` or `--corruptions FILE`"
    drawn = any(wanted) or bool(wanted and out)
    look = plot_settings(options, drawn, "the diagram and the heat map", fix)
    places = [Path(file) for file in (*wanted, out) if file]
    look.check_dots(*places, pixels=corruptions is not None)
    if out is not None:
        check_output(out, report_of("score"))
    import_torch()
    explicit = used(options)
    if on is not None and calibration is None and not ood:
        raise UsageProblem(
            "`--on` is for `--calibration` and `--ood`, which score the classifier",
            "to score images, name them: `jeat score FOLDER --dataset DATASET`",
        )
    if wanted or ood:
        settings = _classifier_settings(explicit | {"on": on}, pictures, ood)
        files = {name: Path(file) for name, file in pictures.items() if file}
        _score_classifier(source, settings, files, out, look, terminal, as_json)
    else:
        _score_images(source, explicit, out, terminal, as_json)


def _score_images(
    source: str | None,
    settings: Mapping[str, Any],
    out: Path | None,
    terminal: ui.Terminal,
    as_json: bool,
) -> None:
    from ..scoring.image_scores import image_scores

    result = image_scores(source, reporter=terminal, **settings)
    tell_unkept(result.path, terminal)
    values = plain(result) | {"warnings": _warnings(result)}
    picture = result.neighbours.picture if result.neighbours else None
    outputs = output.Files(neighbours=picture, report=out)
    document = output.document("score", values | output.written(**outputs.written))
    if out is not None and launch.first():
        shown = [Picture.of(picture, _NEAR)] if picture else []
        sections = score_sections(result)[:1]
        page = Page(f"Scores of {result.run}", typed(result.path), document, sections, shown)
        with outputs.writing("report"):
            page.write(out)
    written = output.written(**outputs.written)
    tables = score_sections(result)
    try:
        output.emit(document | written, as_json, lambda: _laid_out(tables, outputs))
    finally:
        keep(result.path, [values | written], terminal)
    outputs.end()
    if result.neighbours and not picture:
        raise JeatError(f"cannot write `{settings['neighbours']}`", "see the warning above")


def _warnings(result: Scores) -> list[dict[str, str]]:
    """Return a section of docs/scoring.md and what it is about, for each score in doubt."""
    # As the table calls them.
    names = SCORE_NAMES[result.protocol["features"]["kind"]]
    named = dict(zip(("inception_score", "fid", "kid"), names, strict=True))
    return [
        {
            "name": "how-few-images-are-enough",
            "text": f"{named.get(score, score.replace('_', ' '))}: {note}",
        }
        for score, note in result.notes.items()
    ]


def _classifier_settings(
    explicit: dict[str, Any], pictures: Mapping[str, str | None], ood: tuple[str, ...]
) -> ClassifierSettings:
    """Return the settings of the classifier's scores; refuse those of the scores of images."""
    source_of = click.get_current_context().get_parameter_source
    own = {name: value for name, value in explicit.items() if name in _OF_CLASSIFIER}
    for name in explicit.keys() - own.keys():
        if source_of(name) not in (None, ParameterSource.DEFAULT):
            raise UsageProblem(
                f"`--{name.replace('_', '-')}` is for the scores of images, and "
                "`--calibration`, `--corruptions` and `--ood` score the classifier",
                "run `jeat score` twice, once for each",
            )
    if (dataset := own.pop("dataset", None)) is not None:
        own["foreign"] = replace(own.get("foreign") or Foreign(), dataset=dataset)
    calibrated, corrupted = (file is not None for file in pictures.values())
    return ClassifierSettings.of(
        {**own, "calibrated": calibrated, "corrupted": corrupted, "ood": ood}
    )


def _score_classifier(
    run: str | None,
    settings: ClassifierSettings,
    files: Mapping[str, Path],
    page: Path | None,
    look: PlotSettings,
    terminal: ui.Terminal,
    as_json: bool,
) -> None:
    if len({file.absolute() for file in files.values()}) < len(files):
        raise UsageProblem("`--calibration` and `--corruptions` name the same file", "choose two")
    for name, file in files.items():
        check_output(file, _PRODUCTS[name], f"--{name}")
    from ..scoring.classifier_scores import classifier_scores

    result = classifier_scores(run, settings, reporter=terminal)
    tell_unkept(result.path, terminal)
    figures = _figures(result, look) if launch.first() else {}
    outputs = output.Files(**{_KINDS[name]: file for name, file in files.items()}, report=page)
    for name, (draw, _) in figures.items():
        if name in files:
            with outputs.writing(_KINDS[name]):
                draw(files[name])
    document = output.document("score", plain(result) | output.written(**outputs.written))
    if page is not None and launch.first():
        title, tables = f"The classifier {result.run}", classifier_sections(result)
        with outputs.writing("report"):
            shown = [Picture.drawn(draw, caption) for draw, caption in figures.values()]
            Page(title, typed(result.path), document, tables, shown).write(page)
    written = output.written(**outputs.written)
    diagram, heat_map = (outputs.written.get(kind) for kind in _KINDS.values())
    sections = classifier_sections(result, diagram, heat_map)
    try:
        output.emit(document | written, as_json, lambda: _laid_out(sections, outputs))
    finally:
        keep(result.path, [plain(result) | written], terminal)
    outputs.end()


def _figures(
    result: ClassifierScores, look: PlotSettings
) -> dict[str, tuple[Callable[[Path], Path], str]]:
    """Return what draws the figures of what was measured, and their captions."""
    from ..plots.corruptions import save_heat_map
    from ..plots.reliability import save_diagram

    figures: dict[str, tuple[Callable[[Path], Path], str]] = {}
    if (calibration := result.calibration) is not None:
        figures["calibration"] = (
            lambda path: save_diagram(calibration, path, result.run, look),
            "Reliability: accuracy over confidence, and the share of images",
        )
    if (corrupted := result.corruptions) is not None:
        figures["corruptions"] = (
            lambda path: save_heat_map(corrupted, path, result.run, look),
            "Accuracy on corrupted images, in per cent",
        )
    return figures


def _laid_out(sections: list[Section], outputs: output.Files) -> str:
    """Return the tables as text, below them the path of the report."""
    report = [str(path) for kind, path in outputs.written.items() if kind == "report"]
    return "\n".join([output.lay_out(sections), *report])
