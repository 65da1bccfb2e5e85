"""Every command of the README and the pages is run, or stands in a table that says why not.

The commands run in a folder with what the pages speak of: untrained runs under their names,
pictures, checkpoints, and CIFAR-10 and SVHN of sixty random images. Options shorten them.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from helpers.cli import here
from helpers.documents import PAGES, ROOT, SCRIPTS, blocks, lines
from helpers.runs import save_run
from PIL import Image
from torch import nn

from jeatcli.checkpoints.networks import make_network
from jeatcli.cli import main
from jeatcli.core.models.layers import Shape
from jeatcli.data.facts import DATASETS

RUNS = (
    *("at", "jeat", "standard", "prejeat", "judge", "net", "net-at", "fast-at", "jeat18", "RUN"),
    *("cifar10-at", "cifar10-jeat", "cifar10-standard", "cifar10-prejeat", "cifar10-at-resnet20"),
    "digits-jeat-small",
)
# Appended to every command of a verb. `--device cpu` comes from the environment.
SHORTER = {
    "train": "--limit 32 -b 16 --val-split 0 --eval-every 0 --sample-every 0",
    "attack": "-n 2",
    "sample": "-n 2 --steps 1",
    "landscape": "",
    "score": "-n 20 --steps 1 --kid-subset-size 10 --kid-subsets 2 --splits 2",
}
SHORTER_KINDS = {
    "path": "-n 1 --steps 1 --beyond 1 --chain 1",
    "histogram": "-n 1",
    "sharpness": "-n 2 --directions 2 --radius 1",
}
# Written as they are meant, run as written here: a small network for a large one, no compiler.
INSTEAD = {
    "--compile": "",
    "--norm l1 --attack autoattack": "--norm l1 --attack apgd-ce --attack apgd-t",
    "--attack autoattack": "--attack quick",
    "--minimum-norm": "--minimum-norm --steps 2",
    "--purify 10": "--purify 2 --steps 2",
    "--certify ": "--certify --certify-draws 20 ",
    "--norm l1": "--norm l1 --steps 4",
    "--arch wrn-28-10": "--arch cifar-resnet-8",
    "--arch resnet-18-v1": "--arch cifar-resnet-8",
    "$method": "jeat",
    "--budget 30m": "--budget 1s",
}
# The settings are resolved and printed, and nothing is trained: the networks are large.
DRY_RUN = ("--preset", "--arch resnet-18", "--arch wrn-16-4", "--method dat --init-from")
# Only read: RobustBench's networks are large, Inception's weights are a download.
READ = {
    "jeat attack theirs.pt --arch robustbench:": "the network is large",
    "jeat score cifar10-jeat": "Inception is a download",
    "jeat attack runs/at --on cifar10-c": "the corrupted images are a download",
    "jeat attack hf-hub:": "tests/checkpoints/test_hub.py",
    "jeat sample hf-hub:": "tests/checkpoints/test_hub.py",
}
# No command of `jeat`: a prefix of the line, and who runs it instead.
OTHERS = {
    "export ": "where the benchmarks' runs are",
    "hf upload": "the hub",
    "pip install": "CI, and the installation of the tests",
    "python -m pytest -n auto": "CI",
    "JEAT_PLUGINS=mine.py": "tests/cli/test_plugins.py",
    "for method in": "the loop; its body is run",
    "done": "the loop",
    "#SBATCH": "Slurm",
    "first=$(scontrol": "Slurm",
}
SHAPE = Shape((3, 32, 32), 10, "batch", "relu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lay out the folder of which the pages speak, and work in it."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("JEAT_RUNS_DIR", str(folder / "runs"))
        for number, name in enumerate(RUNS):
            save_run(name, dataset="cifar10", method="at", seed=number)
        rng = np.random.default_rng(0)
        for name in ("three.png", "hole.png", *(f"textures/{k}.png" for k in range(20))):
            Path(name).parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(name)
        Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save("hole.png")
        Path("hard.txt").write_text("3 5\n")
        Path("models").mkdir()
        Path("models/net.py").write_text(
            "from jeatcli.checkpoints.networks import make_network\n"
            "from jeatcli.core.models.layers import Shape\n"
            "def make():\n"
            "    return make_network('cifar-resnet-8', Shape((3, 32, 32), 10, 'batch', 'relu'))\n"
        )
        torch.manual_seed(0)
        torch.save(make_network("cifar-resnet-8", SHAPE).state_dict(), "theirs.pt")
        torch.save(make_network("cifar-resnet-20", SHAPE).state_dict(), "resnet20-12fca82f.th")
        yield folder


@pytest.fixture
def inside(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in that folder for one test."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("JEAT_RUNS_DIR", str(world / "runs"))
    monkeypatch.setenv("JEAT_DEVICE", "cpu")
    for name in ("cifar10", "svhn"):
        row = replace(DATASETS[name], target="helpers.documents:random_images")
        monkeypatch.setitem(DATASETS._entries, name, row)
    return world


def kind_of(line: str) -> str:
    """Say what is done with a line; one that no test knows is an error."""
    if line.startswith(tuple(OTHERS)):
        return "others"
    kind = "benchmark" if line.startswith("python benchmarks/") else line.partition(" ")[0]
    assert kind in ("benchmark", "jeat"), f"no test knows what to do with: {line}"
    return kind


EVERY = list(dict.fromkeys(line for page in PAGES for line in lines(page)))
OURS = [line for line in EVERY if kind_of(line) == "jeat"]


def shortened(line: str, number: int) -> str:
    """Return the command as the test runs it."""
    for long, short in INSTEAD.items():
        line = line.replace(long, short)
    verb, words = line.split()[1], line.split()
    more = SHORTER.get(verb, "")
    if verb == "train":
        # The network of CIFAR-10, the default, is large.
        large = not {"--arch", "--dataset"} & {*words}
        if large or any(word in line for word in DRY_RUN):
            return f"{line} --dry-run"
        # Of several commands that make one run, each makes its own.
        more += f" -o made-{number}" + " --epochs 1 --max-steps 1" * ("--budget" not in words)
    elif verb == "landscape":
        more = SHORTER_KINDS.get(next(iter(re.findall(r"--kind (\S+)", line)), ""), "--grid 3")
    elif "--calibration" in words:
        more = "-n 20"
    elif "--indices" in words:
        more = ""
    return f"{line} {more}"


@pytest.mark.parametrize("line", OURS)
def test_every_command_does_what_it_says(inside: Path, line: str) -> None:
    command = shortened(line, OURS.index(line))
    words = shlex.split(command)[1:]
    if line.partition("-m ")[2].replace("jeatcli", "jeat").startswith(
        tuple(READ)
    ) or line.startswith(tuple(READ)):
        verb = main.get_command(click.Context(main), words[0])
        assert verb is not None
        verb.make_context(words[0], shlex.split(line.partition(words[0])[2]))
        return
    said = here(*words)
    allowed = (0, 4) if "--fail-under" in line else (0,)
    assert said.exit_code in allowed, f"{command}\n{said.stderr}"
    assert said.stdout
    # The latest run stays one of those that were laid out.
    for made in (inside / "runs").glob("made-*"):
        shutil.rmtree(made)


@pytest.mark.parametrize("line", [line for line in EVERY if kind_of(line) == "benchmark"])
def test_every_benchmark_has_its_options(line: str) -> None:
    _, script, *words = shlex.split(line)
    code = (ROOT / script).read_text(encoding="utf-8")
    for other in re.findall(r"^from (\w+) import", code, re.M):
        if (ROOT / "benchmarks" / f"{other}.py").is_file():
            code += (ROOT / "benchmarks" / f"{other}.py").read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in code or f'"{word[2:]}"' in code, f"{script} has no {word}"


def test_no_row_of_the_tables_is_left_over() -> None:
    text = "\n".join(EVERY)
    for word in (*INSTEAD, *OTHERS, *DRY_RUN, *READ):
        assert word in text, word
    for word, where in SCRIPTS.items():
        assert word.split()[-1] in (ROOT / where).read_text(encoding="utf-8")
        assert any(word in block for page in PAGES for block in blocks(page, "sh"))


# In Python too, a small network for a large one.
SMALLER = {
    r"(num|steps)=\d+": r"\1=1",
    '"pretrained"': '"jeat"',
    '"resnet-18-v1"': '"cifar-resnet-8"',
    '"autoattack"': '"quick"',
    "classes=7": "classes=10",
}
# The whole of these is in other tests.
ELSEWHERE = {
    "extending.md": "tests/cli/test_plugins.py, sampling/test_tables.py, training/test_trackers.py",
    "python.md": "the doctests below",
}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and page.name not in ELSEWHERE],
    ids=lambda page: page.name,
)
def test_every_snippet_runs(inside: Path, page: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4)
    names = {"net": net, "x": x, "y": y, "torch": torch}
    for code in blocks(page, "python"):
        for long, short in SMALLER.items():
            code = re.sub(long, short, code)
        exec(code, names)


def test_every_message_is_one_of_ours() -> None:
    files = (ROOT / "src").rglob("*.py")
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    code = re.sub(r"\{[^{}]*\}", "…", code)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### (.*)$", page, re.M)
    assert len(messages) > 20
    for message in messages:
        parts = [part for part in message.split("…") if part.strip(" `,.:()")]
        for part in parts:
            assert part in code, message
