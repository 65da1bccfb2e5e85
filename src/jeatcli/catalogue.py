"""Tables of names: what each thing is, and where its code lives.

Methods, attacks, networks and landscapes are rows of a table, so that `--help` and completion
know them without importing torch, and so that a row can be added from outside the package.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import UsageProblem, unknown


def load(target: str) -> Any:
    """Import `package.module:name`, or `package.module` for all of it.

    Raises:
        UsageProblem: If there is no such module, or nothing of that name in it.
    """
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        if not f"{module_name}.".startswith(f"{problem.name}."):
            raise  # which it imports
        raise _wrong(target, f"there is no module `{module_name}`") from problem
    if not hasattr(module, name or "__name__"):
        raise _wrong(target, f"the module `{module_name}` has no `{name}`")
    return getattr(module, name) if name else module


def check_call(called: Callable[..., Any], named: str, *given: object, **options: object) -> None:
    """Refuse a function or class, which may be the user's own, that cannot be called like this.

    Raises:
        UsageProblem: If it does not take these arguments, or is a class that lacks methods.
    """
    if lacking := sorted(getattr(called, "__abstractmethods__", ())):
        listed = " and ".join(f"`{name}`" for name in lacking)
        raise UsageProblem(f"{named} has no {listed}", "define it in the class")
    try:
        inspect.signature(called).bind(*given, **options)
    except ValueError:  # of what is built in, there is no signature
        return
    except TypeError as problem:
        raise UsageProblem(
            f"{named} does not take what it is called with: {problem}",
            "give it the arguments of docs/extending.md",
        ) from None


def _wrong(target: str, why: str) -> UsageProblem:
    return UsageProblem(
        f"{why}, which a row of a table names as `{target}`",
        "write `MODULE:NAME` into the row as Python imports it",
    )


@dataclass(frozen=True)
class Entry:
    """A row of a table: one line for the help, and where the code is, as `load` takes it."""

    summary: str
    target: str

    def load(self) -> Any:
        """Import what the row stands for."""
        return load(self.target)


E = TypeVar("E", bound=Entry)


class Catalogue(Mapping[str, E]):
    """A table of entries by name; in a name such as `wrn-D-W` single capitals stand for numbers.

    `kind` is what it lists, for the error: `method`. The help shows the rows in their order.
    """

    def __init__(self, kind: str, entries: Mapping[str, E]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, entry: E) -> None:
        """Add a row, or replace the one of that name."""
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        del self._entries[name]

    def summaries(self) -> dict[str, str]:
        return {name: entry.summary for name, entry in self.items()}

    def match(self, name: str) -> tuple[E, tuple[int, ...]]:
        """Return the entry of `name` and the numbers in it; the error has the nearest name."""
        for pattern, entry in self.items():
            numbered = re.sub(r"\\-[A-Z]\b", r"-(\\d{1,6})", re.escape(pattern))
            if matched := re.fullmatch(numbered, name):
                return entry, tuple(map(int, matched.groups()))
        raise unknown(self.kind, name, self)

    def load(self, name: str) -> Any:
        """Import what `name` stands for; the error has the nearest name."""
        return self.match(name)[0].load()
