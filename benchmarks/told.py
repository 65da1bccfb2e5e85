"""A listener that prints the details that `--verbose` shows."""

from __future__ import annotations

from jeatcli.runtime.progress import Silent


class Told(Silent):
    """Print details, such as the way of computing a network that was chosen."""

    def detail(self, text: str) -> None:
        """Print a line."""
        print(text)
