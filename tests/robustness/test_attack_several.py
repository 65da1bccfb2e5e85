"""`jeat attack` of several runs, several radii, and of one model by another."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.checkpoints import weights, written
from helpers.cli import done, here, refused
from helpers.runs import save_run
from PIL import Image
from test_attack_command import QUICK, attack

from jeatcli.checkpoints import checkpoint
from jeatcli.checkpoints.runs import MODEL_FILE
from jeatcli.core import objectives, pgd
from jeatcli.core.threat import NORMS
from jeatcli.data.images import load_images
from jeatcli.plots.robust_accuracy import plot
from jeatcli.robustness import evaluate


@pytest.fixture
def run() -> Path:
    return save_run("model", gain=2.0).parent


def test_a_curve(run: Path, tmp_path: Path) -> None:
    radii = ("--eps", 0.01, "--eps", 0.1, "--eps", 0.3)
    picture = tmp_path / "curve.png"
    found = attack("model", *QUICK, *radii, "--plot", picture)
    assert [each["eps"] for each in found["results"]] == [0.01, 0.1, 0.3]
    assert "samples" not in found["results"][0]
    shares = [each["robust"] for each in found["results"]]
    assert shares == sorted(shares, reverse=True)
    record = json.loads((run / "attack-curve.json").read_text())
    assert [each["robust"] for each in record["results"]] == shares
    assert found["results"][0]["outputs"] == {"record": str(run / "attack-curve.json")}
    assert found["outputs"] == {"plot": str(picture)}
    with Image.open(picture) as image:
        assert min(image.size) > 300
        assert json.loads(image.info["jeat"])[2]["robust"] == shares[2]
    alone = attack("model", *QUICK, "--eps", 0.1)
    assert alone["robust"] == shares[1]
    assert not list(run.glob("attack-*/"))


def test_a_comparison(run: Path) -> None:
    save_run("other", gain=2.0, seed=1)
    shown = done("attack", "model", "other", *QUICK, "--eps", 0.1).splitlines()
    assert shown[0].split() == ["run", "eps", "clean", "after", "fgsm", "robust"]
    assert [line.split()[0] for line in shown[1:3]] == ["model", "other"]
    for name, line in zip(("model", "other"), shown[1:3], strict=True):
        assert f"{100 * attack(name, *QUICK, '--eps', 0.1)['robust']:.2f} %" in line


def test_a_preview_beside_the_whole_is_no_part(run: Path) -> None:
    few = ("model", "-n", 1, "--eps", 1)
    shown = done("attack", *few, "--attack", "quick", "--attack", "autoattack")
    assert "quick + autoattack, n = 1" in shown
    assert "a part of AutoAttack" not in shown


def test_runs_of_one_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    for place in ("a", "b"):
        shutil.copytree(run, tmp_path / place / "model")
    found = [tmp_path / place / "model" for place in ("a", "b")]
    shown = done("attack", *found, *QUICK, "--plot", tmp_path / "curve.svg").splitlines()
    assert [line.split()[0] for line in shown[1:3]] == ["a/model", "b/model"]
    drawn = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert "a/model" in drawn
    assert "b/model" in drawn


def test_what_a_later_one_cannot_is_refused_before_the_first(run: Path) -> None:
    refused(here("attack", "model", *QUICK, "--eps", 0.1, "--eps", 8), 2, "eps 8")
    assert not list(run.glob("attack*"))


def test_examples_of_a_model_of_other_classes_are_refused(run: Path, tmp_path: Path) -> None:
    model = checkpoint.load(run / "model.safetensors")
    meta = replace(model.meta, dataset="folder:letters", classes=tuple("abcdefghij"))
    other = tmp_path / "letters.safetensors"
    checkpoint.save_model(other, model.classifier, meta, model.statistics)
    said = here("attack", "model", *QUICK, "--transfer-from", other)
    refused(said, 1, "their classes differ", "--transfer-from")


def test_examples_of_the_model_itself_are_no_transfer(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    for same in ("model", run / MODEL_FILE, copy):
        said = here("attack", "model", *QUICK, "--transfer-from", same)
        refused(said, 2, "has the weights of `model` itself", "name another run")
    save_run("other", gain=2.0, seed=1)
    found = attack("model", "other", *QUICK, "--transfer-from", copy)
    (warned,) = [flag["text"] for flag in found["warnings"] if "no transfer" in flag["text"]]
    assert warned.startswith("`model` has the weights of `--transfer-from copy`")


def test_a_curve_of_two_norms_says_which_is_which(run: Path, tmp_path: Path) -> None:
    found = [evaluate.attack("model", attacks=["fgsm"], norm=each, num=20) for each in NORMS]
    drawn = plot(found, ["one", "two", "three"], tmp_path / "c.svg", 1).read_text(encoding="utf-8")
    shown = "".join(re.findall(r">([^<>\n]+)<", drawn)).replace("\xa0", " ")
    assert all(text in shown for text in ("radius", "one, ℓ∞", "two, ℓ2", "three, ℓ1"))


@pytest.mark.parametrize("turned", [False, True])
def test_a_run_beside_a_strangers_checkpoint(run: Path, tmp_path: Path, turned: bool) -> None:
    """What describes the stranger is for the stranger alone, in either order."""
    theirs = written(tmp_path, weights())
    described = ("--arch", "wrn-10-1", "--dataset", "digits", "--mean", 0, "--std", 1)
    both = [theirs, "model"] if turned else ["model", theirs]
    found = attack(*both, *QUICK, "--eps", 0.1, *described)["results"]
    assert [each["run"] for each in found] == [Path(each).stem for each in both]
    assert {each["run"]: each["method"] for each in found} == {
        "model": "standard",
        "theirs": "foreign",
    }
    transferred = attack("model", *QUICK, "--eps", 0.1, "--transfer-from", theirs, *described)
    assert transferred["transfer_from"] == "theirs"
    # What cannot be loaded is found out before the first one is attacked.
    for record in run.glob("attack*.json"):
        record.unlink()
    both = [tmp_path / "none.pt" if each == theirs else each for each in both]
    refused(here("attack", *both, *QUICK, *described), 1, "no run or checkpoint")
    undescribed = [theirs if each != "model" else each for each in both]
    refused(here("attack", *undescribed, *QUICK), 2, "--arch")
    assert not list(run.glob("attack*.json"))


def test_another_file_of_a_run_has_a_name_and_a_record_of_its_own(
    run: Path, tmp_path: Path
) -> None:
    other = save_run("other", gain=2.0, seed=1).parent
    for each in (run, other):
        shutil.copy(each / MODEL_FILE, each / "best.safetensors")
    radii = ("--eps", 0.1, "--eps", 0.2)
    picture = tmp_path / "curve.svg"
    bests = [run / "best.safetensors", other / "best.safetensors"]
    found = attack(*bests, *QUICK, *radii, "--plot", picture)
    assert [each["run"] for each in found["results"]] == 2 * ["model/best"] + 2 * ["other/best"]
    records = [each / "attack-best-curve.json" for each in (run, run, other, other)]
    outputs = [{"record": str(record)} for record in records]
    assert [each["outputs"] for each in found["results"]] == outputs
    assert all(f">{name}/best</text>" in picture.read_text() for name in ("model", "other"))
    alone = attack(bests[0], *QUICK, "--eps", 0.1)
    assert alone["outputs"] == {"record": str(run / "attack-best.json")}
    assert not (run / "attack.json").exists()
    assert not list(run.glob("attack-*/"))


def test_a_comparison_tells_what_differs(run: Path) -> None:
    save_run("other", gain=2.0, seed=1)
    both = ("attack", "model", "other", *QUICK, "--exact")
    shown = done(*both, "--eps", 0.1, "--eps", 0.9).splitlines()
    assert shown[5:] == [
        "model, linf 0.1: fgsm, n = 60, flags: low-clean-accuracy",
        "model, linf 0.9: fgsm, n = 60, flags: low-clean-accuracy, eps-of-another-scale",
        "other, linf 0.1: fgsm, n = 60, flags: low-clean-accuracy",
        "other, linf 0.9: fgsm, n = 60, flags: low-clean-accuracy, eps-of-another-scale",
    ]
    same = done(*both, "--eps", 0.1).splitlines()
    assert same[3:] == ["fgsm, n = 60, flags: low-clean-accuracy"]


def test_runs_of_two_data_sets_are_said_not_to_compare(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoint.load(run / "model.safetensors")
    for label in model.meta.classes:
        (tmp_path / "letters" / "test" / label).mkdir(parents=True)
        (tmp_path / "letters" / "train" / label).mkdir(parents=True)
        for k, split in enumerate(("train", "test")):
            picture = Image.new("L", (8, 8), 20 * int(label) + k)
            picture.save(tmp_path / "letters" / split / label / "one.png")
    dataset = f"folder:{tmp_path / 'letters'}"
    other = tmp_path / "other" / MODEL_FILE
    other.parent.mkdir()
    meta = replace(model.meta, dataset=dataset)
    checkpoint.save_model(other, model.classifier, meta, model.statistics)
    said = here("attack", "model", other, "--attack", "fgsm", "-n", 10, "--eps", 0.1)
    assert said.exit_code == 0, said.stderr
    assert f"the runs are on different data sets (digits, {dataset})" in " ".join(
        said.stderr.split()
    )
    assert "model, linf 0.1: digits, fgsm" in said.stdout
    assert f"other, linf 0.1: {dataset}, fgsm" in said.stdout


def test_examples_of_another_model(home: Path) -> None:
    model, other = checkpoint.load_each(["standard", "digits-jeat-small"])
    few: dict[str, Any] = {"attacks": ["fgsm"], "num": 100, "eps": 0.1, "exact": True}
    found = evaluate.attack(model, transfer_from=other, **few)
    assert found.transfer_from == "digits-jeat-small"
    images = load_images("digits", "test").first(100)
    x, y = images.x / 255, images.y
    value = objectives.objective("ce", other.classifier, x, y)
    moved = pgd.ascend(value, x, pgd.Linf(0.1), steps=1, step_size=0.1)
    clean, after = (model.classifier(each).argmax(1) == y for each in (x, moved))
    assert found.robust == pytest.approx((clean & after).float().mean().item())
    assert found.robust > evaluate.attack(model, **few).robust
