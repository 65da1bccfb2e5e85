"""What the command line understands: types, files, environment, and which of them wins."""

from __future__ import annotations

import os
import signal
import tomllib
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from helpers.cli import here

from jeatcli.cli import main, terminal
from jeatcli.cli.sample import destination
from jeatcli.cli.train import stop_on_signal
from jeatcli.cli.types import BY_KIND, RUN
from jeatcli.errors import UsageProblem
from jeatcli.runtime.interrupts import answered_by
from jeatcli.sampling.settings import SampleOutput

DIGITS = ["train", "--dataset", "digits", "--dry-run"]


def run(*arguments, **environment):
    return CliRunner().invoke(main, list(arguments), env=environment)


def resolved(*arguments, **environment):
    result = run(*DIGITS, *arguments, **environment)
    assert result.exit_code == 0, result.stderr
    return tomllib.loads(result.stdout)


def refused(*arguments, **environment):
    result = run(*arguments, **environment)
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return str(path)

    return write


def test_dry_run_prints_a_file_that_repeats_itself(tmp_path):
    first = run(*DIGITS, "--method", "jeat", "-O", "lambda=0.5", "--eps", "8/255")
    path = tmp_path / "config.toml"
    path.write_text(first.stdout)
    again = run("train", "-c", str(path), "--dry-run")
    assert again.exit_code == 0, again.stderr
    assert again.stdout == first.stdout


def test_short_forms_are_options_of_the_method():
    options = resolved("--norm", "L2", "--eps", "0.5", "--sgld-steps", "3")["options"]
    assert (options["norm"], options["eps"], options["sgld_steps"]) == ("l2", 0.5, 3)


def test_command_line_wins_over_environment_over_file(toml):
    path = toml("epochs = 1\nbatch-size = 2\nlimit = 3\n[options]\neps = 0.1\nsgld-steps = 7\n")
    found = resolved("-c", path, "--epochs", "5", JEAT_TRAIN_EPOCHS="6", JEAT_TRAIN_LIMIT="9")
    assert (found["epochs"], found["batch_size"], found["limit"]) == (5, 2, 9)
    options = resolved("-c", path, "-O", "eps=0.2", "-O", "lambda=2")["options"]
    assert (options["eps"], options["sgld_steps"], options["lambda"]) == (0.2, 7, 2.0)
    assert resolved("-c", path, JEAT_TRAIN_EPS="8/255")["options"]["eps"] == 8 / 255
    assert resolved("-c", path, JEAT_TRAIN_OPTION="eps=0.3 reinit=0.5")["options"]["eps"] == 0.3
    options = resolved("-O", "eps=0.2", JEAT_TRAIN_OPTION="eps=0.3 reinit=0.5")["options"]
    assert (options["eps"], options["reinit"]) == (0.2, 0.5)


@pytest.mark.parametrize("verb", ["train", "attack", "sample", "landscape", "score"])
def test_every_option_has_a_variable_of_its_flag(verb, monkeypatch):
    """`JEAT_ATTACK_CLASS` is `--class`, whatever the parameter is called in the code."""
    command = main.get_command(click.Context(main), verb)
    context = click.Context(command, auto_envvar_prefix=f"JEAT_{verb.upper()}")
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert len(options) > 10
    for option in options:
        flag = max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
        monkeypatch.setenv(f"JEAT_{verb.upper()}_{flag}", "told")
        assert option.resolve_envvar_value(context) == "told", flag


def test_a_flag_and_a_list_by_their_variables(monkeypatch):
    shown = run(*DIGITS, JEAT_TRAIN_COMPILE="1")
    assert "compile = true" in shown.stdout
    refusal = run("attack", "none", JEAT_ATTACK_ATTACK="autoattack nothing")
    assert "nothing" in refusal.stderr


