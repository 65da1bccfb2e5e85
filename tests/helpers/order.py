"""In which order the files of tests are given to the processes that share them."""

from __future__ import annotations

from collections import Counter

import pytest

# A minute each and longer, with few tests: one that begins last is waited for by the others.
LONG = (
    "tests/runtime/test_distributed.py",
    "tests/robustness/test_attack_resume.py",
    "tests/robustness/test_plausibility.py",
    "tests/training/test_resume.py",
    "tests/core/test_models.py",
    "tests/test_docs.py",
)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by file: the long files, then those of many tests; within a file as they stand."""
    files = [item.nodeid.partition("::")[0] for item in items]
    counts, ranks = Counter(files), {name: rank for rank, name in enumerate(LONG)}
    first = {name: at for at, name in reversed([*enumerate(files)])}

    def place(at: int) -> tuple[int, int, int]:
        name = files[at]
        return ranks.get(name, len(LONG)), -counts[name], first[name]

    items[:] = [items[at] for at in sorted(range(len(items)), key=place)]
