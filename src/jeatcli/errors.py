"""The errors of jeat: each names the input and the fix."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Texts of RuntimeErrors for lack of memory: on a CPU, and of libraries and drivers on CUDA.
_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")

# Of names that are known, an error lists as many: timm has more than a thousand networks.
_LISTED = 40


class JeatError(Exception):
    """A failure that the user can understand and fix: what is wrong and where, and the fix.

    Examples:
        >>> from jeatcli import JeatError, load
        >>> try:
        ...     load("no-such-run")
        ... except JeatError as problem:
        ...     print(problem.message.split(" in ")[0])
        there is no run `no-such-run`
    """

    exit_code = 1
    reported = False  # whether another process of the same command reports it

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"Hint: {hint}")  # so that a notebook shows it below the message


class NoSuchRun(JeatError):
    """There is no run or checkpoint of that name."""


class JeatWarning(UserWarning):
    """Something that may make a result of the Python API wrong."""


class PictureWarning(UserWarning):
    """A picture has words that its font cannot draw, or for which it is too small."""


class UsageProblem(JeatError):
    """The command or the configuration asks for something that does not exist."""

    exit_code = 2


class Diverged(JeatError):
    """Training diverged; the last good state is kept."""

    exit_code = 3


class BelowGate(JeatError):
    """Everything is done, but a number is below the minimum that the user asked for."""

    exit_code = 4


class Interrupted(JeatError):
    """The user stopped the command; what was done so far is saved."""

    exit_code = 130


class RankLost(JeatError):
    """Another process of the run has died, and this one cannot go on without it."""


@contextmanager
def needs(package: str, extra: str, what: str) -> Iterator[None]:
    """Say what to install where the import of a package of an extra fails; `what` needs it."""
    try:
        yield
    except ImportError as problem:
        hint = f"`pip install 'jeat-cli[{extra}]'`"
        raise JeatError(f"{what} needs {package}", hint) from problem


def unknown(kind: str, name: str, known: Iterable[str], meant: str | None = None) -> UsageProblem:
    """Build the error for a `kind` called `name` that is not among `known`.

    Its hint has what is probably `meant`: by default, the nearest of them.
    """
    choices = sorted(known)
    near = meant or nearest(name, choices)
    hint = f"did you mean `{near}`? " if near else ""
    shown = [choice.replace("\n", "\\n") for choice in choices]  # of a name on several lines
    rest = f", and {len(shown) - _LISTED:,} more" if len(shown) > _LISTED else ""
    listed = f"known: {', '.join(shown[:_LISTED])}{rest}" if choices else "there are none"
    return UsageProblem(f"unknown {kind} `{name}`", hint + listed)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `name` probably means, if any.

    A name may resemble the beginning or the end of a longer one: `digits-jaet` means
    `digits-jeat-small`, though `digits-at` is closer as a whole.
    """
    import difflib  # a tenth of the time of `jeat --help`, which needs none

    def likeness(choice: str) -> tuple[float, float]:
        length, small = max(len(name), 1), choice.lower()
        parts = (small, small[:length], small[-length:])
        ratios = [difflib.SequenceMatcher(None, name.lower(), part).ratio() for part in parts]
        return max(ratios), ratios[0]

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= 0.5 else None


def no_memory(problem: BaseException) -> bool:
    """Tell whether torch found no memory, on an accelerator or on the CPU, without importing it."""
    names = {kind.__name__ for kind in type(problem).__mro__}
    return "OutOfMemoryError" in names or (
        isinstance(problem, RuntimeError) and any(text in str(problem) for text in _NO_MEMORY)
    )
