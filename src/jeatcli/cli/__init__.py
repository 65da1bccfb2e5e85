"""The terminal: what is typed and printed. A command parses, calls one function, reports.

The only room with click and rich. May import every room; torch only inside functions, so that
`--help` and completion are quick: the group imports a command when it is asked for.
"""

import errno
import importlib
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ..errors import JeatWarning, UsageProblem, unknown
from ..runtime import interrupts, launch, spokesman, streams

# The first lines of the commands' docstrings, so that `jeat --help` need not import them.
COMMANDS = {
    "train": "Train a classifier and print the path of its run.",
    "attack": "Measure clean and robust accuracy of a RUN on test images.",
    "sample": "Draw images from a RUN and print the path of the file.",
    "landscape": "Draw and measure the energy around test images, for one RUN or several.",
    "score": "Score images, or with --calibration, --corruptions and --ood the classifier itself.",
}
F = TypeVar("F", bound=Callable[..., Any])
# By what `--runs` can be sorted.
SORTS = {
    "date": "date",
    "name": "run",
    "method": "method",
    "epochs": "epoch",
    "clean": "clean",
    "robust": "robust",
    "fd": "frechet_distance",
    "size": "bytes",
}
# What is asked for as if it were a command, and the option for it.
_ASKED = {"runs": "runs", "list": "runs", "ls": "runs", "info": "info", "version": "version"}
# Variables of the environment for all commands, after `JEAT_`.
_VARIABLES = ("RUNS_DIR", "DATA_DIR", "CACHE_DIR", "DEVICE", "PLUGINS", "DEBUG")


