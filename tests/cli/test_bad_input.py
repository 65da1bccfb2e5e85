"""Wrong names, numbers and settings are told with the fix, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.cli import (
    QUICK,
    STANDARD,
    done,
    here,
    jeat,
    refused,
    untouched,
)

from jeatcli.core.models.classifier import Classifier

LATEST = "digits-jeat-small"


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["train", "--method", "jaet"], "unknown method `jaet`", "did you mean `jeat`?"),
        (
            [*STANDARD, "-O", "eps=0.1"],
            "method `standard` has no option `eps`",
            "leave it out, or choose a method that has it: `at`, `dat`, ",
        ),
        (
            ["train", *QUICK, "-O", "lamda=1"],
            "method `jeat` has no option `lamda`",
            "did you mean `lambda`?",
        ),
        (["train", "--dataset", "cifar"], "unknown data set `cifar`", "did you mean `cifar10`?"),
        (["train", "--dataset", "folder:"], "unknown data set `folder:`", "`folder:PATH`?"),
        (["train", "--arch", "resnet18"], "unknown architecture `resnet18`", "`resnet-18`?"),
        ([*STANDARD, "--arch", "wrn-27-10"], "`wrn-27-10`", "the nearest is `wrn-28-10`"),
        (["train", "--eps", 8], "eps 8 under linf", "did you mean 8/255?"),
        (["train", "-O", "eps=8"], "eps 8 under linf", "did you mean 8/255?"),
        (["attack", "--eps", 8], "eps 8 under linf", "did you mean 8/255?"),
        (["attack", "--target", "12"], "unknown class `12`", "known: 0, 1, 2"),
        (["attack", "--attack", "pdg"], "unknown attack `pdg`", "did you mean `pgd`?"),
        (["attack", "--eps", 0.1, "--eps", "1/10"], "the threat `0.1` is given twice", "once"),
        (["attack", LATEST, LATEST], "the model `", "name it once"),
        (["attack", "-n", 1, "--target", "8"], "all the images are of the target class", "`-n`"),
        (["sample", "--class", "dog"], "unknown class `dog`", "known: 0, 1, 2"),
        (["score", "--dataset", "digist"], "unknown data set `digist`", "`digits`?"),
        (["sample", "--device", "gpu"], "unknown device `gpu`", "known: auto, cpu, cuda"),
        (["atack"], "unknown command `atack`", "did you mean `attack`?"),
        (["version"], "unknown command `version`", "did you mean `jeat --version`?"),
        (["attack", "--attack", "pgd-20"], "unknown attack", "mean `--attack pgd --steps 20`?"),
        (["attack", "--attack", "aa"], "unknown attack `aa`", "did you mean `autoattack`?"),
        (
            ["attack", "--attack", "pgd,cw"],
            "unknown attack",
            "for several values, repeat `--attack`",
        ),
        (["sample", "--class", "3,8"], "unknown class `3,8`", "`--class 3 --class 8`"),
        (["score", "--metric", "fid"], "`fid` is always computed", "leave it out"),
    ],
    ids=lambda value: " ".join(map(str, value[:5])) if isinstance(value, list) else "",
)
def test_unknown_names(home: Path, arguments: list[str], error: str, hint: str) -> None:
    with untouched(home):
        refused(here(*arguments), 2, f"Error: {error}", "Hint: ", hint)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["train", "--methd", "jeat"], "'--methd': did you mean `--method`?"),
        (
            ["train", "--lambda", 2],
            "'--lambda': an option of a method is written `-O lambda=VALUE`",
        ),
        (["train", "--learning-rate", 1], "'--learning-rate': here it is called `--lr`"),
        (
            ["train", "--steps", 5],
            "did you mean `--attack-steps`, `--max-steps` or `--sgld-steps`?",
        ),
        (["attack", "--epochs", 4], "'--epochs': it is an option of `jeat train`"),
        (["attack", "--model", "x"], "'--model': the model is the argument RUN"),
        (["--method", "jeat"], "'--method': write it after `jeat train`"),
        (["-v"], "'-v': write it after the command"),
        (["attack", "--xyz"], "No such option '--xyz'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_options_that_do_not_exist(arguments: list[str], advice: str) -> None:
    said = here(*arguments)
    refused(said, 2, advice)
    assert not said.stderr.rstrip().endswith(".")


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["attack", "--eps", "0.1", "0.2"], "for several values, write `--eps 0.1 --eps 0.2`;"),
        (["sample", "--class", 3, 8], "for several values, write `--class 3 --class 8`; known: "),
        (["attack", "--eps", "0.1", "nowhere"], "Hint: known: "),
        (["attack", "pgd"], "did you mean `--attack pgd`? known: "),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_values_that_are_taken_for_a_run(home: Path, arguments: list[str], advice: str) -> None:
    with untouched(home):
        refused(here(*arguments), 1, "there is no run `", advice)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["attack", "--norm", "linf,l2"],
            "'linf', 'l2', 'l1'; for several values, repeat `--norm`",
        ),
        (["train", "--seed", -1], "must be at least 0, not -1"),
        (["--sort", "foo"], "'fd', 'size'"),
        (["attack", "--eps", 2000], "must be at least 0 and at most 1,000, not 2000"),
        (
            ["sample", LATEST, "--class", 3, 8, 9],
            "(8 9); for several values, write `--class 3 --class 8 --class 9`",
        ),
        (["sample", LATEST, "other"], "argument (other): `jeat sample` takes one RUN"),
        (["landscape", LATEST, "--figsize", "12"], "requires 2 arguments: `--figsize W H`"),
        (["landscape", "--figsize", "12x2", "2"], "`12x2` is not a number; write `--figsize W H`"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_values_that_do_not_fit(arguments: list[str], words: str) -> None:
    said = here(*arguments)
    refused(said, 2, words)
    assert not said.stderr.rstrip().endswith(".")


@pytest.mark.parametrize(
    ("arguments", "usual"),
    [
        (["sample", "--guidance", "x"], False),
        (["train", "-O", "lambda=x", "--dry-run"], False),
        (["train", "-O", "eps=x", "--dry-run"], True),
        (["landscape", "--unit", "x"], True),
    ],
)
def test_a_fraction_is_suggested_where_it_is_usual(arguments: list[str], usual: bool) -> None:
    said = here(*arguments)
    refused(said, 2, "`x` is not a number")
    assert ("or a fraction such as 8/255" in said.stderr) is usual


@pytest.mark.parametrize("verb", ["train", "attack", "sample", "score"])
def test_what_torch_cannot_compile_is_refused_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def begin(*_: object, **__: object) -> None:
        raise AssertionError("begun")

    monkeypatch.setattr(Classifier, "features", begin)
    given = STANDARD if verb == "train" else (verb,)
    with untouched(home):
        said = here(*given, "--kernel", "amx", "--compile")
    refused(said, 2, "Error: `--kernel amx` and `--compile` do not go together", "Hint: leave one")


@pytest.mark.parametrize("device", ["cuda:99", "mps"])
@pytest.mark.parametrize("verb", ["attack", "sample", "landscape"])
def test_a_device_that_does_not_exist(home: Path, verb: str, device: str) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    with untouched(home):
        said = here(verb, "--device", device)
    refused(said, 1, f"Error: device `{device}` does not exist", "Hint: use `--device auto`")


def test_training_on_a_device_that_does_not_exist(home: Path) -> None:
    refused(here(*STANDARD, "-o", "new", "--device", "cuda:99"), 1, "device `cuda:99`")
    assert not (home / "new").exists()


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("datset = 'digits'", "unknown key `datset` in `", "did you mean `dataset`?"),
        ("lr = = 3", "settings.toml` is not valid TOML", "at line 1, column 6"),
        ("[options]\nattack_steps = inf", "`attack_steps` cannot be inf", ""),
        ("[options]\nattack_steps = [1]", "`attack_steps` cannot be [1]", ""),
        ("[options]\nattack_steps = 2.5", "`attack_steps` cannot be 2.5", ""),
        ("[options]\nnorm = 3", "unknown norm `3`", "known: l1, l2, linf"),
    ],
)
def test_settings_in_a_file(home: Path, tmp_path: Path, text: str, error: str, hint: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with untouched(home):
        refused(here("train", "-c", tmp_path / "settings.toml"), 2, error, hint)


@pytest.mark.parametrize(
    ("verb", "name", "value"),
    [
        ("attack", "JEAT_ATTACK_STEPS", "x"),
        ("attack", "JEAT_ATTACK_ATTACK", "pgdd"),
        ("sample", "JEAT_DEVICE", "gpu"),
        ("sample", "JEAT_SAMPLE_FORMAT", "bmp"),
        ("landscape", "JEAT_LANDSCAPE_UNIT", "1/0"),
        ("score", "JEAT_SCORE_JSON", "maybe"),
        ("train", "JEAT_TRAIN_EPOCHS", "5.5"),
    ],
)
def test_a_value_of_the_environment_is_named_by_its_variable(
    home: Path, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with untouched(home):
        refused(here(verb), 2, f"(in the environment: `{name}`)")


@pytest.mark.parametrize(
    ("verb", "name", "value", "words"),
    [
        ("attack", "JEAT_ATTACK_QUERIES", "3", "`pgd` has no `--queries`"),
        ("attack", "JEAT_ATTACK_PURIFY_DRAWS", "3", "`--purify-draws` is for `--purify`"),
        ("train", "JEAT_TRAIN_EPS", "8", "eps 8 under linf is more than the whole pixel range"),
        ("train", "JEAT_TRAIN_OPTION", "lambd=2", "has no option `lambd`"),
    ],
)
def test_a_variable_that_does_not_fit_the_command_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, value: str, words: str
) -> None:
    """Or nobody would find the option, which was not typed."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv(f"JEAT_{verb.upper()}_SEED", "1")  # has nothing to do with it
    with untouched(home):
        refused(here(verb), 2, words, f"(in the environment: `{name}`)")


