"""Write docs/robustbench.md from the table of entries; with --check, only compare."""

from __future__ import annotations

import sys
from pathlib import Path

from generated import update

from jeatcli.checkpoints.robustbench import Published, entries

PAGE = Path(__file__).with_name("robustbench.md")
INTRODUCTION = """\
# Networks of RobustBench

Download an entry's checkpoint and name the entry:

```sh
jeat attack theirs.pt --arch robustbench:Wang2023Better_WRN-28-10 --attack fast -n 1000
jeat attack theirs.pt --arch robustbench:l2/Rice2020Overfitting --attack autoattack --exact
```

This sets the network, activation, normalisation, data set and threat model. At the end, a line
compares the measured accuracies with the published ones, which are for all 10,000 test images: with
n images the standard error is about 50 / sqrt(n) points. If an ID is in several dictionaries, the
number of classes in the weights or `--dataset` chooses between CIFAR-10 and -100; `l2/` before the
ID selects l2 instead of linf.

The networks were compared, on random weights, with ones written by hand from the description of
RobustBench's classes; none of the files was tried here. `docs/generate_robustbench.py` (`make
docs`) writes this page from `src/jeatcli/checkpoints/robustbench.py`: facts from RobustBench (Croce
et al. 2021) at commit 78fcc9e; "robust" is the lowest accuracy known there. If a network is not
supported, the table names its class instead; load it from its own code with
`--arch FILE.py:FUNCTION`.
"""


def page() -> str:
    """Return the text of the page."""
    places: dict[tuple[str, str], list[Published]] = {}
    for entry in entries():
        places.setdefault((entry.dataset, entry.threat.norm), []).append(entry)
    counts = [
        f"| {dataset} {norm} | {sum(each.arch is not None for each in found)} of {len(found)} |"
        for (dataset, norm), found in places.items()
    ]
    parts = [INTRODUCTION, "| dictionary | load |\n| --- | --- |\n" + "\n".join(counts) + "\n"]
    for (dataset, norm), found in places.items():
        parts.append(f"## {dataset}, {norm}\n\n" + table(found))
    return "\n".join(parts)


def table(found: list[Published]) -> str:
    """Return the entries of a dictionary as a table, the most robust first."""
    rows = ["| ID | network | mean, std | clean | robust |", "| --- | --- | --- | ---: | ---: |"]
    for each in sorted(found, key=lambda entry: -entry.robust):
        network, numbers = each.kind, "-"
        if each.arch is not None:
            network = f"`{each.arch}`" + (" silu" if each.activation == "silu" else "")
            values = [",".join(f"{value:.4g}" for value in part) for part in each.normalisation]
            numbers = "; ".join(values)
        rows.append(
            f"| {each.name} | {network} | {numbers} | {100 * each.clean:.2f} | "
            f"{100 * each.robust:.2f} |"
        )
    return "\n".join(rows) + "\n"


def pages() -> dict[Path, str]:
    """Return what is written, by path."""
    return {PAGE: page()}


if __name__ == "__main__":
    sys.exit(update(pages()))
