"""The training methods: one file a method, its fields are its options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from ..catalogue import Catalogue, Entry
from ..core.threat import fraction, parse_number
from ..data.facts import DatasetFacts
from ..errors import UsageProblem, unknown

if TYPE_CHECKING:
    from ..core.jeat import Method

METHODS = Catalogue(
    "method",
    {
        "at": Entry(
            "Adversarial training: CE(x^), PGD on CE (Madry et al. 2018)",
            "jeatcli.methods.at:AdversarialTraining",
        ),
        "jeat": Entry(
            "JEAT: CE(x^) + lambda [E(x^) - E(x_K)], PGD on E(x, y) (Zhu et al. 2021)",
            "jeatcli.core.jeat:Jeat",
        ),
        "jem": Entry(
            "JEM: CE(x) + lambda [E(x) - E(x_K)] (Grathwohl et al. 2020)",
            "jeatcli.methods.jem:Jem",
        ),
        "noise": Entry(
            'Noise injection, "blind adversarial training": CE(x + n) (Zhu et al. 2021)',
            "jeatcli.methods.noise:Noise",
        ),
        "prejeat": Entry(
            "PreJEAT: CE(x^), PGD on E(x, y) (Zhu et al. 2021)",
            "jeatcli.methods.prejeat:PreJeat",
        ),
        "standard": Entry(
            "Plain classification: CE(x)",
            "jeatcli.methods.standard:Standard",
        ),
    },
)


def _class_of(name: str) -> type[Method]:
    found: type[Method] = METHODS.load(name)
    return found


def make(name: str, options: Mapping[str, Any]) -> Method:
    """Build the method called `name` with these options."""
    return _class_of(name)(**{_field(key): value for key, value in options.items()})


def has_chain(name: str) -> bool:
    """Return whether a method draws negatives by a chain with a replay buffer."""
    return any(each.name == "buffer_size" for each in fields(_class_of(name)))


def sampling_of(name: str) -> tuple[str, str]:
    """Return the sampler and the objective that suit a method, also one that is not ours."""
    from ..core.jeat import Method

    return (_class_of(name) if name in METHODS else Method).sampling


def options_of(
    name: str,
    given: Mapping[str, Any],
    table: Mapping[str, Any],
    facts: DatasetFacts | None,
) -> dict[str, Any]:
    """Return every option of method `name`: what is given, else its default.

    Args:
        name: The method.
        given: Options as text or as values.
        table: Defaults that differ from the method's own; other keys are passed over.
        facts: The data set's, for the customary radius.

    Raises:
        UsageProblem: If the method has no such option, or the value does not fit.
    """
    kind = _class_of(name)
    hints = get_type_hints(kind)
    known = {_shown(each.name): each.name for each in fields(kind)}
    for key in given:
        if _shown(key) not in known:
            raise unknown(f"option of method `{name}`", key, known)
    values: dict[str, Any] = {key: table[key] for key in known.values() if key in table}
    values |= {_field(key): _parse(key, value, hints[_field(key)]) for key, value in given.items()}
    if "eps" in hints and "eps" not in values:
        usual = facts.eps if facts else {"linf": 8 / 255, "l2": 0.5}
        norm = values.get("norm", "linf")
        values["eps"] = usual.get(norm, usual["linf"])
    return {_shown(key): value for key, value in asdict(kind(**values)).items()}


def _shown(key: str) -> str:
    """Write an option as the user does: `lambda`, which Python keeps for itself."""
    return key.replace("-", "_").rstrip("_")


def _field(key: str) -> str:
    return "lambda_" if _shown(key) == "lambda" else _shown(key)


def _parse(key: str, value: object, hint: Any) -> object:
    """Read `value`, from a command line, a file or Python, as the type that the field has."""
    kinds = get_args(hint) if get_origin(hint) is not None else (hint,)
    if value is None and type(None) in kinds:
        return None
    text = str(value)
    if all(isinstance(kind, str) for kind in kinds):
        if text not in kinds:
            raise unknown(f"value of option `{key}`", text, kinds)
        return text
    try:
        number = parse_number(text)
    except ValueError as problem:
        raise UsageProblem(f"option `{key}`: {problem}") from None
    if not math.isfinite(number):
        raise UsageProblem(f"option `{key}` must be a finite number, not {text}")
    if float in kinds:
        return number
    if number != int(number):
        raise UsageProblem(f"option `{key}` is a whole number, not {fraction(number)}")
    return int(number)
