"""The options of a command, made from the fields of its settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import click

from ..checkpoints.settings import Foreign
from ..settings import Setting, Settings, declared
from . import types
from .options import F, combine, option

# What stands for a value of these kinds, where it is not the kind itself: `RUN`, `ARCH`.
_METAVARS = {"directory": "DIR", "init": "START", "norm": None}


def options_of(
    settings: type[Settings],
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    section: str | None = None,
) -> Callable[[F], F]:
    """Take the settings of a class, each as an option that is None where nothing is said.

    Args:
        settings: The class.
        only: The fields to take; None for all.
        without: Fields to leave out.
        section: A heading for all of them, in place of their own.
    """
    chosen = {
        name: (about, kinds)
        for name, (about, kinds) in declared(settings).items()
        if (only is None or name in only) and name not in without
    }
    defaults = settings.__dataclass_fields__
    return combine(
        *(
            _option(name, about, kinds, defaults[name].default, section or about.section)
            for name, (about, kinds) in chosen.items()
        )
    )


def _option(
    name: str, about: Setting, kinds: tuple[Any, ...], default: Any, section: str
) -> Callable[[F], F]:
    flags = about.flags or (_flag(name, kinds, default),)
    extra: dict[str, Any] = {}
    if bool in kinds:
        extra["is_flag"] = True
    if about.multiple:
        extra["multiple"] = True
    elif length := _length(kinds):
        extra["nargs"] = length
    if about.envvar:
        extra |= {"envvar": about.envvar, "show_envvar": True}
    return option(
        section,
        *flags,
        name,
        help=about.help,
        type=None if bool in kinds else click_type(about, kinds),
        metavar=about.metavar or _metavar(about, kinds),
        shown=about.shown or _in_words(default),
        default=() if about.multiple else None,
        **extra,
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
        return _METAVARS.get(about.kind, about.kind.upper())
    return None if about.choices else "N" if int in kinds else "FLOAT" if float in kinds else None


def _length(kinds: tuple[Any, ...]) -> int:
    """Return how many values a tuple of fixed length has, 0 for any other type."""
    lengths = [get_args(kind) for kind in kinds if get_origin(kind) is tuple]
    return next((len(items) for items in lengths if ... not in items), 0)


def click_type(about: Setting, kinds: tuple[Any, ...]) -> Any:
    """Return the parameter type that reads and completes the text of a setting."""
    if about.kind is not None:
        return types.BY_KIND[about.kind]
    literals = [each for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)]
    if choices := about.choices or tuple(literals):
        return click.Choice(choices, case_sensitive=False)
    inner = [get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple]
    if inner and not about.multiple and not _length(kinds):
        return types.NUMBERS
    names = inner or list(kinds)
    if str in names:
        return str
    if int in names:
        low, high = (None if each is None else int(each) for each in (about.low, about.high))
        return click.IntRange(min=low, max=high)
    if float in names:
        return types.Number(about)
    return click.Path(dir_okay=False, path_type=Path) if Path in names else str


S = TypeVar("S", bound=Settings)


def settings_from(settings: type[S], values: Mapping[str, Any]) -> S:
    """Build the settings from the values of options; one that was not used is None or empty."""
    return settings.of({name: value for name, value in values.items() if value != ()})


def foreign_options(dataset: bool = True) -> Callable[[F], F]:
    """Take what describes a checkpoint of others, and give it to the command as `foreign`.

    The command gets a `Foreign`, or None where none of the options was used.

    Args:
        dataset: Whether `--dataset` is one of them; else it is the command's own.
    """
    without = () if dataset else ("dataset",)
    names = [name for name in declared(Foreign) if name not in without]

    def decorate(function: F) -> F:
        @wraps(function)
        def described(*args: Any, **given: Any) -> Any:
            taken = {name: given.pop(name) for name in names}
            said = {name: value for name, value in taken.items() if value is not None}
            return function(*args, foreign=Foreign.of(said) if said else None, **given)

        return options_of(Foreign, without=without)(cast(F, described))

    return decorate
