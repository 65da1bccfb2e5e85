"""Write SKILL.md and docs/llms.txt, for assistants, from the commands and the menu of the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
from generated import update

from jeatcli.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
SKILL, LLMS = ROOT / "SKILL.md", ROOT / "docs" / "llms.txt"
SUMMARY = "Train, attack, sample, map and score adversarially robust energy-based classifiers"
HABITS = """\
- Every command takes `--json`: one object on stdout, everything else on stderr.
- `-q` prints errors and the result only. `jeat COMMAND --help` lists every option.
- A long command is resumed by running it again; Ctrl-C and SIGTERM save first and exit with 130.
- A RUN is a name, a path with a slash, or a checkpoint; by default the latest finished run.
- A file is only written over by the command that wrote it: choose another `-o`, do not delete.
- On a CPU, train with `--arch small --budget 30m`, or `--dataset digits`, which needs no download.
- Report a number with its protocol: attack, norm, eps and n, or what `jeat score` prints with it.
- `warnings` in the result are reasons to doubt it; the page on attacks explains each.
- `JEAT_PLUGINS=mine.py` adds methods, attacks and networks of your own (`docs/extending.md`).
"""


def examples(command: click.Command) -> list[str]:
    """Return the examples of a command's help."""
    found = (command.help or "").partition("Examples:")[2]
    return [line.strip() for line in found.splitlines() if line.strip().startswith("jeat ")]


def exit_codes() -> str:
    """Return the exit codes that the help of the group lists."""
    help_text = main.get_help(click.Context(main, info_name="jeat", terminal_width=100))
    lines = help_text.partition("Exit codes:\n")[2].split("\n\n")[0].splitlines()
    return "\n".join(f"- {line.strip()}" for line in lines)


def skill() -> str:
    """Return the text of SKILL.md."""
    parts = [
        "---\nname: jeat",
        f"description: {SUMMARY} with the command `jeat`. Use it to measure the robustness of a "
        "PyTorch image classifier, to draw images from one, or to train one.",
        "---\n",
        "# jeat\n",
        "Written by `docs/generate_skill.py` from the commands' own help.\n",
        HABITS,
    ]
    context = click.Context(main)
    for name, summary in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        lines = "\n".join(examples(command))
        parts.append(f"## jeat {name}\n\n{summary}\n\n```text\n{lines}\n```\n")
    parts.append(f"## Exit codes\n\n{exit_codes()}\n")
    return "\n".join(parts)


def first_sentence(page: Path) -> str:
    """Return the first sentence of a page's text."""
    for paragraph in page.read_text(encoding="utf-8").split("\n\n"):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
        if not text.startswith(("#", "```", "|", "![")):
            return re.split(r"(?<=[.:]) (?=[A-Z`])", text, maxsplit=1)[0].rstrip(":.")
    return ""


def llms() -> str:
    """Return the text of llms.txt: the pages by the menu of the site."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    lines = [f"# jeat-cli\n\n> {SUMMARY}\n", HABITS]
    for line in menu.splitlines():
        if page := re.match(r"      - (.+): (\w+)\.md$", line):
            about = first_sentence(ROOT / "docs" / f"{page[2]}.md")
            lines.append(f"- [{page[1]}]({page[2]}.html): {about}")
        elif heading := re.match(r"  - (.+):$", line):
            lines.append(f"\n## {heading[1]}\n")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """Return what is written, by path."""
    return {SKILL: skill(), LLMS: llms()}


if __name__ == "__main__":
    sys.exit(update(pages()))
