"""What a metric must return, which may be one of the user's own."""

from collections.abc import Collection, Mapping

from ..errors import JeatError
from .intervals import Estimate


def checked_metric(name: str, returned: object, taken: Collection[str]) -> dict[str, float]:
    """Return the numbers of a metric by their names.

    Raises:
        JeatError: If it returned anything else, or a name that is taken.
    """
    problem, values = type(returned).__name__, dict[str, float]()
    if isinstance(returned, Mapping):
        for key, value in returned.items():
            number = _number(value)
            if not isinstance(key, str) or number is None:
                problem = f"`{key}`, which is not a name, or has no number"
            elif key in taken:
                problem = f"`{key}`, which another metric returns"
            else:
                values[key] = number
        if values and len(values) == len(returned):
            return values
        problem = problem if returned else "no numbers"
    raise JeatError(
        f"metric `{name}` returned {problem}", "return a dictionary of numbers by their names"
    )


def _number(value: object) -> float | None:
    """Return a number, which may be of a library and of no dimension."""
    if isinstance(value, Estimate):
        return value
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    return float(plain) if isinstance(plain, int | float) else None
