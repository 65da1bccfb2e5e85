"""`jeat attack`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..checkpoints.runs import MODEL_FILE, distinct_names, is_foreign, resolve
from ..errors import BelowGate, Interrupted, JeatError, UsageProblem
from ..plots.settings import PlotSettings
from ..robustness.attacks import summaries
from ..robustness.settings import AttackSettings
from ..runtime import launch
from ..runtime.files import cache_dir
from ..runtime.outputs import ATTACK_IMAGES, ATTACK_PLOT, ATTACK_RECORD, check_output, report_of
from ..runtime.quick_start import import_torch
from . import output
from . import terminal as ui
from .attack_report import as_json_object, costs, report, section
from .command import Command
from .from_settings import foreign_options, options_of, plot_settings, take
from .options import file_option, option, output_options
from .page import Page, Picture, headline, is_page
from .record import keep, tell_unkept, typed
from .types import RUN, SHARE

if TYPE_CHECKING:
    from ..robustness.compare import Comparison, Subject

_MACHINE = ("batch_size", "device", "compiled", "kernel")


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
@file_option(
    "-o",
    "--out",
    help="The result with a verdict for each image (.json), or a report with pictures (.html)",
    shown="attack.json of the run",
)
@options_of(AttackSettings, only=("images_to",))
@file_option("--plot", help="Draw the accuracy over eps: .png, .svg or .pdf")
@options_of(PlotSettings, without=("cmap",), section="Look of the curve")
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
      jeat attack runs/at runs/jeat --attack autoattack -o report.html
      jeat attack theirs.pt --arch resnet-18-v1 --dataset cifar10
      jeat attack theirs.pt --arch net.py:make --dataset cifar10 --mean 0 --std 1
    """
    terminal = ui.open_terminal(quiet, verbose)
    page, record = (out, None) if is_page(out) else (None, out)
    look = plot_settings(given, bool(plot or page), "the curve", "name its file with `--plot`")
    settings = take(AttackSettings, given)
    paths = [resolve(run) for run in runs] or [resolve(reporter=terminal)]
    radii = max(len(norm), len(eps), 1)
    files = _Files(record, page, settings.images_to, plot, look, settings.minimum_norm)
    files.check(len(paths), radii, len(norm))
    import_torch()
    subjects = [_subject(path, files.record, _kind(norm, eps), terminal) for path in paths]
    found = _attack(subjects, norm, eps, settings, foreign, terminal)
    if not launch.first():
        return  # `torchrun` ends the first process, which reports, as soon as another one fails
    each = [subject for subject in subjects for _ in range(radii)]
    there = [first for first in range(0, len(each), radii) if not each[first].moved]
    names = distinct_names([result.run for result in found.results], [one.path for one in each])
    document, failure = files.written(found, each, names, radii)
    try:
        output.emit(document, as_json, lambda: report(found, names, document.get("outputs", {})))
    finally:
        objects = document.get("results", [document])
        for first in there:
            keep(each[first].path, objects[first : first + radii], terminal)
    _check(found, failure, fail_under)
    if not is_foreign(paths[0]):
        terminal.hint(ui.next_command("sample", runs[0] if runs else None))


@dataclass(frozen=True)
class _Files:
    """What the command writes: where the record, the images, the curve and the page go."""

    record: Path | None
    page: Path | None
    images: Path | None
    plot: Path | None
    look: PlotSettings
    minimum_norm: bool

    def check(self, runs: int, radii: int, norms: int) -> None:
        """Refuse files that may not be written, and one file for several results."""
        self.look.check_dots(self.plot, self.page)
        if self.plot is not None and norms > 1 and not self.minimum_norm:
            raise UsageProblem(
                "`--plot` draws the accuracy over the radius of one norm", "give one `--norm`"
            )
        if self.record is not None and runs > 1:
            hint = "each run gets its own `attack.json` anyway; a report, `.html`, is for several"
            raise UsageProblem("`--out` is for one RUN", hint)
        if self.images is not None and runs * radii > 1:
            raise UsageProblem(
                "`--save` is for one RUN, `--norm` and `--eps`", "call it once for each"
            )
        outputs = (
            (self.record, ATTACK_RECORD, "-o"),
            (self.page, report_of("attack"), "-o"),
            (self.images, ATTACK_IMAGES, "--save"),
            (self.plot, ATTACK_PLOT, "--plot"),
        )
        for file, product, name in outputs:
            if file is not None:
                check_output(file, product, name)

    def written(
        self, found: Comparison, each: Sequence[Subject], names: Sequence[str], radii: int
    ) -> tuple[dict[str, Any], JeatError | None]:
        """Write curve and page; return what `--json` prints, and what could not be written."""
        outputs = {"images": self.images, "plot": self.plot, "report": self.page}
        failure = next(iter(found.unwritten.values()), None)
        from ..plots.robust_accuracy import plot as draw

        def curve(path: Path) -> Path:
            return draw(found.results, names, path, radii, self.look)

        try:
            if self.plot is not None:
                curve(self.plot)
        except JeatError as problem:
            failure, outputs["plot"] = failure or problem, None
        document = as_json_object(found, each, outputs)
        try:
            if self.page is not None:
                one_norm = len({result.norm for result in found.results}) == 1
                shown = [Picture.drawn(curve, "Accuracy over the radius")] if one_norm else []
                title = f"Robustness of {headline(names)}"
                sections = [section(found.results, names, found.unions), *costs(found, names)]
                Page(title, typed(each[0].path), document, sections, shown).write(self.page)
        except JeatError as problem:
            failure = failure or problem
            del document["outputs"]["report"]
        return document, failure


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


def _check(found: Comparison, failure: JeatError | None, fail_under: float | None) -> None:
    """Fail, once the result is shown, for what could not be written or is below the gate."""
    if failure is not None:
        raise failure
    lowest = min([*found.unions, *(result.robust for result in found.results)])
    if fail_under is not None and lowest < fail_under:
        raise BelowGate(f"robust accuracy {lowest:.4f} is below {fail_under:g}")


def _kind(norms: Sequence[str], eps: Sequence[float]) -> str:
    """Return what the name of a record says of several threats."""
    return "-union" if len(norms) > 1 else "-curve" if len(eps) > 1 else ""


def _subject(path: Path, out: Path | None, kind: str, terminal: ui.Terminal) -> Subject:
    """Say where the results of a model go: into its run, if it is one that may be written."""
    from ..robustness.compare import Subject

    run = path.parent
    ours = not is_foreign(path) and (run / MODEL_FILE).is_file()
    writable = os.access(run, os.W_OK)
    tell_unkept(path, terminal)
    if not (ours and writable):
        return Subject(path, out, progress=cache_dir() / "attacks")
    which = "" if path.name == MODEL_FILE else f"-{path.stem}"
    usual = run / f"attack{which}{kind}.json"
    return Subject(path, out or usual, None if out else run / "attacks", run)
