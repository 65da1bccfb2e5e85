"""The help: complete, the same as the page in docs/, and there without torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jeatcli.cli import COMMANDS, main
from jeatcli.methods import METHODS

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "numpy", "matplotlib", "PIL", "torch_fidelity", "rich"}
LOADED = """
import json, sys
from jeatcli.cli import main
try:
    main(sys.argv[1:], prog_name="jeat")
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def python(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    done = python("-c", LOADED, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not HEAVY & set(json.loads(done.stderr.splitlines()[-1]))


def test_package_loads_nothing_heavy():
    code = "import jeatcli, sys; print(jeatcli.__version__, jeatcli.Threat('linf', 8 / 255))"
    done = python("-c", f"{code}; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" linf 8/255\n")


def test_completion_loads_nothing_heavy():
    done = python(
        "-c",
        LOADED,
        _JEAT_COMPLETE="bash_complete",
        COMP_WORDS="jeat train --method ",
        COMP_CWORD="3",
    )
    assert "plain,jeat" in done.stdout
    assert not HEAVY & set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=str)
def test_every_line_fits_a_terminal_of_80_columns(arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(main, [*arguments, "--help"]).stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_version():
    shown = CliRunner().invoke(main, ["--version"]).stdout
    assert shown.startswith("jeat ")
    assert "(Python 3." in shown
    assert ", torch " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    options = [param for param in command(name).params if isinstance(param, click.Option)]
    flags = [flag for option in options for flag in (*option.opts, *option.secondary_opts)]
    assert len(flags) == len(set(flags))
    for option in options:
        assert option.help, option.name
        assert option.help[0].isupper() or option.help.startswith(
            ("auto", "batch", "l2", "inception")
        )
        assert not option.help.endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_and_a_summary(name):
    shown = CliRunner().invoke(main, [name, "-h"]).stdout
    assert f"Examples:\n    jeat {name}" in shown
    assert command(name).get_short_help_str(200) == COMMANDS[name]


def test_group_help_lists_commands_and_exit_codes():
    shown = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert all(f"\n    {code} " in shown for code in ("0", "1", "2", "3", "130"))
    assert all(name in shown for name in ("JEAT_RUNS_DIR", "JEAT_DEVICE", "JEAT_TRAIN_EPS"))


def test_train_help_lists_what_there_is():
    shown = CliRunner().invoke(main, ["train", "--help"]).stdout
    for name in (*METHODS, "digits", "folder:PATH", "wrn-D-W", "small"):
        assert f"\n  {name} " in shown


def test_help_is_a_command_too():
    for words, same in ((["help"], ["--help"]), (["help", "train"], ["train", "--help"])):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0
        assert result.stdout == CliRunner().invoke(main, same).stdout
    for word, option in (("runs", "runs"), ("list", "runs"), ("info", "info")):
        assert f"did you mean `jeat --{option}`?" in CliRunner().invoke(main, [word]).stderr
    resume = CliRunner().invoke(main, ["train", "--resume"])
    assert "a run resumes by the same command" in resume.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["--info"]])
def test_help_onto_a_full_device_is_an_error_in_words(words):
    command = [sys.executable, "-m", "jeatcli", *words]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        said = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered
        )
    assert said.returncode == 1
    error, hint = said.stderr.splitlines()  # and nothing of Python's when it ends
    assert error == "Error: no space left on the disk"
    assert hint.startswith("Hint: ")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_breaks_no_line_at_a_hyphen(name):
    for width in ("60", "80", "200"):
        shown = CliRunner().invoke(main, [name, "--help"], env={"COLUMNS": width}).stdout
        assert not [line for line in shown.splitlines() if re.search(r"\w-$", line)]
        assert shown.isascii() or "\N{NON-BREAKING HYPHEN}" not in shown


def test_options_of_a_list_need_the_list():
    for words in (["--sort", "robust"], ["--json"]):
        said = CliRunner().invoke(main, words)
        assert said.exit_code == 2
        assert "belong to `--runs` or `--info`" in said.stderr


def test_public_names_are_no_files():
    import jeatcli

    files = {path.stem for path in (ROOT / "src" / "jeatcli").iterdir()}
    assert not files & set(jeatcli.__all__)
    assert set(jeatcli._HOMES) == set(jeatcli.__all__)
    assert all(getattr(jeatcli, name) is not None for name in jeatcli.__all__)
    assert set(jeatcli.__all__) < set(dir(jeatcli))
    with pytest.raises(AttributeError, match="has no attribute `nothing`"):
        _ = jeatcli.nothing
