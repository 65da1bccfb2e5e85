"""`jeat score`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..checkpoints.settings import Foreign
from ..errors import UsageProblem
from ..runtime.files import RELIABILITY, check_output
from ..sampling.settings import SamplerSettings
from . import output
from . import terminal as ui
from .from_settings import foreign_options, options_of
from .options import Command, batch_size, data_dir, device, option, output_options
from .reports import classifier_report, score_report
from .types import COUNT, DATASET, NATURAL, RUN

if TYPE_CHECKING:
    from ..scoring.classifier_scores import ClassifierScores

_score = partial(option, "Score")
_classifier = partial(option, "Classifier (instead of images)")
# What the scores of the classifier take as well.
_OF_CLASSIFIER = ("num", "dataset", "data_dir", "batch_size", "device", "foreign")
_UNSAID = (None, ParameterSource.DEFAULT)


class Diagram(click.Path):
    """A picture's path; anything else behind `--calibration` is a RUN in the wrong place."""

    name = "diagram"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the path, or nothing for the option alone."""
        if value and Path(value).suffix.lower() not in DIAGRAM_ENDINGS:
            raise UsageProblem(
                f"`--calibration` cannot draw into `{value}`",
                f"name a file in {', '.join(DIAGRAM_ENDINGS)}, and a RUN before the options",
            )
        return value


DIAGRAM_ENDINGS = (".png", ".svg", ".pdf")
DIAGRAM = Diagram()


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
@_score("--seed", help="Seed of the drawing", type=NATURAL, metavar="N", shown="0")
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
@option(
    "Score",
    "--neighbours",
    help="Write images beside the training images nearest to them (PNG)",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
)
@_classifier(
    "--calibration",
    help="Accuracy and ECE on the test images, and FILE the reliability diagram",
    type=DIAGRAM,
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
)
@_classifier(
    "--ood",
    help="AUROC of the test images against another data set, folder or .npz; repeatable",
    metavar="DATASET|FOLDER",
    multiple=True,
)
@options_of(SamplerSettings)
@foreign_options(dataset=False)
@batch_size(None, "by features")
@device
@output_options
def command(
    source: str | None,
    calibration: str | None,
    ood: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Score images, or with --calibration and --ood the classifier itself.

    The images are drawn from a RUN, in equal numbers for each class, or read from a FOLDER of
    PNGs or an .npz. The protocol is printed with the numbers, for they mean nothing without
    it. Inception knows photographs: for digits name a classifier of yours with --features.
    Without a RUN, the latest finished one is meant that does not give the features.

    \b
    Examples:
      jeat score -n 50000
      jeat score runs/jeat --features runs/standard --neighbours nearest.png
      jeat score images/ --dataset cifar10 --reference test
      jeat score runs/jeat --calibration reliability.png --ood svhn --ood textures/
      jeat score runs/jeat --features theirs.pt --arch cifar-resnet-20 --dataset cifar10
    """
    terminal = ui.open_terminal(quiet, verbose)
    if calibration is not None or ood:
        diagram = Path(calibration) if calibration else None
        if diagram:
            check_output(diagram, RELIABILITY, "--calibration")
        found = _classifier_scores(source, calibration is not None, ood, terminal, settings)
        if found.calibration and diagram:
            from ..plots.reliability import save_diagram

            save_diagram(found.calibration, diagram, found.run)
        figures = output.plain(found) | {"diagram": diagram}
        output.emit(figures, as_json, lambda: classifier_report(found, diagram))
        return
    from ..scoring.image_scores import image_scores

    result = image_scores(source, reporter=terminal, **settings)
    output.emit(result, as_json, lambda: score_report(result))


def _classifier_scores(
    run: str | None,
    calibrated: bool,
    ood: tuple[str, ...],
    terminal: ui.Terminal,
    settings: dict[str, Any],
) -> ClassifierScores:
    """Score the classifier, after refusing what only the scores of images know.

    Raises:
        UsageProblem: Naming such an option.
    """
    ctx = click.get_current_context()
    said = [name for name in settings if ctx.get_parameter_source(name) not in _UNSAID]
    if strange := [name for name in said if name not in _OF_CLASSIFIER]:
        raise UsageProblem(
            f"`--{strange[0].replace('_', '-')}` is for the scores of images, and `--calibration` "
            "and `--ood` score the classifier",
            "run `jeat score` twice, once for each",
        )
    foreign, dataset = settings["foreign"], settings["dataset"]
    if dataset is not None:
        foreign = replace(foreign or Foreign(), dataset=dataset)
    from ..scoring.classifier_scores import classifier_scores

    return classifier_scores(
        run,
        calibrated=calibrated,
        ood=ood,
        foreign=foreign,
        reporter=terminal,
        **{name: settings[name] for name in ("num", "data_dir", "batch_size", "device")},
    )
