"""How a state dict fits a network, name by name, and how that is told."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor

_LISTED, _LONGEST = 20, 100  # names of each kind, and characters of one: more hide the hint
# A stage that TRADES' wide network has and does not use, a second name that the first layer has in
# the checkpoint of Andriushchenko and Flammarion (2020), and two heads of JEM's without logits.
UNUSED = r"(sub_block1|model_preact_hl1|energy_output|f\.linear)\."


@dataclass(frozen=True)
class KeyMatch:
    """How a state dict fits a network."""

    weights: dict[str, Tensor]  # those that fit, by the network's names
    missing: list[str]  # the network's names that it lacks
    unexpected: list[str]  # its names that the network has not
    mismatched: list[str]  # names with both shapes, in words
    ignored: list[str]  # names of what is saved beside the network, and no part of it
    beside: list[str]  # names of what else is there, which may be a part of the function
    prefix: str  # what its names begin with in the file

    @property
    def holds(self) -> bool:
        """Whether the network is there, whatever else is."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def fits(self) -> bool:
        """Whether nothing is left over on either side."""
        return self.holds and not self.beside

    def known_unused(self) -> KeyMatch:
        """Leave out of what is ignored what code is known to save, and not to use."""
        told = [key for key in self.ignored if not re.match(UNUSED, key.removeprefix(self.prefix))]
        return replace(self, ignored=told)

    def describe(self) -> str:
        """Return what does not fit, a line for each kind."""
        kinds = {
            "missing": self.missing,
            "not known to it": self.unexpected,
            "of another shape": self.mismatched,
            f"beside it, not under `{self.prefix}`": self.beside if self.holds else [],
        }
        return "\n".join(
            f"  {len(names):,} {kind}: {list_names(names)}"
            for kind, names in kinds.items()
            if names
        )


def list_names(names: list[str]) -> str:
    """List the first names, each on one line, and say how many more there are."""
    rest = f", and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(" ".join(name.split())[:_LONGEST] for name in names[:_LISTED]) + rest
