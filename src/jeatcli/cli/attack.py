"""`jeat attack`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import JeatError
from ..threat import Threat, fraction
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
    seed,
    threat_options,
)
from .parameters import ATTACK, COUNT, OBJECTIVES, POSITIVE, SHARE, attacks

if TYPE_CHECKING:
    from ..evaluate import Robustness

_attack = partial(option, "Attack")


@click.command("attack", cls=Command, lists={"Attacks": attacks})
@run_argument
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
    help="What the attack raises: ce, joint E(x,y), marginal E(x), margin, dlr or kl",
    type=click.Choice(OBJECTIVES),
    metavar="OBJECTIVE",
    default="ce",
)
@threat_options("Attack", "the run's", "the run's, else by data set")
@_attack("--steps", help="Gradient steps", type=COUNT, metavar="N", default=20)
@_attack(
    "--step-size",
    help="Length of a step in the [0, 1] pixel scale",
    type=POSITIVE,
    metavar="FRACTION",
    shown="2.5 eps / steps",
)
@_attack(
    "--restarts",
    help="Random starts; the worst for each image counts",
    type=COUNT,
    metavar="N",
    default=1,
)
@_attack(
    "--target",
    help="Drive every image to this class, by name or index",
    metavar="CLASS",
    shown="untargeted",
)
@seed("Attack")
@option(
    "Data",
    "-n",
    "--num",
    help="Use the first N test images",
    type=COUNT,
    metavar="N",
    shown="all, 1,000 on a CPU",
)
@data_dir
@foreign_options()
@batch_size(256)
@device
@option(
    "Output",
    "--fail-under",
    help="Exit with 1 if the robust accuracy is below this, such as 0.45",
    type=SHARE,
    metavar="SHARE",
)
@output_options
def command(
    run: str | None,
    fail_under: float | None,
    data_dir: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Measure clean and robust accuracy of a RUN on test images.

    An image counts as robust if it is classified correctly under every attack and restart.
    The threat model is the one that the run was trained for.

    \b
    Examples:
      jeat attack
      jeat attack runs/jeat --attack fgsm --attack pgd --steps 50 --restarts 5
      jeat attack runs/jeat --norm l2 --eps 0.5 -n 1000
      jeat attack runs/jeat --fail-under 0.45 --json
      jeat attack theirs.pt --arch resnet-18-v1 --dataset cifar10
    """
    terminal = ui.open_terminal(quiet, verbose)
    from ..runs import MODEL_FILE, is_foreign, resolve

    path = resolve(run)
    from ..evaluate import attack, save

    result = attack(path, data_dir=data_dir, reporter=terminal, **settings)
    ui.emit(result, as_json, lambda: report(result))
    ours = not is_foreign(path)
    if path.name == MODEL_FILE and ours:
        try:
            save(result, path.parent)
        except JeatError as problem:
            terminal.warn(problem.message)
    if fail_under is not None and result.robust < fail_under:
        raise JeatError(f"robust accuracy {result.robust:.4f} is below {fail_under:g}")
    if ours:
        terminal.hint(ui.next_command("sample", run))


def report(result: Robustness) -> str:
    """Write the accuracies as a table."""
    threat = Threat(result.norm, result.eps)
    aim = f", targeted at {result.target}" if result.target is not None else ""
    rows = [
        ("clean", ui.percent(result.clean)),
        *(
            (f"after {protocol(name, found)}", ui.percent(found["robust"]))
            for name, found in result.per_attack.items()
        ),
        ("robust", ui.percent(result.robust)),
    ]
    about = f"{threat}, {result.objective}{aim}, n = {result.n:,}, {result.seconds:.1f} s"
    return f"{ui.table(rows)}\n{about}"


def protocol(name: str, found: dict[str, Any]) -> str:
    """Name an attack as papers do: `pgd-20-1, step 1/255` has 20 steps and one start."""
    step = fraction(found["step_size"])
    return f"{name}-{found['steps']}-{found['restarts']}, step {step}"
