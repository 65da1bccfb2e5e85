"""`jeat train`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ..checkpoints.naming import LIBRARIES
from ..checkpoints.runs import MODEL_FILE, place
from ..core.models import ARCHITECTURES
from ..core.options import ChainOptions, InnerAttackOptions, LossOptions, OutlierOptions
from ..errors import UsageProblem
from ..methods import METHODS
from ..runtime.interrupts import answered_by, interrupt
from ..runtime.plain import plain
from ..runtime.quick_start import import_torch
from ..settings import Settings, declared
from ..training import presets
from ..training.resolve import check_network, resolve, to_toml
from ..training.settings import (
    DATA,
    MACHINE,
    METHOD,
    MODEL,
    OPTIMISATION,
    OUTPUT,
    TrainCall,
    TrainConfig,
)
from . import output
from . import terminal as ui
from .command import Command
from .config_layers import FLAGS, held_out, layer_options, method_settings
from .from_settings import options_of, take
from .options import F, combine, output_options, source_of
from .record import keep
from .types import datasets

# Networks that take a CPU months, and are a default.
_FOR_GPUS = ("wrn-28-10",)


def _under(heading: str, settings: type[Settings] = TrainConfig) -> Callable[[F], F]:
    """Take the settings under a heading."""
    known = declared(settings).items()
    return options_of(
        settings, only=[name for name, (about, _) in known if about.section == heading]
    )


train_options = combine(
    _under(METHOD),
    layer_options,
    _under(MODEL),
    _under(DATA),
    options_of(OutlierOptions, only=FLAGS),
    _under(DATA, TrainCall),
    *(options_of(part, only=FLAGS) for part in (InnerAttackOptions, ChainOptions)),
    _under(OPTIMISATION),
    options_of(LossOptions, only=FLAGS),
    _under(OPTIMISATION, TrainCall),
    _under(MACHINE),
    _under(MACHINE, TrainCall),
    _under(OUTPUT, TrainCall),
    _under(OUTPUT),
    output_options,
)


@click.command(
    "train",
    cls=Command,
    lists={
        "Methods": METHODS.summaries,
        "Presets": presets.PRESETS.summaries,
        "Data sets": datasets,
        "Architectures": lambda: ARCHITECTURES.summaries() | LIBRARIES,
    },
)
@train_options
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Train a classifier and print the path of its run.

    Run the same command again to resume a run that was stopped. Every setting has a default
    that suits the data set, the network and the method.

    \b
    Examples:
      jeat train --method jeat --dataset digits
      jeat train --method at --arch resnet-18 --eps 8/255 --epochs 30 -o at-resnet
      jeat train --method jeat --arch small --budget 30m
      jeat train --method jeat -O positive=clean -O lambda=0.5 --dry-run
      jeat train --preset rice2020 --epochs 30 -o rice-short
      jeat train -c runs/jeat/config.toml --seed 1 -o runs/jeat-seed-1
    """
    terminal = ui.Terminal(quiet, verbose)
    call = take(TrainCall, given)
    if call.dry_run and as_json:
        raise UsageProblem("`--dry-run` prints TOML, not JSON", "leave `--json` out")
    settings = {name: given[name] for name in declared(TrainConfig)}
    settings["val_split"] = held_out(ctx, terminal.say)
    import_torch()
    config = resolve(settings | {"options": method_settings(ctx, terminal.say)})
    _check_given(ctx, config, call)
    if call.dry_run:
        check_network(config)
        output.write(_with_sources(ctx, config) if verbose else to_toml(config).rstrip())
        return
    terminal.detail(_with_sources(ctx, config))
    _check_cpu(ctx, config, call)
    from ..training.budget import fit_to_budget
    from ..training.log import accuracy_text
    from ..training.trackers import CURVES
    from ..training.train import train

    where: dict[str, Any] = {"data_dir": call.data_dir, "device": call.device, "reporter": terminal}
    if call.budget:
        config = fit_to_budget(config, call.budget, call.out, **where)
    how: dict[str, Any] = {"force": call.force, "profile": call.profile}
    with stop_on_signal(terminal) as should_stop:
        result = train(config, call.out, should_stop=should_stop, **how, **where)
    if accuracy := accuracy_text(result.metrics):
        few = " on at most 500 images" if accuracy.startswith("test") else ""
        terminal.say(f"{accuracy} (PGD-10{few})")
    path = Path(result.run)
    values = plain(result) | {"run": path.name, "path": str(path / MODEL_FILE)}
    curves = path / CURVES if (path / CURVES).is_file() else None
    if curves:
        terminal.say(f"curves in `{curves}`")
    document = output.document("train", values | output.written(run=path, curves=curves))
    try:
        output.emit(document, as_json, lambda: result.run)
    finally:
        if not result.already_done:
            keep(path / MODEL_FILE, [values | output.written(curves=curves)], terminal)
    terminal.hint(ui.next_command("attack", result.run))


def _with_sources(ctx: click.Context, config: TrainConfig) -> str:
    """Return the settings as TOML, with a comment on each that was given."""
    pairs = dict(ctx.params["option"])
    lines = []
    for line in to_toml(config).splitlines():
        key = line.partition(" = ")[0]
        source = source_of(ctx, "option" if key in pairs else key)
        lines.append(f"{line}  # {source}" if source else line)
    return "\n".join(lines)


def _check_given(ctx: click.Context, config: TrainConfig, call: TrainCall) -> None:
    """Refuse options that would change nothing beside the others."""
    for name in ("epochs", "max_steps"):
        # A recipe has a length, which is what the budget is to replace.
        if call.budget and source_of(ctx, name) not in (None, "file"):
            option = name.replace("_", "-")
            raise UsageProblem(
                f"`--budget` and `--{option}` exclude each other", "leave one of the two out"
            )
    for name in ("milestones", "lr_decay"):
        # Every file of settings has them.
        if source_of(ctx, name) not in (None, "file") and config.schedule != "multi-step":
            option = name.replace("_", "-")
            raise UsageProblem(
                f"`--{option}` is for `--schedule multi-step`, and this one is `{config.schedule}`",
                "leave it out, or choose that schedule",
            )


def _check_cpu(ctx: click.Context, config: TrainConfig, call: TrainCall) -> None:
    """Refuse to begin what was not asked for by name and no CPU will finish."""
    if config.arch not in _FOR_GPUS or source_of(ctx, "arch") or source_of(ctx, "preset"):
        return
    from ..runtime import devices
    from ..training.run_dir import run_name

    if devices.pick(call.device).type == "cpu" and not place(call.out or run_name(config)).exists():
        raise UsageProblem(
            f"`{config.arch}`, the default for `{config.dataset}`, would take months on a CPU",
            "choose `--dataset digits` (under two minutes), `--arch small --budget 30m`, or "
            f"`--arch {config.arch}` to train it anyway",
        )


@contextmanager
def stop_on_signal(terminal: ui.Terminal) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a wish to stop, the next into an interrupt."""
    wished = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal wished
        if wished:
            interrupt(number, frame)
        wished = True
        terminal.say("stopping and saving; press again to stop without saving")

    with answered_by(ask):
        yield lambda: wished
