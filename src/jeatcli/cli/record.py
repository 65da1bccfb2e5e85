"""What a command found, kept in the directory of its run."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..checkpoints.results import add_results, is_of_run
from ..checkpoints.runs import CONFIG_FILE
from ..errors import JeatError
from ..runtime import launch
from ..runtime.plain import plain
from .card import write_card
from .command import ARGUMENTS
from .terminal import BEGAN, Terminal, next_command

# The name of RUN in the commands.
_RUN = ("run", "runs", "source")
# Options that change what is said, not what is found.
_SAYING = ("--json", "-q", "--quiet", "-v", "--verbose")


def keep(model: Path, results: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    """Keep what the running command found of a model, if that is a run's that may be written."""
    if not (launch.first() and is_of_run(model) and os.access(model.parent, os.W_OK)):
        return
    ctx = click.get_current_context()
    verb = str(ctx.info_name)
    began, config = ctx.meta.get(BEGAN), model.parent / CONFIG_FILE
    if began is not None and config.is_file() and config.stat().st_mtime > began:
        terminal.warn(
            f"`{model.parent}` was started over meanwhile: the result is of the weights before, "
            "and only printed"
        )
        return
    try:
        add_results(model, verb, plain(results), typed(model))
        write_card(model.parent)
    except JeatError as problem:
        terminal.warn(f"{problem.message}; the result is only printed")


def tell_unkept(model: Path, terminal: Terminal) -> None:
    """Warn, before the result is shown, that the model's run cannot keep it."""
    if is_of_run(model) and not os.access(model.parent, os.W_OK):
        terminal.warn(
            f"no permission to write in `{model.parent}`: the result is not kept with the run"
        )


def typed(model: Path) -> str:
    """Return the running command as it is typed, with the run where none was named."""
    ctx = click.get_current_context()
    verb = str(ctx.info_name)
    unnamed = verb != "train" and not any(ctx.params.get(name) for name in _RUN)
    run = model.parent if is_of_run(model) else model
    begin = next_command(verb, str(run) if unnamed else None)
    words = [word for word in ctx.meta.get(ARGUMENTS, ()) if word not in _SAYING]
    return " ".join([begin, *map(shlex.quote, words)])