class LazyGroup(click.Group):
    """A group that imports the file of a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f".{cmd_name}", __name__).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one; `help` is another way to ask for help."""
        if args[0] == "help" and not ctx.resilient_parsing:
            if not args[1:]:
                click.echo(ctx.get_help())
                ctx.exit()
            args = [args[1], "--help"]
        if args[0] in _ASKED:
            hint = f"did you mean `jeat --{_ASKED[args[0]]}`?"
            raise UsageProblem(f"unknown command `{args[0]}`", hint)
        if args[0] not in COMMANDS and ctx.params.get("runs") == "":
            known = f"to list some runs, write `jeat --runs {shlex.quote(args[0])}`"
            raise UsageProblem(f"unknown command `{args[0]}`", f"{known}, its PATTERN first")
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise unknown("command", args[0], [*COMMANDS, "help"])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what `jeat` is and its commands first, the small print below them."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)
        self.format_epilog(ctx, formatter)

    def main(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> Any:
        """Run the command; that of this process has no other use for Ctrl-C than to end it."""
        if args is None:
            streams.open_closed()
            interrupts.end_at_once()
        return super().main(args, *more, **settings)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options of the group; `--help` and `--version` print here already."""
        with _in_words():
            if not kwargs.get("resilient_parsing"):
                _check_variables()
            if os.environ.get("JEAT_PLUGINS"):
                from .plugins import load_plugins

                load_plugins()
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Errors are put into words here and not around `main`, so that a test runner sees it too.
        """
        # No figure is shown, so no other backend is needed: not that of a notebook, whose cells
        # pass it on to commands, nor one that is not installed here.
        os.environ["MPLBACKEND"] = "agg"
        with _in_words(), warnings.catch_warnings():
            warnings.simplefilter("ignore", JeatWarning)
            return super().invoke(ctx)


@contextmanager
def _in_words() -> Iterator[None]:
    """Say what goes wrong in words, and exit with the code that belongs to it."""
    with interrupts.answered_by():
        try:
            yield
        except click.ClickException as problem:
            # One process says it on each machine, as a file may be missing on one of them alone.
            if launch.local_number():
                spokesman.wait_for_first()
                raise click.exceptions.Exit(problem.exit_code) from None
            with interrupts.unheard():
                from .failures import show

                code = show(problem)
            raise click.exceptions.Exit(code) from None
        except (click.Abort, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt) as problem:
            if isinstance(problem, OSError) and problem.errno == errno.EPIPE:
                raise  # the reader of our pipe has gone: click ends silently
            with interrupts.unheard():
                from .failures import report

                code = report(problem)
            raise click.exceptions.Exit(code) from None


def _check_variables() -> None:
    """Refuse what looks like a misspelt variable; those of a command are its own to check."""
    commands = tuple(f"{name.upper()}_" for name in COMMANDS)
    for name in os.environ:
        ending = name.removeprefix("JEAT_")
        if name == ending or ending in _VARIABLES or ending.startswith(commands):
            continue
        from .mistakes import variable

        if near := variable(ending, _VARIABLES, COMMANDS):
            raise UsageProblem(
                f"`{name}` in the environment means nothing", f"did you mean `JEAT_{near}`?"
            )


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import platform

        from .info import version

        python, torch = platform.python_version(), version("torch")
        click.echo(f"jeat {version('jeat-cli')} (Python {python}, torch {torch})")
        ctx.exit()


_EPILOG = """\
RUN is the name of a run (lr0.01), a path to its directory (with a slash), or a
.safetensors file. The default is the latest finished run or, if there are no runs,
`pretrained`, the package's own network for CIFAR-10. RUN may also be hf-hub:OWNER/NAME,
or a third-party PyTorch checkpoint, described by --arch and --dataset.

\b
Environment:
  JEAT_RUNS_DIR     where runs with a bare name are kept
  JEAT_DATA_DIR     where data sets are, or are downloaded to
  JEAT_CACHE_DIR    files that can be recreated or downloaded again
  JEAT_DEVICE       auto, cpu, cuda, cuda:N or mps
  JEAT_PLUGINS      modules that add methods, attacks or networks of your own
  JEAT_DEBUG=1      show tracebacks
  JEAT_TRAIN_EPS    --eps of `jeat train`; likewise every option
The command line overrides the environment, which overrides `-c FILE.toml`.

\b
Exit codes:
  0    done
  1    failed
  2    usage: an unknown option, name or value
  3    training diverged; the last good state is kept
  4    done, but below --fail-under
  130  interrupted, after saving

\b
Completion of options, methods, data sets and runs:
  bash  eval "$(_JEAT_COMPLETE=bash_source jeat)"
  zsh   eval "$(_JEAT_COMPLETE=zsh_source jeat)"
  fish  _JEAT_COMPLETE=fish_source jeat | source
"""


def _about(name: str, **settings: Any) -> Callable[[F], F]:
    """Declare an option of the group, which no environment variable sets."""
    return click.option(name, allow_from_autoenv=False, show_default=False, **settings)


@click.group(
    "jeat",
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    epilog=_EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "JEAT",
        "max_content_width": 100,
        "show_default": True,
    },
)
@_about(
    "--runs",
    is_flag=False,
    flag_value="",
    metavar="[PATTERN]",
    help="List the runs, or those whose name contains PATTERN or fits it ('lr*'), and exit.",
)
@_about(
    "--sort",
    type=click.Choice(list(SORTS)),
    metavar="COLUMN",
    help=f"Sort --runs by {', '.join(SORTS)}; the default is date.",
)
@_about("--info", is_flag=True, help="Show device, directories and versions, and exit.")
@_about("--json", is_flag=True, help="Print --runs and --info as one JSON object.")
@_about(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions and exit.",
)
@click.pass_context
def main(ctx: click.Context, runs: str | None, sort: str | None, info: bool, json: bool) -> None:
    """Train, attack, sample, map and score robust energy-based classifiers.

    The logits f(x) of a classifier are energies, E(x,y) = -f(x)[y]: adversarial training
    shapes them, and gradient descent on them draws images. JEAT (Zhu et al., ICCV 2021)
    trains with both in mind.

    \b
    Examples:
      jeat train --method jeat --dataset digits   no download, under two minutes
      jeat attack                                 of the latest finished run
      jeat sample --class 3 -n 64
      jeat landscape
      jeat --runs                                 all runs, and how robust
      jeat train --method jeat                    as in the paper, on a GPU
    """
    if ctx.invoked_subcommand is not None:
        if runs is not None or sort or info or json:
            raise UsageProblem(
                "`--runs`, `--sort`, `--info` and `--json` cannot be followed by a command",
                f"put the options of `jeat {ctx.invoked_subcommand}` after its name",
            )
    elif runs is not None and info:
        raise UsageProblem("`--runs` and `--info` exclude each other", "leave one of the two out")
    elif runs is not None:
        from .runs_table import show

        show(runs or None, SORTS[sort or "date"], json)
    elif info:
        from .info import show as show_info

        show_info(json)
    else:
        raise UsageProblem(
            "`--sort` and `--json` belong to `--runs` or `--info`", "add one of the two"
        )