def test_verbose_tells_who_set_what(toml):
    path = toml("epochs = 1\n")
    result = run(*DIGITS, "-v", "-c", path, JEAT_TRAIN_SEED="4")
    for line in (
        'dataset = "digits"  # command line',
        "epochs = 1  # file",
        "seed = 4  # environment",
    ):
        assert line in result.stdout.splitlines()
    assert tomllib.loads(result.stdout) == tomllib.loads(
        run(*DIGITS, "-c", path, JEAT_TRAIN_SEED="4").stdout
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 1", "unknown key `epoch` in `"),
        ("epoch = 1", "did you mean `epochs`?"),
        ("epochs = 1.5", "`1.5` is not a whole number"),
        ("epochs = [1]", "`epochs` in `"),
        ("options = 3", "`options` in `"),
        ("compile = 'yes'", "must be true or false, not 'yes'"),
        ("decay-norms = 1", "must be true or false, not 1"),
        ("epochs = ", "settings.toml` is not valid TOML"),
        ("lr = 1\nepochs = x", "at line 2, column 10"),
        ("[options]\nlamda = 1", "did you mean `lambda`?"),
        ("eps = 0.1\n[options]\neps = 0.1", "`eps` is given twice"),
        ("method = 'jaet'", "did you mean `jeat`?"),
        ("[options]\nnorm = {a = 1}", "unknown norm `{'a': 1}`"),
        ("[options]\nnorm = [['l2']]", "unknown norm `[['l2']]`"),
    ],
)
def test_bad_files(toml, text, words):
    assert words in refused(*DIGITS, "-c", toml(text))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "jaet"], "unknown method `jaet` Hint: did you mean `jeat`?"),
        (["--dataset", "cifar"], "unknown data set `cifar` Hint: did you mean `cifar10`?"),
        (["--arch", "wrn28-10"], "unknown architecture `wrn28-10`"),
        (["--device", "gpu"], "unknown device `gpu` Hint: known: auto, cpu"),
        (["--dataset", "cifar10", "--eps", "8"], "did you mean 8/255?"),
        (["--eps", "8/0"], "not a number or a fraction"),
        (["--eps", "nan"], "must be at least 0 and at most 1,000, not nan"),
        (["--reinit", "1.5"], "at most 1"),
        (["--lr", "0"], "above 0"),
        (["--json"], "`--dry-run` prints TOML, not JSON"),
        (["--arch", "wrn-10-999999"], "`wrn-10-999999` has width 999999"),
        (["-O", "lambda"], "`lambda` is not of the form KEY=VALUE"),
        (["-O", "lamda=1"], "method `jeat` has no option `lamda`"),
        (["-O", "eps=0.1", "--eps", "0.1"], "`eps` is given twice, by `--eps`"),
        (["--method", "standard", "--eps", "0.1"], "method `standard` has no option"),
        (["--milestones", "0.5"], "`--milestones` is for `--schedule multi-step`"),
        (["--lr-decay", "0.5", "--schedule", "cosine"], "and this one is `cosine`"),
        (["-c", "nowhere.toml"], "'nowhere.toml' does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options(arguments, words):
    assert words in refused("train", "--dry-run", *arguments)


@pytest.mark.parametrize(
    "arguments", [["attack", "--attack", "pdg"], ["sample", "--init", "x"], ["nothing"], []]
)
def test_usage_errors_exit_with_2(arguments):
    assert run(*arguments).exit_code == 2


def test_a_mistyped_command_has_a_near_one():
    assert "unknown command `trian` Hint: did you mean `train`?" in refused("trian")


def test_names_are_taken_in_any_case():
    assert resolved("--method", "JEAT", "--norm", "Linf")["method"] == "jeat"
    assert BY_KIND["dataset"].convert("folder:My/Pictures", None, None) == "folder:My/Pictures"
    assert BY_KIND["arch"].convert("WRN-16-4", None, None) == "wrn-16-4"
    assert BY_KIND["device"].convert("CUDA:1", None, None) == "cuda:1"


def test_completion(monkeypatch):
    from jeatcli.checkpoints import runs

    monkeypatch.setattr(runs, "names", lambda: ["digits-at", "digits-jeat"])

    def offered(kind, text):
        return [item.value for item in kind.shell_complete(None, None, text)]

    assert offered(RUN, "digits-j") == ["digits-jeat"]
    assert offered(BY_KIND["method"], "je") == ["jeat", "jem", "jem++"]
    assert offered(BY_KIND["dataset"], "fo") == ["folder:PATH"]
    assert offered(BY_KIND["images"], "mn") == ["mnist"]
    assert [item.type for item in BY_KIND["images"].shell_complete(None, None, "t")] == ["file"]
    assert {"wrn-28-10", "cifar-resnet-20", "resnet-18-v1"} <= set(offered(BY_KIND["arch"], ""))
    assert offered(BY_KIND["features"], "") == [
        "inception",
        "dinov2",
        "clip",
        "digits-at",
        "digits-jeat",
    ]
    assert offered(BY_KIND["device"], "cu") == ["cuda"]
    assert [item.type for item in RUN.shell_complete(None, None, "./d")] == ["file"]
    style, cmap = BY_KIND["style"], BY_KIND["colour map"]
    assert offered(style, "gg") == ["ggplot"]
    assert [item.type for item in style.shell_complete(None, None, "paper.m")] == ["file"]
    assert {"magma", "viridis"} <= set(offered(cmap, ""))


def test_classes_of_the_hub_are_not_downloaded_to_complete_them(monkeypatch):
    from jeatcli.checkpoints import runs

    monkeypatch.setattr(runs, "download", lambda *_: pytest.fail("a download"))
    context = SimpleNamespace(params={"run": "hf-hub:someone/net"})
    assert BY_KIND["class"].shell_complete(context, None, "d") == []


def test_where_samples_go(tmp_path):
    home = tmp_path / "samples"
    dog = {"interpolate": None, "image": None, "inpaint": None, "seed": 0, "classes": ("dog",)}

    def goes(out, layout):
        return destination(SampleOutput(out=out, layout=layout), home, dog)

    assert goes(None, "grid") == (home / "dog-seed0.png", True)
    assert goes(None, "png") == (home / "dog-seed0", True)
    assert goes(tmp_path, "npz") == (tmp_path / "dog-seed0.npz", True)
    assert goes(tmp_path / "a.PNG", "grid") == (tmp_path / "a.PNG", False)
    assert goes(tmp_path / "a", "png") == (tmp_path / "a", False)
    assert goes(tmp_path / "a.NPZ", None) == (tmp_path / "a.NPZ", False)
    for name, layout in (("a.jpg", "grid"), ("a.png", "npz"), ("a.png", "png")):
        with pytest.raises(UsageProblem, match="--format"):
            goes(tmp_path / name, layout)
    with pytest.raises(UsageProblem, match="stdout"):
        goes(Path("-"), "png")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has one signal")
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_command_ends_as_by_ctrl_c(kind, home, monkeypatch):
    number = getattr(signal, kind)
    before = signal.getsignal(number)
    monkeypatch.setattr(
        "jeatcli.sampling.sample.prepare", lambda *_, **__: os.kill(os.getpid(), number)
    )
    said = here("sample", "-n", 1, "--steps", 1)
    assert said.exit_code == 130
    assert "Error: " in said.stderr
    assert signal.getsignal(number) is before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with answered_by():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(kind, capsys):
    before = signal.getsignal(kind)
    with stop_on_signal(terminal.Terminal()) as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), kind)
        assert should_stop()
        assert "stopping and saving" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), kind)
    assert signal.getsignal(kind) is before


def test_every_command_takes_the_shared_options():
    for name in ("train", "attack", "sample", "landscape", "score"):
        command = main.get_command(click.Context(main), name)
        flags = {flag for param in command.params for flag in param.opts}
        assert {"--device", "--seed", "--json", "-q", "-v", "-b"} <= flags
