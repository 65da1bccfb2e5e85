"""The model card of a run: what was measured, with protocol and command."""

from __future__ import annotations

import json
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from helpers.cli import done, one
from helpers.runs import save_run

from jeatcli.checkpoints.results import RESULTS_FILE, add_results
from jeatcli.cli.card import _NESTED, CARD, _score, write_card
from jeatcli.cli.score_report import classifier_sections
from jeatcli.robustness.result import Robustness
from jeatcli.runtime.plain import plain
from jeatcli.scoring.calibration import Rescaled, calibrate
from jeatcli.scoring.classifier_scores import ClassifierScores
from jeatcli.scoring.corruptions import Corrupted
from jeatcli.scoring.image_scores import Scores

WARNINGS = [{"name": "zero-gradients", "text": "flat"}, {"name": "other", "text": "few images"}]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JEAT_DEVICE", "cpu")
    save_run("other", seed=1)
    return save_run("a_run", method="jeat").parent


def front_matter(card: str) -> dict[str, object]:
    lines = card.partition("---\n")[2].partition("\n---")[0].splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


def test_every_command_adds_what_it_measured(run: Path) -> None:
    few = ("-n", "20", "--steps", "1", "--kid-subset-size", "10", "--kid-subsets", "2")
    commands = {
        "Accuracy": ("attack", "a_run", "other", "-n", "4", "--steps", "1", "--eps", "0.15"),
        "Samples": ("sample", "a_run", "-n", "2", "--steps", "1"),
        "Energy": ("landscape", "a_run", "other", "--grid", "3", "--image", "0", "--image", "1"),
        "Scores": ("score", "a_run", "--features", "other", *few, "--splits", "2"),
    }
    for words in commands.values():
        done(*words)
    done("score", "a_run", "-n", "20", "--calibration")
    card = (run / CARD).read_text(encoding="utf-8")
    for title, words in commands.items():
        section = card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert f"`jeat {' '.join(words)}`, 20" in section
        assert "|" in section
    assert "![" in card.partition("\n## Samples\n")[2].partition("\n## ")[0]
    assert "| ECE, 15 bins |" in card
    assert "| step size |" in card
    assert "other |" not in card.partition("\n## Accuracy\n")[2].partition("\n## ")[0]
    assert str(run) not in card
    about = front_matter(card)
    (entry,) = about["model-index"]
    metrics = entry["results"][0]["metrics"]
    assert [each["name"] for each in metrics] == [
        "clean accuracy",
        "robust accuracy, pgd, linf 0.15, n = 4",
    ]
    # The other run has a card of its own.
    assert "jeat attack a_run other" in (run.parent / "other" / CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Accuracy", ("attack", "--steps", "1", "--minimum-norm", "--attack", "fmn")),
        ("Accuracy", ("attack", "--steps", "9", "--minimum-norm", "--attack", "fmn")),
        ("Accuracy", ("attack", "--steps", "1", "--certify", "--certify-draws", "20")),
        ("Accuracy", ("attack", "--steps", "1", "--purify", "1")),
        ("Accuracy", ("attack", "--steps", "1", "--norm", "linf", "--norm", "l2")),
        ("Energy", ("landscape", "--kind", "path", "--steps", "1", "--chain", "1")),
        ("Energy", ("landscape", "--kind", "histogram", "--against", "digits")),
        ("Energy", ("landscape", "--kind", "sharpness", "--directions", "2")),
        ("Scores", ("score", "--calibration", "--ood", "digits")),
    ],
)
def test_every_form_of_a_result_is_on_it(run: Path, title: str, words: tuple[str, ...]) -> None:
    shown = done(words[0], "a_run", "-n", "12", *words[1:])
    card = (run / CARD).read_text(encoding="utf-8")
    section = card.partition(f"\n## {title}\n")[2].partition("\n## ")[0].replace("\\", "")
    numbers = re.findall(
        r"\d+\.\d+", "".join(line for line in shown.splitlines() if "/" not in line)
    )
    assert len(numbers) > 1
    assert not set(numbers) - set(re.findall(r"\d+\.\d+", section))


