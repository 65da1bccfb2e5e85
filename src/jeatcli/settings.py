"""A setting is declared once: default, bounds, help and option come from one field.

The settings of a verb are a frozen dataclass that inherits `Settings`; `setting` makes its fields.
"""

import math
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from .errors import UsageProblem, unknown

# What torch can hold: indices are int64, and a number beyond float32 would become infinite.
_LARGEST_INT = 2**63 - 1
_EXACT = 1e15  # below, floats that are whole numbers are those that were written
_LARGEST_FLOAT = 3.4e38


@dataclass(frozen=True)
class Setting:
    """What is known of a setting besides its name, type and default.

    The help is one line, in the imperative or as a noun phrase, without a full stop. `kind` says
    how the command line reads and completes the text: `arch`, `dataset`, `run` and so on.
    """

    help: str
    section: str = "Output"  # the heading of the help under which its option stands
    flags: tuple[str, ...] = ()  # where they are not the name with dashes: `("-n", "--num")`
    metavar: str | None = None  # where it is not `N` or `FLOAT`, or its kind
    shown: str | None = None  # the default in words, where it depends on others: `by data set`
    low: float | None = None
    high: float | None = None
    above: float | None = None  # a bound that is not allowed itself
    choices: Collection[str] = ()
    kind: str | None = None
    multiple: bool = False  # whether the option may be repeated; the value is a tuple
    distinct: bool = False  # whether a value that is there already is left out
    envvar: str | None = None  # that all commands share: `JEAT_DEVICE`

    def bounds(self, given: float = 0) -> str:
        """Say which numbers are allowed: `at least 0 and at most 1`; `given` is one that is not."""
        high = self.high
        if high is None and abs(given) > _largest(given):
            high = _largest(given)
        parts = [] if self.above is None else [f"above {_short(self.above)}"]
        parts += [] if self.low is None else [f"at least {_short(self.low)}"]
        parts += [] if high is None else [f"at most {_short(high)}"]
        return " and ".join(parts) or "finite"

    def read(self, text: str) -> float:
        """Read a number, or raise a ValueError that suggests a fraction only where one is usual."""
        try:
            return parse_number(text)
        except ValueError:
            usual = " or a fraction such as 8/255" if self.metavar == "FRACTION" else ""
            raise ValueError(f"`{text}` is not a number{usual}") from None

    def allows(self, number: float) -> bool:
        """Tell whether a number is finite, fits into torch's types and lies within the bounds."""
        return (
            abs(number) <= _largest(number)
            and math.isfinite(number)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
        )


def setting(default: Any, help: str, **about: Any) -> Any:
    """Declare a field of a settings dataclass.

    Args:
        default: Its default value; None where it depends on other settings.
        help: One line for the help.
        about: Further arguments of `Setting`.
    """
    return field(default=default, metadata={"setting": Setting(help, **about)})


class Settings:
    """The base of the verbs' settings: checks each field by its declaration."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        for name, (about, kinds) in declared(type(self)).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), about, kinds))

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Build the settings; a value that is None or absent keeps its default."""
        return cls(**_known(cls, values))

    @classmethod
    def accept(cls, given: object) -> Self:
        """Return settings as they are; refuse what is of another class, such as a dictionary."""
        if not isinstance(given, cls):
            raise UsageProblem(
                f"expected `{cls.__name__}`, not {type(given).__name__}",
                f"write `{cls.__name__}(...)`, with each setting by its name",
            )
        return given

    def with_changes(self, values: Mapping[str, object]) -> Self:
        """Return the settings with some of them changed; None changes nothing."""
        return replace(self, **_known(type(self), values))


def declared(cls: type) -> dict[str, tuple[Setting, tuple[Any, ...]]]:
    """Return the settings of a class by name, each with the types that its value may have."""
    hints = get_type_hints(cls)
    return {
        field.name: (field.metadata["setting"], alternatives(hints[field.name]))
        for field in fields(cls)
        if "setting" in field.metadata
    }


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def parse_number(text: str) -> float:
    """Read `8/255` or `0.03`, or raise a ValueError."""
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"`{text}` is not a number or a fraction such as 8/255") from None


def read_value(name: str, value: object, about: Setting, kinds: tuple[Any, ...]) -> Any:
    """Return a setting's value, which may be written as text, by its declaration."""
    if isinstance(value, str) and bool in kinds:
        value = {"true": True, "false": False}.get(value.lower(), value)
    elif isinstance(value, str) and not about.choices and (int in kinds or float in kinds):
        try:
            value = about.read(value)
        except ValueError as problem:
            raise UsageProblem(f"`{name}`: {problem}") from None
    if int in kinds and isinstance(value, float) and value.is_integer():
        value = int(value)
    return _checked(name, value, about, kinds)


