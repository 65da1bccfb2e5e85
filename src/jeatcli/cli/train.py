"""`jeat train`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ..core.models import ARCHITECTURES
from ..core.options import AttackOptions, ChainOptions, LossOptions
from ..methods import METHODS
from ..runtime import launch
from ..settings import declared
from ..training import presets
from ..training.resolve import resolve, to_toml
from ..training.settings import (
    DATA,
    MACHINE,
    METHOD,
    MODEL,
    OPTIMISATION,
    OUTPUT,
    TrainConfig,
)
from . import output
from . import terminal as ui
from .config_layers import FLAGS, layer_options, method_settings
from .from_settings import options_of
from .options import Command, F, combine, data_dir, device, option, output_options
from .types import datasets

# Seconds within which a signal comes again that was sent once.
_ECHO = 5.0


def _of(*sections: str) -> Callable[[F], F]:
    """Take the settings under these headings."""
    settings = declared(TrainConfig).items()
    return options_of(
        TrainConfig, only=[name for name, (about, _) in settings if about.section in sections]
    )


train_options = combine(
    _of(METHOD),
    layer_options,
    _of(MODEL),
    _of(DATA),
    data_dir,
    *(options_of(part, only=FLAGS) for part in (AttackOptions, ChainOptions)),
    _of(OPTIMISATION),
    options_of(LossOptions, only=FLAGS),
    _of(MACHINE),
    device,
    option(
        MACHINE,
        "--profile",
        help="Profile a few steps: print a table, and write a trace into the run",
        is_flag=True,
    ),
    option(
        OUTPUT,
        "-o",
        "--out",
        help="The run: a name, or a path with a slash",
        type=str,
        metavar="RUN",
        shown="DATASET-METHOD-ARCH",
    ),
    option(OUTPUT, "--force", help="Start over; an old run is kept as NAME~1", is_flag=True),
    option(OUTPUT, "--dry-run", help="Print the resolved settings as TOML and exit", is_flag=True),
    _of(OUTPUT),
    output_options,
)


@click.command(
    "train",
    cls=Command,
    lists={
        "Methods": METHODS.summaries,
        "Presets": presets.summaries,
        "Data sets": datasets,
        "Architectures": ARCHITECTURES.summaries,
    },
)
@train_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: str | None,
    force: bool,
    profile: bool,
    dry_run: bool,
    data_dir: Path | None,
    device: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> None:
    """Train a classifier and print the path of its run.

    A run that was stopped goes on where it was; one that is done says so. Every setting has
    a default that suits the data set, the network and the method.

    \b
    Examples:
      jeat train --method jeat --dataset digits
      jeat train --method at --arch resnet-18 --eps 8/255 --epochs 30 -o at-resnet
      jeat train --method jeat -O positive=clean -O lambda=0.5 --dry-run
      jeat train --preset rice2020 --epochs 30 -o rice-short
      jeat train -c runs/jeat/config.toml --seed 1 -o runs/jeat-seed-1
    """
    terminal = ui.open_terminal(quiet, verbose)
    settings = {name: given[name] for name in declared(TrainConfig)}
    config = resolve(settings | {"options": method_settings(ctx, terminal.say)})
    if dry_run:
        output.write(to_toml(config).removesuffix("\n"))
        return
    if verbose:
        terminal.say(to_toml(config).rstrip())
    from ..training.train import train

    with stop_on_signal(terminal) as should_stop:
        result = train(
            config,
            out,
            data_dir=data_dir,
            device=device,
            force=force,
            profile=profile,
            should_stop=should_stop,
            reporter=terminal,
        )
    output.emit(result, as_json, lambda: result.run)
    terminal.hint(ui.next_command("attack", result.run))


@contextmanager
def stop_on_signal(terminal: ui.Terminal) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop, the second into KeyboardInterrupt.

    One of several processes gets each signal twice, from the terminal or the scheduler and from
    `torchrun`, which hands it on: what follows the first at once is no second wish.
    """
    first: float | None = None

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now
            terminal.say("stopping after this step, saving; again to stop at once")
        elif not launch.several() or now - first > _ECHO:
            raise KeyboardInterrupt

    kinds = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(kind, ask) for kind in kinds]
    try:
        yield lambda: first is not None
    finally:
        for kind, handler in zip(kinds, former, strict=True):
            signal.signal(kind, handler)
