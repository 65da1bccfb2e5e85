"""The commands: a help that groups the options, processes that work together, errors explained."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import NoSuchRun, UsageProblem, nearest
from ..runtime import launch
from ..runtime.quick_start import import_torch
from .options import variables

# For each heading a function that returns names and their summaries.
Lists = Mapping[str, Callable[[], dict[str, str]]]
_WIDEST = 28
# Where the context has the arguments as they were typed.
ARGUMENTS = "jeatcli.arguments"


class Formatter(click.HelpFormatter):
    """A help that breaks no line at a hyphen, which is a part of names, options and commands."""

    _WHOLE = "\N{NON-BREAKING HYPHEN}"

    def write(self, string: str) -> None:
        super().write(string.replace(self._WHOLE, "-"))

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", self._WHOLE))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        whole = [(first, second.replace("-", self._WHOLE)) for first, second in rows]
        super().write_dl(whole, *args, **kwargs)


class Context(click.Context):
    """A context whose help is formatted so."""

    formatter_class = Formatter


class Command(click.Command):
    """A command whose help groups the options and ends with lists of the names they take.

    If its work is `shared`, several processes do it together; else the first does it alone.
    """

    context_class = Context

    def __init__(
        self, *args: Any, lists: Lists | None = None, shared: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lists, self.shared = lists or {}, shared

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and remember how they were typed."""
        ctx.meta[ARGUMENTS] = typed = tuple(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as problem:
            from .mistakes import completed

            if message := completed(ctx, problem, typed):
                raise click.UsageError(message, ctx) from None
            raise
        if not ctx.resilient_parsing:
            self._check_environment(ctx)
        return rest

    def _check_environment(self, ctx: click.Context) -> None:
        """Refuse a variable that looks like an option of this command and is none."""
        prefix = f"{ctx.auto_envvar_prefix}_"
        known = {f"{prefix}{name}" for each in self.params for name in variables(each)}
        for name in os.environ:
            if name.startswith(prefix) and name not in known:
                near = nearest(name, known)
                raise UsageProblem(
                    f"`{name}` in the environment is not an option of `jeat {ctx.info_name}`",
                    f"did you mean `{near}`?" if near else "unset it",
                )

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, together with the other processes that `torchrun` started, if it did."""
        try:
            Path.cwd()
        except OSError as problem:  # torch's libraries would end the process
            hint = "change to a directory that exists"
            raise UsageProblem("the working directory is gone", hint) from problem
        if not (self.shared and launch.several()):
            # The first process works alone and joins no group: nothing would answer it.
            return self._work(ctx) if launch.first() else None
        import_torch()
        from ..runtime.devices import pick
        from ..runtime.distributed import joined

        with joined(pick(ctx.params.get("device") or "auto")):
            return self._work(ctx)

    def _work(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NoSuchRun as problem:
            from .mistakes import explain

            raise explain(ctx, problem, ctx.meta.get(ARGUMENTS, ())) from None
        except UsageProblem as problem:
            from .mistakes import from_environment

            raise from_environment(ctx, problem) from None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return `--help`, its help in the form of the others."""
        if help_option := super().get_help_option(ctx):
            help_option.help = "Show this help and exit"
        return help_option

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, in the order of their definition."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            # From click 8.5 on arguments have a record of their own.
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record:
                sections.setdefault(getattr(param, "section", "Output"), []).append(record)
        sections |= {heading: list(entries().items()) for heading, entries in self.lists.items()}
        widths = (len(flag) for rows in sections.values() for flag, _ in rows)
        width = max((width for width in widths if width <= _WIDEST), default=0)
        for heading, rows in sections.items():
            if rows:
                with formatter.section(heading):
                    # One width for all headings, so that the help has two columns throughout.
                    padded = [(flag.ljust(width), text) for flag, text in rows]
                    formatter.write_dl(padded, col_max=width)