def test_what_is_an_object_within_a_result_is_one_on_the_card() -> None:
    """Else the report looks for its parts in a dictionary, and the card leaves the result out."""
    objects = set()
    for kind in (Robustness, Scores, ClassifierScores):
        for name, hint in get_type_hints(kind).items():
            if any(map(is_dataclass, (hint, *get_args(hint)))):
                objects.add(name)
    assert objects == set(_NESTED)
    found = ClassifierScores(
        run="a_run",
        path=Path("model.safetensors"),
        dataset="cifar10",
        n=40,
        accuracy=0.9,
        calibration=calibrate(torch.tensor([0.7, 0.9]), torch.tensor([True, False])),
        temperature=Rescaled(1.5, 20, 0.2, 0.1, 0.9, 0.8),
        ood={},
        corruptions=Corrupted(40, {"fog": [0.9, 0.8, 0.7, 0.6, 0.5]}, 0.3),
        seconds=1.0,
        device="cpu",
        version="1",
    )
    kept = json.loads(json.dumps(plain(found)))
    assert [vars(each) for each in _score([kept])] == [
        vars(each) for each in classifier_sections(found)
    ]


def test_commands_with_the_same_results_share_a_table(run: Path) -> None:
    drawn = ("landscape", "a_run", "--grid", "3", "-o", "{}.svg")
    for name, more in (("a", ()), ("b", ("--title", "B")), ("c", ("--image", "1"))):
        done(*(word.format(run.parent / name) for word in drawn), *more)
    done("sample", "a_run", "-n", "2", "--steps", "1", "--class", "3", "--class", "8")
    card = (run / CARD).read_text(encoding="utf-8")
    energy = card.partition("\n## Energy\n")[2].partition("\n## ")[0]
    assert energy.count("| run |") == 2
    first, second = energy.split("| run |")[1:]
    assert first.count("`jeat landscape a_run --grid 3") == 2
    assert second.count("`jeat landscape a_run --grid 3") == 1
    assert "\n| classes | 3, 8 |\n" in card


def test_only_flags_of_an_attack_are_named_beside_its_accuracy(run: Path) -> None:
    add_results(
        run / "model.safetensors",
        "attack",
        [one("attack", "a_run", "-n", 4, "--steps", 1) | {"warnings": WARNINGS}],
        "jeat attack a_run",
    )
    write_card(run)
    accuracy = (run / CARD).read_text(encoding="utf-8").partition("\n## Accuracy\n")[2]
    assert "flags: zero-gradients, " in accuracy


def test_the_users_part_and_the_users_file_are_kept(run: Path) -> None:
    write_card(run)
    card = run / CARD
    with card.open("a", encoding="utf-8") as handle:
        handle.write("\nMy notes.\n")
    first = card.read_text(encoding="utf-8").replace("\n---\n", "\nlicense: mit\n---\n", 1)
    card.write_text(first, encoding="utf-8")
    write_card(run)
    assert card.read_text(encoding="utf-8") == first
    card.write_text("Mine.\n")
    write_card(run)
    assert card.read_text() == "Mine.\n"


def test_damaged_results_and_foreign_texts_do_no_harm(run: Path) -> None:
    evil = "<img src=x>|`a`\x1b[31m\n# b"
    attack = {"command": evil, "run": evil, "model": "model.safetensors", "epoch": 7}
    results = {"attack": [attack, {"robust": 3.0}], "score": [{"protocol": 3}], "sample": [{}]}
    (run / RESULTS_FILE).write_text(json.dumps(results))
    write_card(run)
    card = (run / CARD).read_text(encoding="utf-8")
    assert "\x1b" not in card
    assert "\n# b" not in card
    assert "<img" not in card.replace(f"``{' '.join(evil.split())}``", "")


@pytest.mark.parametrize(
    ("method", "words"),
    [("at", "by adversarial training: CE"), ("prejeat", "by PreJEAT: CE"), ("jem", "by JEM: CE")],
)
def test_the_method_is_named_within_a_sentence(method: str, words: str) -> None:
    folder = save_run("named", method=method).parent
    write_card(folder)
    assert words in (folder / CARD).read_text(encoding="utf-8")
