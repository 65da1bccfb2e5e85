"""`jeat attack`: what is attacked, by what, and what is saved and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import LATEST, done, here, jeat, one, parsed, refused
from helpers.runs import save_run
from safetensors.torch import load_file

from jeatcli.checkpoints import checkpoint
from jeatcli.core.threat import Threat, fraction
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.errors import UsageProblem
from jeatcli.robustness.attacks.attack import resolve_attacks
from jeatcli.robustness.attacks.batch import AttackOptions

QUICK = ("--attack", "fgsm", "-n", 60)


def attack(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done("attack", *arguments, "--json"))
    return found


def samples(run: Path, name: str = "attack.json") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = json.loads((run / name).read_text())["samples"]
    return found


@pytest.fixture
def run() -> Path:
    return save_run("model", gain=2.0).parent


def test_a_tier_is_named_as_such(run: Path) -> None:
    few = ("model", "-n", 20, "--eps", 0.1)
    shown = done("attack", *few, "--attack", "quick").splitlines()
    assert shown[1].startswith("after apgd-ce-100-1 ")
    assert "quick (a part of AutoAttack, not AutoAttack), n = 20" in shown[-1]
    assert json.loads((run / "attack.json").read_text())["attacks"] == ["quick"]


def test_ensembles_have_the_published_parts() -> None:
    plan = AttackOptions(Threat("linf", 0.1))
    standard = [(each.name, each.options) for each in resolve_attacks(["autoattack"], plan)]
    assert standard == [
        ("apgd-ce", {"steps": 100, "restarts": 1, "draws": 1}),
        ("apgd-t", {"steps": 100, "restarts": 1}),
        ("fab-t", {"steps": 100, "restarts": 1}),
        ("square", {"queries": 5000, "restarts": 1}),
    ]
    plus = resolve_attacks(["autoattack-plus"], plan)
    assert [each.name for each in plus] == [
        *("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
    ]
    assert [each.options["restarts"] for each in plus] == [5, 5, 5, 1, 1, 1]
    rand = resolve_attacks(["autoattack-rand"], plan)
    assert [each.options["draws"] for each in rand] == [20, 20]
    # What is asked for twice is run once.
    assert len(resolve_attacks(["autoattack", "fast", "square"], plan)) == 4


def test_images_by_their_numbers(run: Path, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("7, 3\n200\n")
    found = attack("model", "--attack", "pgd", "--indices", tmp_path / "some.txt")
    assert found["n"] == 3
    few = samples(run)
    assert few["index"] == [7, 3, 200]
    attack("model", "--attack", "pgd", "-n", 201)
    everything = samples(run)
    # An image fares the same among others: its randomness is its own.
    for key in ("correct", "broken_by"):
        assert few[key] == [everything[key][k] for k in few["index"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [("7 x", "`x` in"), ("397", "`397` in"), ("-1", "`-1` in"), ("", "no index"), ("1 1", "twice")],
)
def test_numbers_that_are_none(run: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "some.txt").write_text(text)
    refused(here("attack", "model", "--indices", tmp_path / "some.txt"), 2, message)
    refused(here("attack", "model", "--indices", tmp_path / "none.txt"), 1, "cannot read `")


def test_images_of_a_class(run: Path) -> None:
    attack("model", "--attack", "fgsm", "--class", "3")
    y = load_images("digits", "test").y
    threes = (y == 3).nonzero().flatten().tolist()
    assert samples(run)["index"] == threes
    found = attack("model", "--attack", "fgsm", "--class", "3", "--target", "8", "-n", 5)
    assert (found["n"], found["target"], found["only"]) == (5, "8", "3")
    assert "n = 5 of class 3" in done("attack", "model", "--class", "3", "-n", 5, "--steps", 1)
    refused(here("attack", "model", "--class", "3", "--target", "3", "-n", 5), 2, "target class")
    (run / "one.txt").write_text(str((y != 3).nonzero()[0].item()))
    said = done("attack", "model", "--indices", run / "one.txt", "--steps", 1)
    assert "n = 1 in one.txt" in said
    chosen = ("--indices", run / "one.txt", "--class", "3")
    refused(here("attack", "model", *chosen), 2, "there are no test images in `", "of class `3`")


def test_a_later_attack_leaves_the_results_of_others(run: Path, tmp_path: Path) -> None:
    few = ("model", "-n", 20)
    first = attack(*few, "--attack", "quick", "--eps", "8/255")
    second = attack(*few, "--attack", "fgsm", "--eps", 0.1)
    attack(*few, "--attack", "fgsm", "--eps", 0.1)
    attack(*few, "--attack", "fgsm", "-o", tmp_path / "elsewhere.json")
    assert json.loads((run / "attack.json").read_text())["attacks"] == ["fgsm"]
    kept = {path.name: json.loads(path.read_text()) for path in (run / "attacks").iterdir()}
    assert set(kept) == {
        f"quick-linf-8of255-{first['key']}.json",
        f"fgsm-linf-0.1-{second['key']}.json",
    }
    for found in kept.values():
        assert len(found["samples"]["index"]) == 20


def test_saved_images_are_those_that_broke_the_model(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "images.safetensors"
    found = attack("model", "--attack", "pgd", "-n", 80, "--eps", 0.1, "--save", file)
    saved = load_file(file)
    model = checkpoint.load_each([run])[0]
    x, y = to_unit_range(load_images("digits", "test").x[:80]), saved["labels"]
    assert torch.equal(saved["index"], torch.arange(80))
    broken = saved["broken"].bool()
    assert 0 < broken.sum() == found["per_attack"]["pgd"]["broken"]
    assert ((saved["images"] - x).flatten(1).abs().amax(1) <= 0.1 + 1e-6).all()
    assert torch.equal(saved["images"][~broken], x[~broken])
    wrong = model.classifier(saved["images"]).argmax(1) != y
    right = model.classifier(x).argmax(1) == y
    assert torch.equal(broken, wrong & right)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--attack", "autoattack", "--steps", 3), "`autoattack` has no `--steps`"),
        (("--attack", "fast", "--restarts", 3), "`fast` has no `--restarts`"),
        (("--attack", "square", "--step-size", 0.1), "`square` has no `--step-size`"),
        (("--attack", "apgd-ce", "--objective", "ce"), "`apgd-ce` has no `--objective`"),
        (("--queries", 7), "`pgd` has no `--queries`"),
        (("--save", "x.pt"), "writes a `.safetensors` file"),
        (("--save", "x.safetensors", "--eps", 0.1, "--eps", 0.2), "`--norm` and `--eps`"),
        (("other", "--save", "x.safetensors"), "`--save` is for one RUN, `--norm` and `--eps`"),
        (("other", "-o", "x.json"), "`--out` is for one RUN"),
        (("--plot", "x.doc"), "not `x.doc`"),
        (("--plot", "x.pdf", "--dpi", 80), "`--dpi` does nothing for `x.pdf`"),
        (("-o", "x.csv"), "`-o` writes a `.json` or `.html` file"),
        (("--class", "x"), "unknown class `x`"),
        (("--attack", "autoattack-plus", "--target", 3), "`fab` cannot target a class"),
        (("--attack", "pgd", "--attack", "fgsm", "--objective", "kl"), "gradient of `kl` is zero"),
    ],
)
def test_what_does_not_fit_is_refused(
    run: Path, arguments: tuple[object, ...], message: str
) -> None:
    save_run("other")
    refused(here("attack", "model", *arguments), 2, message)
    assert not list(run.glob("attack*"))


def test_two_classes_have_no_ratio() -> None:
    """DLR needs three classes, and its targeted form four: said, not computed wrongly."""
    plan = AttackOptions(Threat("linf", 0.1))

    def check(names: list[str], classes: int, targeted: bool = False) -> None:
        for attack in resolve_attacks(names, plan):
            attack.check(classes, targeted)

    for name, classes in (("apgd-dlr", 2), ("autoattack", 3)):
        with pytest.raises(UsageProblem, match=f"needs {classes + 1} classes"):
            check([name], classes)
    check(["apgd-ce", "fab-t", "square"], 2)
    check(["apgd-dlr"], 3)
    with pytest.raises(UsageProblem, match="`apgd-dlr` needs 4 classes; there are 3"):
        check(["apgd-dlr"], 3, targeted=True)


def test_attack(home: Path) -> None:
    said = jeat("attack", "-n", 30, "--attack", "fgsm", "--attack", "pgd", "--steps", 3, "--json")
    found = parsed(said)
    assert (found["run"], found["dataset"], found["n"]) == (LATEST, "digits", 30)
    assert (found["norm"], found["eps"]) == ("linf", 0.15)
    assert 0 <= found["robust"] <= found["clean"] <= 1
    assert found["robust"] == found["per_attack"]["pgd"]["robust"]
    assert found["robust"] <= found["per_attack"]["fgsm"]["robust"]
    assert (found["device"], found["seed"]) == ("cpu", 0)
    assert found["seconds"] > 0
    assert found["version"] in done("--version")
    assert said.stderr.endswith("Hint: jeat sample\n")
    record = json.loads((home / LATEST / "attack.json").read_text())
    samples = record.pop("samples")
    assert [len(each) for each in samples.values()] == [30, 30, 30]
    run = home / LATEST
    about = {"schema": 1, "command": "attack", "path": str(run / "model.safetensors")}
    assert record | about | {"outputs": {"record": str(run / "attack.json")}} == found


def test_attack_table(home: Path) -> None:
    shown = done("attack", "standard", "-n", 20, "--steps", 2, "-q").splitlines()
    assert [line.split()[0] for line in shown] == ["clean", "after", "robust", "linf"]
    assert shown[0].endswith(" %")
    assert shown[1].startswith("after pgd-2-1, ce, step 0.1875")
    assert "linf 0.15, pgd, n = 20" in shown[-1]


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.15), ("l2", 0.6)])
def test_attack_in_either_norm(home: Path, norm: str, eps: float) -> None:
    usual = one("attack", "standard", "-n", 30, "--norm", norm)
    assert (usual["norm"], usual["eps"]) == (norm, eps)
    assert usual["robust"] < usual["clean"]
    none = one("attack", "standard", "-n", 30, "--norm", norm, "--eps", 0)
    assert none["robust"] == none["clean"] == usual["clean"]


def test_attacks_on_images_that_are_broken_already(home: Path) -> None:
    found = one("attack", "-n", 3, "--eps", 1, "--attack", "fgsm", "--attack", "pgd")
    assert found["robust"] == 0
    assert found["per_attack"]["pgd"]["broken"] == 0


def test_attack_targeted(home: Path) -> None:
    found = one("attack", "standard", "-n", 30, "--target", "3", "--objective", "margin")
    assert (found["target"], found["per_attack"]["pgd"]["objective"]) == ("3", "margin")


def test_fail_under(home: Path) -> None:
    passed = here("attack", "-n", 10, "--steps", 1, "--fail-under", 0)
    assert passed.exit_code == 0
    failed = here("attack", "-n", 10, "--steps", 20, "--eps", 1, "--fail-under", 0.9, "--json")
    assert failed.exit_code == 4
    assert "Error: robust accuracy 0.0" in failed.stderr
    assert json.loads(failed.stdout)["robust"] < 0.9


def test_radii_are_written_as_they_are_meant() -> None:
    written = [fraction(value) for value in (8 / 255, 128 / 255, 0.2, 0.15, 0.5, 0, 2.5 / 255)]
    assert written == ["8/255", "128/255", "0.2", "0.15", "0.5", "0", "2.5/255"]
    assert [fraction(value) for value in (2.5 * (2 / 255) / 20, 0.123456)] == [
        "0.25/255",
        "0.123456",
    ]
