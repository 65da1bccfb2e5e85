"""`jeat attack`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..checkpoints.naming import told_apart
from ..errors import Interrupted, JeatError, UsageProblem
from ..robustness.attacks import summaries
from ..runtime import launch
from ..runtime.files import (
    ATTACK_IMAGES,
    ATTACK_PLOT,
    ATTACK_RECORD,
    cache_dir,
    check_output,
)
from . import output
from . import terminal as ui
from .attack_report import as_json_knows_it, report
from .from_settings import foreign_options
from .options import Command, batch_size, compiled, data_dir, device, option, output_options, seed
from .types import ATTACK, COUNT, FRACTION, NORM, OBJECTIVES, POSITIVE, RUN, SHARE

if TYPE_CHECKING:
    from ..robustness.compare import Subject

_attack = partial(option, "Attack")
_data = partial(option, "Data")
_output = partial(option, "Output")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("attack", cls=Command, lists={"Attacks": summaries})
@click.argument("runs", nargs=-1, type=RUN, metavar="[RUN]...")
@_attack(
    "--attack",
    "attacks",
    help="Attack, listed below; repeatable, the worst of all counts",
    type=ATTACK,
    metavar="ATTACK",
    multiple=True,
    default=("pgd",),
)
@_attack(
    "--objective",
    help="What pgd and fgsm raise: ce, joint E(x,y), marginal E(x), margin, dlr or kl",
    type=click.Choice(OBJECTIVES),
    metavar="OBJECTIVE",
    shown="ce",
)
@_attack("--norm", help="Norm of the ball around an image", type=NORM, shown="the run's")
@_attack(
    "--eps",
    help="Radius of the ball in the [0, 1] pixel scale: 8/255 or 0.03; repeatable, for a curve",
    type=FRACTION,
    metavar="FRACTION",
    multiple=True,
    shown="the run's, else by data set",
)
@_attack("--steps", help="Gradient steps", type=COUNT, metavar="N", shown="by attack")
@_attack(
    "--step-size",
    help="Length of a step of pgd and cw in the [0, 1] pixel scale",
    type=POSITIVE,
    metavar="FRACTION",
    shown="2.5 eps / steps",
)
@_attack(
    "--restarts",
    help="Random starts; the worst for each image counts",
    type=COUNT,
    metavar="N",
    shown="1",
)
@_attack("--queries", help="Queries of square", type=COUNT, metavar="N", shown="5000")
@_attack(
    "--target",
    help="Drive every image to this class, by name or index",
    metavar="CLASS",
    shown="untargeted",
)
@_attack(
    "--transfer-from",
    help="Let the attacks see this RUN, and try on the other what they find",
    type=RUN,
    metavar="RUN",
)
@_attack(
    "--exact",
    is_flag=True,
    help="Search in float32 even where the processor has bfloat16",
)
@seed("Attack")
@_data(
    "-n",
    "--num",
    help="Use the first N test images",
    type=COUNT,
    metavar="N",
    shown="all, 1,000 on a CPU",
)
@_data("--indices", help="Use the test images whose numbers are in this file", type=_FILE)
@_data("--class", "only", help="Use the images of this class, by name or index", metavar="CLASS")
@data_dir
@foreign_options()
@batch_size(None, shown="256, on CUDA by its memory")
@device
@compiled
@_output(
    "--fail-under",
    help="Exit with 1 if the robust accuracy is below this, such as 0.45",
    type=SHARE,
    metavar="SHARE",
)
@_output(
    "-o",
    "--out",
    help="Where the result goes, with a verdict for each image",
    type=_FILE,
    metavar="FILE.json",
    shown="attack.json of the run",
)
@_output(
    "--save",
    "images_to",
    help="Write the attacked images, labels and verdicts",
    type=_FILE,
    metavar="FILE.safetensors",
)
@_output(
    "--plot",
    help="Draw the accuracy over eps: .png, .svg or .pdf",
    type=_FILE,
    metavar="FILE",
)
@output_options
def command(
    runs: Sequence[str],
    eps: Sequence[float],
    fail_under: float | None,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Measure clean and robust accuracy of a RUN on test images.

    An image counts as robust if it is classified correctly under every attack and restart.
    The threat model is the one that the run was trained for. An attack that was interrupted
    goes on where it was when the same command is given again. Several RUNs are compared, and
    several --eps make a curve.

    \b
    Examples:
      jeat attack
      jeat attack --attack autoattack -n 500
      jeat attack runs/jeat --attack fgsm --attack pgd --steps 50 --restarts 5
      jeat attack runs/jeat --norm l2 --eps 0.5 -n 1000
      jeat attack runs/at runs/jeat --eps 2/255 --eps 4/255 --eps 8/255 --plot curve.png
      jeat attack runs/jeat --fail-under 0.45 --json
      jeat attack theirs.pt --arch resnet-18-v1 --dataset cifar10
    """
    terminal = ui.open_terminal(quiet, verbose)
    from ..checkpoints.runs import is_foreign, resolve

    paths = [resolve(run) for run in runs] or [resolve(None)]
    _fit_together(len(paths), len(eps) or 1, out, settings["images_to"])
    subjects = [_subject(path, out, len(eps) > 1) for path in paths]
    outputs = (
        (out, ATTACK_RECORD, "-o"),
        (settings["images_to"], ATTACK_IMAGES, "--save"),
        (plot, ATTACK_PLOT, "--plot"),
    )
    for file, product, name in outputs:
        if file is not None:
            check_output(file, product, name)
    from ..plots.robust_accuracy import plot as draw
    from ..robustness.compare import attack_each

    try:
        results = attack_each(subjects, tuple(eps) or (None,), reporter=terminal, **settings)
    except KeyboardInterrupt:
        raise Interrupted(
            "the attack is stopped, its progress saved", "the same command goes on from there"
        ) from None
    files = [subject.path for subject in subjects for _ in eps or (None,)]
    names = told_apart([result.run for result in results], files)
    picture = None
    if plot is not None and launch.first():
        picture = draw(results, names, plot, len(eps) or 1)
    records = [subject.record for subject in subjects]
    output.emit(
        as_json_knows_it(results, records, picture),
        as_json,
        lambda: report(results, names, picture),
    )
    lowest = min(result.robust for result in results)
    if fail_under is not None and lowest < fail_under:
        failed = JeatError(f"robust accuracy {lowest:.4f} is below {fail_under:g}")
        failed.reported = not launch.first()
        raise failed
    if not is_foreign(paths[0]):
        terminal.hint(ui.next_command("sample", runs[0] if runs else None))


def _subject(path: Path, out: Path | None, curve: bool) -> Subject:
    """Say where what is found of a model belongs: into its run, if it is one."""
    from ..checkpoints.runs import MODEL_FILE, is_foreign
    from ..robustness.compare import Subject

    run, ours = path.parent, cache_dir() / "attacks"
    if is_foreign(path) or not (run / MODEL_FILE).is_file():
        return Subject(path, out, progress=ours)
    which = "" if path.name == MODEL_FILE else f"-{path.stem}"
    usual = run / f"attack{which}{'-curve' if curve else ''}.json"
    progress = run if os.access(run, os.W_OK) else ours
    return Subject(path, out or usual, None if out else run / "attacks", progress)


def _fit_together(runs: int, radii: int, out: Path | None, images_to: Path | None) -> None:
    """Refuse one file for what is several.

    Raises:
        UsageProblem: If an output is asked for that there would be more than one of.
    """
    if out is not None and runs > 1:
        raise UsageProblem("`--out` is for one RUN", "each run gets its own `attack.json` anyway")
    if images_to is not None and runs * radii > 1:
        raise UsageProblem("`--save` is for one RUN and one `--eps`", "call it once for each")
