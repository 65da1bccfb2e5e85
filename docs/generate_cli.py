"""Write docs/cli.md from the help of the commands; with --check, only compare."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from generated import update

from jeatcli.cli import COMMANDS, main

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """\
# The command line

The result goes to stdout, everything else to stderr. This page is written by
`docs/generate_cli.py` (`make docs`) from what `jeat --help` prints.
"""


def page() -> str:
    """Return the text of the page."""
    top = click.Context(main, info_name="jeat", terminal_width=100, **main.context_settings)
    parts = [INTRODUCTION, section("jeat", main, top)]
    for name in COMMANDS:
        command = main.get_command(top, name)
        assert command is not None
        parts.append(section(f"jeat {name}", command, click.Context(command, top, name)))
    return "\n".join(parts)


def section(title: str, command: click.Command, ctx: click.Context) -> str:
    """Return the help of one command under a heading."""
    lines = (line.rstrip() for line in command.get_help(ctx).splitlines())
    return f"## {title}\n\n```text\n" + "\n".join(lines) + "\n```\n"


def pages() -> dict[Path, str]:
    """Return what is written, by path."""
    return {PAGE: page()}


if __name__ == "__main__":
    sys.exit(update(pages()))