def test_a_variable_that_is_no_option_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JEAT_ATTACK_NUMM", "5")
    hint = "did you mean `JEAT_ATTACK_NUM`?"
    refused(here("attack"), 2, "`JEAT_ATTACK_NUMM` in the environment is not an option", hint)


def test_a_misspelt_variable_of_all_commands_is_refused(home: Path) -> None:
    for words in (("--runs",), ("attack",)):
        said = here(*words, JEAT_RUN_DIR="elsewhere")
        refused(said, 2, "`JEAT_RUN_DIR` in the environment means nothing", "`JEAT_RUNS_DIR`?")
    said = here("attack", JEAT_ATTAK_EPS="0.1")
    refused(said, 2, "`JEAT_ATTAK_EPS` in the environment means nothing", "`JEAT_ATTACK_EPS`?")
    done("--runs", JEAT_OTHER="is for another program")


def test_a_value_of_a_file_is_named_by_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("epochs = true")
    said = here("train", "-c", tmp_path / "settings.toml", "--preset", "rice2020")
    refused(said, 2, "`True` is not a whole number (in `", "settings.toml`)")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--method", "jaet"], 2, "Hint: did you mean `jeat`?"),
        (["attack", "standart"], 1, "Hint: did you mean `standard`?"),
        (["sample", "-o", f"{__file__}/grid.png"], 1, "test_bad_input.py` is a file"),
        (["landscape", "digits-jaet"], 1, f"Hint: did you mean `{LATEST}`?"),
        (["score", "--dataset", "digist"], 2, "Hint: did you mean `digits`?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_executable_refuses_before_it_loads_torch(
    home: Path, arguments: list[str], code: int, words: str
) -> None:
    with untouched(home):
        said = jeat(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert " torch\n" not in said.stderr
    refused(said, code, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sample", "--class", "9" * 5000), "unknown class `999"),
        (
            ("sample", "-n", 1, "--scale", 2**63),
            "'--scale': must be from 1 to 1,000, not 9223372036854775808",
        ),
        (
            ("landscape", "--style", "~nobody-of-that-name/x"),
            "is not the home directory of any user",
        ),
        (("score", "--features", "standard", "--kid-subsets", 10**9), "must be from 1 to 100,000"),
    ],
    ids=["class", "scale", "style", "subsets"],
)
def test_values_that_python_or_torch_would_choke_on(
    home: Path, arguments: tuple[object, ...], words: str
) -> None:
    refused(here(*arguments), 2, words)


def test_settings_of_a_run_whose_options_are_no_table(home: Path) -> None:
    config = home / "standard" / "config.toml"
    config.write_text("options = 3\n" + config.read_text().partition("[options]")[0])
    refused(here(*STANDARD, "-o", "standard"), 2, "`options` cannot be 3", "config.toml")
