"""Training objectives besides JEAT, one file each; the fields of a method are its options.

No file knows another. May import `core` and `data.facts`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from ..catalogue import Catalogue, Entry, check_call
from ..data.facts import PHOTO_EPS, DatasetFacts
from ..errors import JeatError, UsageProblem, unknown
from ..settings import declared, read_value

if TYPE_CHECKING:
    from ..core.jeat import Method

METHODS = Catalogue(
    "method",
    {
        "at": Entry(
            "Adversarial training: CE(x^), PGD on CE (Madry et al. 2018)",
            "jeatcli.methods.at:AdversarialTraining",
        ),
        "dat": Entry(
            "DAT: CE(x^) + BCE of -E(x) against -E(x-), x- by ascent of f(x)[y] (Yin et al. 2026)",
            "jeatcli.methods.dat:Dat",
        ),
        "eb-jdat": Entry(
            "EB-JDAT: CE(x^) + [E(x) - E(x_K)] + [E(x^) - E(x)], PGD on E(x,y) (Jiang et al. 2026)",
            "jeatcli.methods.eb_jdat:EbJdat",
        ),
        "fast": Entry(
            "One step: FGSM-RS (Wong et al. 2020), N-FGSM (de Jorge 2022), FGSM-PGI (Jia 2022)",
            "jeatcli.methods.fast:Fast",
        ),
        "jeat": Entry(
            "JEAT: CE(x^) + lambda [E(x^) - E(x_K)], PGD on E(x,y) (Zhu et al. 2021)",
            "jeatcli.core.jeat:Jeat",
        ),
        "jem": Entry(
            "JEM: CE(x) + lambda [E(x) - E(x_K)] (Grathwohl et al. 2020)",
            "jeatcli.methods.jem:Jem",
        ),
        "jem++": Entry(
            "JEM++: JEM with a proximal chain from class Gaussians, no noise (Yang and Ji 2021)",
            "jeatcli.methods.jempp:JemPlusPlus",
        ),
        "mart": Entry(
            "MART: boosted CE(x^) + beta KL weighted by the clean error (Wang et al. 2020)",
            "jeatcli.methods.mart:Mart",
        ),
        "noise": Entry(
            'Noise injection, "blind adversarial training": CE(x + n) (Zhu et al. 2021)',
            "jeatcli.methods.noise:Noise",
        ),
        "prejeat": Entry(
            "PreJEAT: CE(x^), PGD on E(x,y) (Zhu et al. 2021)",
            "jeatcli.methods.prejeat:PreJeat",
        ),
        "sada-jem": Entry(
            "SADA-JEM: JEM at adaptively worst weights, x+ without augmentation (Yang et al. 2023)",
            "jeatcli.methods.sada_jem:SadaJem",
        ),
        "standard": Entry(
            "Plain classification: CE(x)",
            "jeatcli.methods.standard:Standard",
        ),
        "trades": Entry(
            "TRADES: CE(x) + beta KL(p(.|x) || p(.|x^)), PGD on KL (Zhang et al. 2019)",
            "jeatcli.methods.trades:Trades",
        ),
        "weat": Entry(
            "WEAT: TRADES or AT + KL, weighted by 1 / log(1 + exp |E(x)|) (Mirza et al. 2024)",
            "jeatcli.methods.weat:Weat",
        ),
    },
)


def _class_of(name: str) -> type[Method]:
    """Return the class of a method, whose every field is an option."""
    method: type[Method] = METHODS.load(name)
    named = f"`{method.__name__}` of the method `{name}`"
    if not is_dataclass(method) or "__dataclass_fields__" not in vars(method):
        raise UsageProblem(f"{named} is not a dataclass", "write `@dataclass` above the class")
    for each in fields(method):
        if "setting" not in each.metadata:
            raise UsageProblem(
                f"the field `{each.name}` of {named} is not declared",
                f'write `{each.name}: ... = setting(DEFAULT, "what it is")`',
            )
    check_call(method, named)
    check_call(method.loss, f"`loss` of {named}", None, "model", "x", "y", "rng")
    return method


def make(name: str, options: Mapping[str, Any]) -> Method:
    """Build the method called `name` with these options."""
    return _class_of(name)(**{_field(key): value for key, value in options.items()})


def has_chain(name: str) -> bool:
    """Return whether a method draws negatives by a chain with a replay buffer."""
    return "buffer_size" in declared(_class_of(name))


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
    """Return every option of method `name`: what is given, as text or value, else its default.

    `table` has defaults that differ from the method's own; its other keys are passed over. `facts`
    are those of the data set, which has a customary radius.
    """
    method = _class_of(name)
    options = declared(method)
    for key in given:
        if _field(key) not in options:
            hint = unknown("option", key, map(_shown, options)).hint
            if others := [f"`{each}`" for each in METHODS if _field(key) in _fields_of(each)]:
                hint = f"leave it out, or choose a method that has it: {', '.join(others)}"
            raise UsageProblem(f"method `{name}` has no option `{key}`", hint)
    replaced = table.keys() - method.own
    values: dict[str, Any] = {key: table[key] for key in options if key in replaced}
    for key, value in given.items():
        values[_field(key)] = read_value(_shown(key), value, *options[_field(key)])
    if "eps" in options and "eps" not in values:
        customary = facts.eps if facts else PHOTO_EPS
        values["eps"] = customary.get(str(values.get("norm")), customary["linf"])
    return {_shown(key): value for key, value in asdict(method(**values)).items()}


def _fields_of(name: str) -> Collection[str]:
    """Return the options of a method, none if it is a plugin's that cannot be loaded."""
    try:
        return declared(_class_of(name)).keys()
    except JeatError:
        return ()


def _shown(key: str) -> str:
    """Write an option as the user does: `lambda`, which Python keeps for itself."""
    return key.replace("-", "_").removesuffix("_")


def _field(key: str) -> str:
    return "lambda_" if _shown(key) == "lambda" else _shown(key)