def _known(cls: type, values: Mapping[str, object]) -> dict[str, Any]:
    names = [field.name for field in fields(cls)]
    for key in values:
        if key not in names:
            raise unknown("setting", key, names)
    return {key: value for key, value in values.items() if value is not None}


def _checked(name: str, value: Any, about: Setting, kinds: Sequence[Any]) -> Any:
    """Return a value as its field has it, or refuse it."""
    value = value.tolist() if hasattr(value, "tolist") else value  # a number of numpy's, an array
    if value is None and type(None) in kinds:
        return None
    if about.kind == "device" and type(value).__name__ == "device":
        value = str(value)  # of torch's, which is not imported here
    if choices := about.choices or tuple(_words(kinds)):
        if value not in list(choices):  # in which a table of TOML can be looked for, too
            raise unknown(name.replace("_", " "), str(value)[:80], choices)
        return value
    sequence = next((kind for kind in kinds if get_origin(kind) in (tuple, Sequence)), None)
    if sequence is not None:
        if isinstance(value, str | float | int) and not {str, float, int} & {*kinds}:
            value = (value,)
        if isinstance(value, list | tuple):
            return _checked_items(name, value, about, sequence)
    return _checked_scalar(name, value, about, tuple(k for k in kinds if isinstance(k, type)))


def _words(kinds: Sequence[Any]) -> list[str]:
    """Return the texts that `Literal` types allow."""
    return [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]


def _checked_items(name: str, values: Sequence[Any], about: Setting, kind: Any) -> Any:
    """Return a tuple whose items are as its type has them, of the length that this has."""
    items = get_args(kind)
    if get_origin(kind) is tuple and ... not in items and len(items) != len(values):
        raise UsageProblem(f"`{name}` cannot be {values!r}", f"give {len(items)} values")
    found = [_checked(name, value, about, alternatives(items[0])) for value in values]
    return tuple(dict.fromkeys(found) if about.distinct else found)


def _checked_scalar(name: str, value: Any, about: Setting, kinds: tuple[type, ...]) -> Any:
    """Return a single value as one of these types; whole numbers may stand for others."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and float in kinds and abs(value) <= _LARGEST_INT:
        value = float(value)
    if Path in kinds and isinstance(value, str):
        value = Path(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        # An image in place of a path may have thousands of numbers.
        shown = repr(value)[:80]
        raise UsageProblem(f"`{name}` cannot be {shown}", f"give {_wanted(kinds, about)}")
    if isinstance(value, int | float) and not isinstance(value, bool) and not about.allows(value):
        raise UsageProblem(f"`{name}` must be {about.bounds(value)}, not {_short(value)}")
    return value


def _largest(number: float) -> float:
    return _LARGEST_INT if isinstance(number, int) else _LARGEST_FLOAT


def _short(number: float) -> str:
    if isinstance(number, int) and abs(number) > _LARGEST_FLOAT:
        return "an even larger number"
    if isinstance(number, float) and number.is_integer() and abs(number) < _EXACT:
        number = int(number)
    exact = isinstance(number, int) and abs(number) < 2 * _LARGEST_INT
    return f"{number:,}" if exact else f"{number:g}"


def _wanted(kinds: Sequence[type], about: Setting) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    words |= {str: "a text", Path: "a path"}
    what = " or ".join(words[kind] for kind in kinds if kind in words) or "a list"
    return f"{what}, {about.bounds()}" if int in kinds or float in kinds else what


def data_dir_setting() -> Any:
    """Declare where the data sets are, which every command calls `--data-dir`."""
    text = "Directory of the data sets, in torchvision's layout"
    return setting(None, text, section="Data", kind="directory", envvar="JEAT_DATA_DIR")


def device_setting() -> Any:
    """Declare where to compute, which every command calls `--device`."""
    text = "auto, cpu, cuda, cuda:N or mps; auto is the first available of cuda, mps, cpu"
    return setting("auto", text, section="Machine", kind="device", envvar="JEAT_DEVICE")


def batch_size_setting(default: int | None, shown: str | None = None, **bounds: float) -> Any:
    """Declare how many images are on the device at once, which every command calls `-b`."""
    text = "Images at once; lower it if memory runs out"
    about: dict[str, Any] = {"section": "Machine", "flags": ("-b", "--batch-size"), "shown": shown}
    return setting(default, text, low=1, **about, **bounds)


def on_setting(section: str = "Data") -> Any:
    """Declare which images to test on, which every command calls `--on`."""
    return setting(
        None,
        "Test images instead of the run's: npz:FILE, folder:PATH, cifar10-c:fog:3",
        section=section,
        kind="dataset",
        metavar="DATASET",
    )
