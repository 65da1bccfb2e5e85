"""`jeat attack`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..checkpoints.runs import told_apart
from ..errors import BelowGate, Interrupted, JeatError, UsageProblem
from ..robustness.attacks import summaries
from ..robustness.settings import AttackSettings
from ..runtime import launch
from ..runtime.files import ATTACK_IMAGES, ATTACK_PLOT, ATTACK_RECORD, cache_dir, check_output
from . import output
from . import terminal as ui
from .attack_report import as_json_object, report
from .from_settings import foreign_options, options_of, settings_from
from .options import Command, option, output_options
from .record import keep
from .types import RUN, SHARE

if TYPE_CHECKING:
    from ..robustness.compare import Comparison, Subject

_FILE = click.Path(dir_okay=False, path_type=Path)
_MACHINE = ("batch_size", "device", "compiled")


@click.command("attack", cls=Command, lists={"Attacks": summaries})
@click.argument("runs", nargs=-1, type=RUN, metavar="[RUN]...")
@options_of(AttackSettings, without=(*_MACHINE, "images_to"))
@foreign_options()
@options_of(AttackSettings, only=_MACHINE)
@option(
    "Output",
    "--fail-under",
    help="Exit with code 4 if the robust accuracy is below this, such as 0.45",
    type=SHARE,
    metavar="SHARE",
)
@option(
    "Output",
    "-o",
    "--out",
    help="Where the result goes, with a verdict for each image",
    type=_FILE,
    metavar="FILE.json",
    shown="attack.json of the run",
)
@options_of(AttackSettings, only=("images_to",))
@option(
    "Output",
    "--plot",
    help="Draw the accuracy over eps: .png, .svg or .pdf",
    type=_FILE,
    metavar="FILE",
)
@output_options
def command(
    runs: Sequence[str],
    norm: Sequence[str],
    eps: Sequence[float],
    fail_under: float | None,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    foreign: Any,
    **given: Any,
) -> None:
    """Measure clean and robust accuracy of a RUN on test images.

    An image counts as robust if it is classified correctly under every attack and restart.
    The threat model is the one that the run was trained for. The same command resumes an attack
    that was interrupted. Several RUNs are compared, and several --eps make a curve.

    \b
    Examples:
      jeat attack
      jeat attack --attack autoattack -n 500
      jeat attack runs/jeat --attack fgsm --attack pgd --steps 50 --restarts 5
      jeat attack runs/at runs/jeat --eps 4/255 --eps 8/255 --plot curve.png
      jeat attack runs/jeat --fail-under 0.45 --json
      jeat attack runs/jeat --norm linf --norm l2 --norm l1 --attack apgd-ce
      jeat attack runs/jeat --purify 10 -n 100
      jeat attack runs/noise --certify --eps 0.25 --eps 0.5 -n 100
      jeat attack runs/jeat --minimum-norm --norm l2 --plot curve.png
      jeat attack theirs.pt --arch resnet-18-v1 --dataset cifar10
      jeat attack theirs.pt --arch net.py:make --dataset cifar10 --mean 0 --std 1
    """
    terminal = ui.open_terminal(quiet, verbose)
    settings = settings_from(AttackSettings, given)
    from ..checkpoints.runs import is_foreign, resolve

    paths = [resolve(run) for run in runs] or [resolve(reporter=terminal)]
    radii = max(len(norm), len(eps), 1)
    _check_outputs(len(paths), radii, out, settings.images_to, plot)
    _check_curve(plot, norm, settings)
    kind = "-union" if len(norm) > 1 else "-curve" if len(eps) > 1 else ""
    subjects = [_subject(path, out, kind, terminal) for path in paths]
    found = _attack(subjects, norm, eps, settings, foreign, terminal)
    each = [subject for subject in subjects for _ in range(radii)]
    names = told_apart([result.run for result in found.results], [one.path for one in each])
    failure, picture = found.unwritten, None
    if plot is not None and launch.first():
        picture, failure = _drawn(found, names, plot, radii, failure)
    outputs = {"images": settings.images_to, "plot": picture}
    document = as_json_object(found, each, outputs)
    output.emit(document, as_json, lambda: report(found, names, picture))
    objects = document.get("results", [document])
    for first in range(0, len(each), radii):
        keep(each[first].path, objects[first : first + radii], terminal)
    if failure is not None:
        raise failure
    _check_gate(min([*found.unions, *(result.robust for result in found.results)]), fail_under)
    if not is_foreign(paths[0]):
        terminal.hint(ui.next_command("sample", runs[0] if runs else None))


def _attack(
    subjects: Sequence[Subject],
    norms: Sequence[str],
    eps: Sequence[float],
    settings: AttackSettings,
    foreign: Any,
    terminal: ui.Terminal,
) -> Comparison:
    from ..robustness.compare import attack_each

    try:
        radii = tuple(eps) or (None,)
        return attack_each(
            subjects, radii, settings, norms=norms, foreign=foreign, reporter=terminal
        )
    except KeyboardInterrupt:
        raise Interrupted(
            "the attack was stopped; what it had finished is saved", "the same command resumes it"
        ) from None


def _check_gate(lowest: float, fail_under: float | None) -> None:
    if fail_under is not None and lowest < fail_under:
        missed = BelowGate(f"robust accuracy {lowest:.4f} is below {fail_under:g}")
        missed.reported = not launch.first()
        raise missed


def _drawn(
    found: Comparison, names: Sequence[str], plot: Path, radii: int, failure: JeatError | None
) -> tuple[Path | None, JeatError | None]:
    """Draw the curve; where that fails, the results are shown all the same."""
    from ..plots.robust_accuracy import plot as draw

    try:
        return draw(found.results, names, plot, radii), failure
    except JeatError as problem:
        return None, failure or problem


def _subject(path: Path, out: Path | None, kind: str, terminal: ui.Terminal) -> Subject:
    """Say where the results of a model go: into its run, if it is one that may be written."""
    from ..checkpoints.runs import MODEL_FILE, is_foreign
    from ..robustness.compare import Subject

    run, ours = path.parent, cache_dir() / "attacks"
    if is_foreign(path) or not (run / MODEL_FILE).is_file():
        return Subject(path, out, progress=ours)
    if not os.access(run, os.W_OK):
        if out is None:
            terminal.warn(f"no permission to write in `{run}`: the result is only printed")
        return Subject(path, out, progress=ours)
    which = "" if path.name == MODEL_FILE else f"-{path.stem}"
    usual = run / f"attack{which}{kind}.json"
    return Subject(path, out or usual, None if out else run / "attacks", run)


def _check_curve(plot: Path | None, norms: Sequence[str], settings: AttackSettings) -> None:
    if plot is not None and len(norms) > 1 and not settings.minimum_norm:
        raise UsageProblem(
            "`--plot` draws the accuracy over the radius of one norm", "give one `--norm`"
        )


def _check_outputs(
    runs: int, radii: int, out: Path | None, images_to: Path | None, plot: Path | None
) -> None:
    """Refuse outputs that may not be written, or one file for several results.

    Raises:
        UsageProblem: If there would be more than one of an output.
    """
    if out is not None and runs > 1:
        raise UsageProblem("`--out` is for one RUN", "each run gets its own `attack.json` anyway")
    if images_to is not None and runs * radii > 1:
        raise UsageProblem("`--save` is for one RUN and one `--eps`", "call it once for each")
    outputs = (
        (out, ATTACK_RECORD, "-o"),
        (images_to, ATTACK_IMAGES, "--save"),
        (plot, ATTACK_PLOT, "--plot"),
    )
    for file, product, name in outputs:
        if file is not None:
            check_output(file, product, name)
