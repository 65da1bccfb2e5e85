"""What goes wrong, put into words. Imported only then, as help has no use for it."""

import os
import sys
import traceback
from pathlib import Path

import click

from ..errors import Interrupted, JeatError, no_memory
from ..runtime import interrupts, spokesman
from ..runtime.files import FULL
from ..runtime.streams import last_words, let_go
from . import output


def clean(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return output.clean(text, sys.stderr)


def show(problem: click.ClickException) -> int:
    """Say an error of click's in our words, if these differ, and return the exit code."""
    message = clean(problem.format_message())
    if isinstance(problem, click.NoSuchOption):
        from .mistakes import advise

        message = clean(advise(problem))
    # No message of ours ends in a full stop; of click's, some do.
    message = message.removesuffix(".")
    if message != problem.format_message():
        problem = click.UsageError(message, getattr(problem, "ctx", None))
    with last_words():
        problem.show()
    return problem.exit_code


def report(problem: BaseException) -> int:
    """Say what went wrong, in one of the processes that meet it, and return the exit code."""
    failure = translate(problem)
    if interrupts.was_interrupted() and not isinstance(problem, JeatError):
        failure = translate(KeyboardInterrupt())  # which it follows from
    let_go(sys.stdout)
    if os.environ.get("JEAT_DEBUG", "").lower() not in ("", "0", "false", "no", "off"):
        with last_words():
            click.echo(clean("".join(traceback.format_exception(problem))), err=True, nl=False)
    if spokesman.speaks(failure):
        with last_words():
            click.echo(clean(f"Error: {failure.message}"), err=True)
            if failure.hint:
                click.echo(clean(f"Hint: {failure.hint}"), err=True)
        spokesman.told(failure)
    return failure.exit_code


def translate(problem: BaseException) -> JeatError:
    """Return an exception as an error that names the fix."""
    match problem:
        case JeatError():
            return problem
        case KeyboardInterrupt():
            return Interrupted("interrupted")
        case OSError() if problem.errno in FULL:
            where = f" to write `{problem.filename}`" if problem.filename else ""
            return JeatError(
                f"no space left on the disk{where}", "free some space and run it again"
            )
        case PermissionError():
            return JeatError(
                f"no permission to use `{problem.filename}`",
                "name a place of your own with `-o`, or fix the permissions",
            )
        case OSError() if problem.filename is not None:
            return JeatError(f"{problem.strerror or 'cannot use it'}: `{problem.filename}`")
        case _ if no_memory(problem):
            return JeatError(
                "the device is out of memory", "use a smaller `--batch-size`, or `--device cpu`"
            )
        case MemoryError():
            return JeatError("out of memory", "use a smaller `--batch-size` or fewer images")
    return _in_own_code(problem) or _of_a_library(problem) or _internal(problem)


def _of_a_library(problem: BaseException) -> JeatError | None:
    """Return what is wrong with the installation, if it is that."""
    text = str(problem)
    match problem:
        case ModuleNotFoundError(name=str(name)) if not name.startswith("jeatcli"):
            return JeatError(f"the package `{name}` is not installed", "run `pip install jeat-cli`")
        case ImportError() if ".so" in text or "DLL" in text:
            return JeatError(
                f"a library cannot be loaded: {text}",
                "allow more memory (`ulimit -v`), or install its package again",
            )
        case _ if "C++ compiler found" in text:
            return JeatError(
                "`--compile` needs a C++ compiler, and there is none",
                "install one, such as g++, or leave `--compile` out",
            )
        case _ if "torchvision::nms" in text:
            return JeatError(
                "torch and torchvision come from different builds",
                "install the two together: `pip install --force-reinstall torch torchvision`",
            )
    return None


def _internal(problem: BaseException) -> JeatError:
    line = str(problem).strip().partition("\n")[0]
    ours = ", unless it is in a module of `JEAT_PLUGINS`" if os.environ.get("JEAT_PLUGINS") else ""
    return JeatError(
        f"internal: {type(problem).__name__}{': ' if line else ''}{line}",
        f"run it again with `JEAT_DEBUG=1` to see the traceback, and report it{ours}",
    )


def _in_own_code(problem: BaseException) -> JeatError | None:
    """Name the line of the user's own code, a plugin or of `--arch`, that it was raised in."""
    names = [name.strip() for name in os.environ.get("JEAT_PLUGINS", "").split(",")]
    plugins = [Path(name).stem if name.endswith(".py") else name for name in names if name]
    own = {
        getattr(module, "__file__", None)
        for name, module in [*sys.modules.items()]
        if name in plugins or name.startswith("jeat_own_")
    }
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        if frame.filename in own:
            kind = f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}"
            return JeatError(
                f"`{Path(frame.filename).name}`, line {frame.lineno}, failed: "
                f"{kind.removesuffix(': ')}",
                "correct it; `JEAT_DEBUG=1` shows the traceback",
            )
    return None
