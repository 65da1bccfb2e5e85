"""The options of the commands: each under a heading of the help, and knowing who set it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ..errors import UsageProblem

F = TypeVar("F", bound=Callable[..., Any])
# Where the context keeps what each setting of a file comes from, by parameter.
ORIGINS = f"{__name__}.origins"
_SOURCES = {
    ParameterSource.COMMANDLINE: "command line",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}
_VERBOSE = "More lines of progress, and the settings with their sources"


def variables(param: click.Parameter) -> tuple[str, str]:
    """Return how a variable of the environment ends: as the flag, or as it is called in code."""
    flag = max(param.opts, key=len).lstrip("-").replace("-", "_")
    return flag.upper(), str(param.name).upper()


class Option(click.Option):
    """An option under a heading of the help, `section`, its default `shown` in words."""

    def __init__(
        self, *args: Any, section: str = "Output", shown: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.section, self.shown = section, shown

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Look into the variable of the command and the flag, then into that of all commands.

        By itself click asks for the parameter's name in the code, and for the latter first.
        """
        flag = variables(self)[0]
        own = ctx.auto_envvar_prefix and os.environ.get(f"{ctx.auto_envvar_prefix}_{flag}")
        return own or super().resolve_envvar_value(ctx)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert and check the value; an error names a variable or a file that it comes from."""
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as problem:
            message = problem.message.removesuffix(".") + self._origin(ctx)
            if self._joined(value):
                message += f"; for several values, repeat `{max(self.opts, key=len)}`"
            raise click.BadParameter(message, ctx, self) from None
        except UsageProblem as problem:
            hint = problem.hint
            if self._joined(value):
                hint = f"for several values, repeat `{max(self.opts, key=len)}`; {hint}"
            raise UsageProblem(problem.message + self._origin(ctx), hint) from None

    def _joined(self, value: Any) -> bool:
        """Tell whether values may have been written as one, for example `pgd,cw`."""
        several = self.multiple and isinstance(value, tuple | list)
        return several and any("," in str(each) for each in value)

    def variable(self, ctx: click.Context) -> str | None:
        """Return the variable of the environment that set it, if one did."""
        if ctx.get_parameter_source(str(self.name)) is not ParameterSource.ENVIRONMENT:
            return None
        own = [f"{ctx.auto_envvar_prefix}_{each}" for each in variables(self)]
        names = (own[0], str(self.envvar), own[1])
        return next((name for name in names if os.environ.get(name)), None)

    def _origin(self, ctx: click.Context) -> str:
        name = str(self.name)
        if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
            return f" (in {ctx.meta.get(ORIGINS, {}).get(name, 'a file')})"
        variable = self.variable(ctx)
        return f" (in the environment: `{variable}`)" if variable else ""

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Show the default in words, and leave out ranges, which the error tells."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        if self.shown:
            extra["default"] = self.shown
        return extra


def source_of(ctx: click.Context, name: str) -> str | None:
    """Return where an option was given: `command line`, `environment` or `file`."""
    source = ctx.get_parameter_source(name)
    return _SOURCES.get(source) if source else None


def option(section: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """Declare an option under a heading, with the arguments of `click.option` and `Option`."""
    return click.option(*names, cls=Option, section=section, **settings)


def file_option(*names: str, metavar: str = "FILE", **settings: Any) -> Callable[[F], F]:
    """Declare an option for a file to write, with the arguments of `option`."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return option("Output", *names, type=kind, metavar=metavar, **settings)


def combine(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Make one decorator of several, the first one uppermost."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


output_options = combine(
    option("Output", "--json", "as_json", is_flag=True, help="Print one JSON object on stdout"),
    option("Output", "-q", "--quiet", is_flag=True, help="Errors and the result only"),
    option("Output", "-v", "--verbose", is_flag=True, help=_VERBOSE),
)
