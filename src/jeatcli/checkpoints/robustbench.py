"""RobustBench's entries for CIFAR-10 and -100 (Croce et al. 2021): networks and accuracies.

`assets/robustbench.txt` has the facts of its dictionaries and of `model_info` at commit 78fcc9e
(2025-03-31), an entry a line below its dictionary's: name, network, normalisation, clean and robust
accuracy, and the radius where it is not the usual one. An entry whose network is none of ours has
`-` for it, and the name of its class for the normalisation.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..core.threat import Threat
from ..data.facts import DATASETS
from ..errors import UsageProblem, unknown

Channels = tuple[float, ...]
PREFIX = "robustbench:"
_EPS = {"linf": 8 / 255, "l2": 0.5}
_NORMALISATIONS: dict[str, tuple[Channels, Channels]] = {
    "plain": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "rice": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "engstrom": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "exact": (
        (0.4913997551666284, 0.48215855929893703, 0.4465309133731618),
        (0.24703225141799082, 0.24348516474564, 0.26158783926049628),
    ),
    "rony": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "dm100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "chen100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "exact100": (
        (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
        (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
    ),
}


@dataclass(frozen=True)
class Published:
    """An entry of RobustBench, `name` in the dictionary of a data set and a threat model."""

    name: str
    dataset: str
    threat: Threat
    arch: str | None  # as `--arch` names it; None for a network that is none of ours
    kind: str  # the normalisation's name, or the class of a network that is none of ours
    clean: float  # accuracy, as a share
    robust: float  # the lowest known one under AutoAttack or an external evaluation

    @property
    def activation(self) -> str:
        """The nonlinearity: Swish and SiLU are the same function."""
        return "silu" if (self.arch or "").startswith("dm-") else "relu"

    @property
    def normalisation(self) -> tuple[Channels, Channels]:
        """Mean and standard deviation of pixels in [0, 1]."""
        return _NORMALISATIONS[self.kind]


@cache
def entries() -> tuple[Published, ...]:
    """Return all entries, in the order of the dictionaries."""
    found = []
    dataset = norm = ""
    table = Path(__file__).with_name("assets") / "robustbench.txt"
    for line in table.read_text(encoding="utf-8").splitlines():
        name, *words = line.split()
        if name == "#":
            dataset, norm = words
            continue
        arch, kind, clean, robust, *eps = words
        threat = Threat(norm, float(eps[0]) if eps else _EPS[norm])
        ours, accuracies = None if arch == "-" else arch, (float(clean) / 100, float(robust) / 100)
        found.append(Published(name, dataset, threat, ours, kind, *accuracies))
    return tuple(found)


def find(text: str, dataset: str | None, classes: int | None) -> Published:
    """Return the entry that `robustbench:ID` or `robustbench:l2/ID` names, with a network of ours.

    Of several it is that of the data set and the number of classes, as far as they are known.
    """
    norm, _, name = text.removeprefix(PREFIX).rpartition("/")
    named = [each for each in entries() if each.name == name and norm in ("", each.threat.norm)]
    if not named:
        raise unknown("entry of RobustBench", name, {each.name for each in entries()})
    fitting = [
        each
        for each in named
        if dataset in (None, each.dataset)
        and classes in (None, len(DATASETS[each.dataset].classes))
    ]
    if not fitting:
        places = " and ".join(dict.fromkeys(each.dataset for each in named))
        raise UsageProblem(
            f"`{name}` of RobustBench is for {places}, and the file is for something else",
            "check the file and `--dataset`",
        )
    entry = fitting[0]
    if entry.arch is None:
        raise UsageProblem(
            f"the network of `{name}` ({entry.kind}) is not implemented here",
            "name its code by `--arch FILE.py:FUNCTION`",
        )
    return entry
