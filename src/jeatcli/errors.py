"""What can go wrong, in words: every error names the input and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JeatError(Exception):
    """A failure that the user can understand and mend.

    Args:
        message: What is wrong, and where.
        hint: The fix.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageProblem(JeatError):
    """The command or the configuration asks for something that does not exist."""

    exit_code = 2


class Diverged(JeatError):
    """Training ran away; the last good state is kept."""

    exit_code = 3


class Interrupted(JeatError):
    """The user stopped the command; what was done so far is saved."""

    exit_code = 130


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageProblem:
    """Build the error for a `kind` called `name` that is not among `known`."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return UsageProblem(f"unknown {kind} `{name}`", f"{hint}known: {', '.join(choices)}")
