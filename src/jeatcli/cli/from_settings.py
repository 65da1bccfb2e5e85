"""The options of a command, made from the fields of its settings."""

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import click

from ..checkpoints.settings import Foreign
from ..errors import UsageProblem
from ..plots.settings import PLAIN, PlotSettings
from ..settings import Setting, Settings, declared
from . import types
from .options import F, combine, option

S = TypeVar("S", bound=Settings)


def options_of(
    settings: type[Settings],
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    section: str | None = None,
) -> Callable[[F], F]:
    """Take the fields of a class, each as an option that is None where it is not used.

    `only` and `without` choose among them; `section` is a heading in place of their own.
    """
    defaults = settings.__dataclass_fields__
    return combine(
        *(
            _option(name, about, kinds, defaults[name].default, section or about.section)
            for name, (about, kinds) in declared(settings).items()
            if (only is None or name in only) and name not in without
        )
    )


def _option(
    name: str, about: Setting, kinds: tuple[Any, ...], default: Any, section: str
) -> Callable[[F], F]:
    extra: dict[str, Any] = {"is_flag": True} if bool in kinds else {}
    if about.multiple:
        extra |= {"multiple": True, "default": ()}
    elif length := _length(kinds):
        extra["nargs"] = length
    if about.envvar:
        extra |= {"envvar": about.envvar, "show_envvar": True}
    return option(
        section,
        *(about.flags or (_flag(name, kinds, default),)),
        name,
        help=about.help,
        type=None if bool in kinds else click_type(about, kinds),
        metavar=about.metavar or _metavar(about, kinds),
        shown=about.shown or _in_words(default),
        **{"default": None, **extra},
    )


def _flag(name: str, kinds: tuple[Any, ...], default: Any) -> str:
    """Return `--name`; a switch that is on by default, or by other settings, can be turned off."""
    flag = name.rstrip("_").replace("_", "-")
    return f"--{flag}/--no-{flag}" if bool in kinds and default is not False else f"--{flag}"


def _in_words(default: Any) -> str | None:
    if default is None or default is False or default == ():
        return None
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _metavar(about: Setting, kinds: tuple[Any, ...]) -> str | None:
    if about.kind:
        return types.METAVARS.get(about.kind, about.kind.upper())
    items = [get_args(kind)[0] if get_origin(kind) is tuple else kind for kind in kinds]
    if about.choices:
        return None
    return "N" if int in items else "FLOAT" if float in items else None


def _length(kinds: tuple[Any, ...]) -> int:
    """Return how many values a tuple of fixed length has, 0 for any other type."""
    lengths = [get_args(kind) for kind in kinds if get_origin(kind) is tuple]
    return next((len(items) for items in lengths if ... not in items), 0)


def click_type(about: Setting, kinds: tuple[Any, ...]) -> Any:
    """Return the parameter type that reads and completes the text of a setting."""
    if about.kind is not None:
        return types.BY_KIND[about.kind]
    literals = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if choices := about.choices or tuple(literals):
        return click.Choice(choices, case_sensitive=False)
    items = [get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple]
    if items and not about.multiple and not _length(kinds):
        return types.NUMBERS
    items = items or list(kinds)
    if str in items:
        return str
    if int in items:
        low, high = (None if end is None else int(end) for end in (about.low, about.high))
        return types.Whole(min=low, max=high)
    if float in items:
        return types.Number(about)
    return click.Path(dir_okay=False, path_type=Path) if Path in items else str


def used(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the options that were used: the others are None or empty."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def take(settings: type[S], values: dict[str, Any]) -> S:
    """Build the settings from their options, which are no longer among the values."""
    names = [name for name in declared(settings) if name in values]
    return settings.of(used({name: values.pop(name) for name in names}))


def plot_settings(
    values: dict[str, Any], drawn: bool = True, what: str = "", fix: str = ""
) -> PlotSettings:
    """Take how a figure looks; refuse a look where no such figure is drawn, or that cannot be."""
    look = take(PlotSettings, values)
    if look != PLAIN:
        if not drawn:
            raise UsageProblem(f"the options for the look of the picture are for {what}", fix)
        from ..plots.figure import check_look

        check_look(look)
    return look


def foreign_options(dataset: bool = True) -> Callable[[F], F]:
    """Take what describes a checkpoint of others, and give it to the command as `foreign`.

    That is None where none of the options was used. `--dataset` may be the command's own.
    """
    names = [name for name in declared(Foreign) if dataset or name != "dataset"]

    def decorate(function: F) -> F:
        @wraps(function)
        def described(*args: Any, **values: Any) -> Any:
            description = used({name: values.pop(name) for name in names})
            foreign = Foreign.of(description) if description else None
            return function(*args, foreign=foreign, **values)

        return options_of(Foreign, only=names)(cast(F, described))

    return decorate
