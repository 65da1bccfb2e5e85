"""The pages: their commands and their Python, as a reader would copy them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import torch

from jeatcli.data.facts import DATASETS, Request
from jeatcli.data.folder import Parts

ROOT = Path(__file__).resolve().parents[2]
# Blocks with these words are run as a whole, by a test of their own.
SCRIPTS = {"| jq": "tests/cli/test_runs_table.py"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def lines(page: Path) -> list[str]:
    """Return every command of the page's shell blocks, without comments and `torchrun`."""
    scripts = [block for block in blocks(page, "sh") if not any(map(block.__contains__, SCRIPTS))]
    whole = [block.replace("\\\n", " ") for block in scripts]
    each = (line for block in whole for line in block.splitlines())
    split = (re.split(r"(?:^|\s)#(?!SBATCH)", line)[0] for line in each)
    parts = (" ".join(part.split()) for line in split for part in line.split("&&"))
    return [re.sub(r"^.*torchrun .* -m jeatcli ", "jeat ", part) for part in parts if part]


def commands(page: Path) -> list[list[str]]:
    """Return every `jeat` command of the page's shell blocks, split into words."""
    return [shlex.split(line) for line in lines(page) if line.startswith("jeat ")]


def random_images(request: Request) -> Parts:
    """Stand in for a published data set: sixty random images, each class in turn."""
    facts = DATASETS[request.name]
    generator = torch.Generator().manual_seed(len(request.split))
    x = torch.randint(256, (60, *facts.shape), generator=generator, dtype=torch.uint8)
    return x, torch.arange(60) % len(facts.classes), facts.classes
