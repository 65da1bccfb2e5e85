"""Every sign of a doubtful evaluation: seen where it is, not seen where it is not."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import one
from helpers.prototypes import Prototypes, classifier, stranger
from torch import Tensor, nn

from jeatcli import wrap
from jeatcli.checkpoints.checkpoint import load, save_model
from jeatcli.checkpoints.runs import MODEL_FILE
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.threat import Threat
from jeatcli.data.images import Images, load_images, to_unit_range
from jeatcli.robustness import checks, evaluate, evaluator
from jeatcli.robustness.attacks.attack import for_classes, resolve_attacks
from jeatcli.robustness.attacks.batch import AttackOptions
from jeatcli.robustness.checks import Flag

DOCS = Path(__file__).parents[2] / "docs" / "attacks.md"
LINF = Threat("linf", 0.15)


class Softmax(Prototypes):
    def head(self, features: Tensor) -> Tensor:
        return super().head(features).softmax(1)


class Sigmoid(Prototypes):
    def head(self, features: Tensor) -> Tensor:
        return super().head(features).sigmoid()


class Dropping(Prototypes):
    def features(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x.flatten(1), 0.1, training=True)


def images(n: int = 100) -> Images:
    return load_images("digits", "test").first(n)


def names(
    model: Classifier, threat: Threat = LINF, chosen: str = "apgd-ce", classes: int = 10
) -> list[str]:
    few = images(200)
    kept = few.y < classes
    found = checks.before(
        model,
        to_unit_range(few.x)[kept],
        few.y[kept],
        threat,
        resolve_attacks([chosen], AttackOptions(threat)),
    )
    return [each.name for each in found]


def test_an_honest_classifier_has_no_flags() -> None:
    assert names(classifier(Prototypes())) == []
    assert names(classifier(Prototypes()), Threat("l2", 0.6)) == []
    assert names(classifier(Prototypes()), Threat("linf", 0.0)) == []


def test_random_outputs() -> None:
    assert names(classifier(Dropping())) == ["randomised-outputs"]
    assert names(classifier(Dropping()), chosen="autoattack-rand") == []


@pytest.mark.parametrize("net", [Softmax, Sigmoid])
def test_probabilities(net: type[Prototypes]) -> None:
    assert "outputs-that-are-probabilities" in names(classifier(net()))


def test_few_classes() -> None:
    """Warned of where the DLR loss is used."""
    three = classifier(Prototypes(classes=3))
    assert names(three, chosen="apgd-dlr", classes=3) == ["fewer-than-4-classes"]
    for harmless in ("pgd", "apgd-ce", "fab-t", "square"):
        assert names(three, chosen=harmless, classes=3) == []
    dlr = AttackOptions(LINF, objective="dlr")
    assert checks._few_classes(3, resolve_attacks(["pgd"], dlr)) is not None
    assert checks._few_classes(4, resolve_attacks(["pgd"], dlr)) is None


@pytest.mark.parametrize(
    ("classes", "targeted", "parts"),
    [
        (2, False, ["apgd-ce", "fab-t", "square"]),
        (3, False, ["apgd-ce", "apgd-dlr", "fab-t", "square"]),
        (3, True, ["apgd-ce", "fab-t", "square"]),
        (4, False, ["apgd-ce", "apgd-t", "fab-t", "square"]),
    ],
)
def test_autoattack_of_few_classes(classes: int, targeted: bool, parts: list[str]) -> None:
    names = for_classes(["autoattack"], classes)
    assert names == (("autoattack-few",) if classes < 4 else ("autoattack",))
    attacks = resolve_attacks(names, AttackOptions(LINF), classes, targeted)
    assert [attack.name for attack in attacks] == parts
    for attack in attacks:
        attack.check(classes, targeted)


@pytest.mark.parametrize("classes", [2, 3])
def test_autoattack_of_few_classes_runs(classes: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    model = wrap(net, mean=0, std=1, classes=classes, shape=(1, 8, 8))
    x = 0.3 + 0.4 * torch.rand(8, 1, 8, 8)
    y = model.classifier(x).argmax(1)
    settings = {"eps": 0.02, "device": "cpu", "exact": True}
    found = evaluate.attack(model, images=x, labels=y, attacks=("autoattack",), **settings)
    assert found.attacks == ("autoattack-few",)
    # Of a linear network of two classes the margin over the gradient's l1 norm is the distance.
    logits, weight = model.classifier(x), net[1].weight
    gaps = (logits[:, :, None] - logits[:, None])[torch.arange(8), y]
    lengths = (weight[:, None] - weight[None]).abs().sum(2)[y]
    near = (gaps / lengths.clamp_min(1e-9)).masked_fill(lengths == 0, 9).amin(1) < 0.02
    broken = torch.tensor([each is not None for each in found.samples["broken_by"]])
    assert torch.equal(broken, near)
    assert near.any()
    assert not near.all()


@pytest.mark.parametrize(
    "threat", [Threat("linf", 8 / 255 / 255), Threat("linf", 0.6), Threat("l2", 128)], ids=str
)
def test_eps_of_another_scale(threat: Threat) -> None:
    assert names(classifier(Prototypes()), threat) == ["eps-of-another-scale"]


def test_a_radius_of_linf_under_l2() -> None:
    """On CIFAR, where 8/255 is 0.14/255 a pixel."""
    for eps, seen in ((8 / 255, True), (36 / 255, False), (0.5, False), (12.0, False)):
        found = checks.scale(Threat("l2", eps), 3 * 32 * 32)
        assert (found is not None) == seen, eps


def test_a_radius_of_l1_is_a_sum_over_pixels() -> None:
    for eps, size in ((0.5, "small: 0.0415/255"), (12.0, None), (2000.0, "large: 166/255")):
        found = checks.scale(Threat("l1", eps), 3 * 32 * 32) or ""
        assert size in found if size else not found, eps


def test_inputs_of_another_range() -> None:
    """A network for pixels in 0..255, without the normalisation that would have divided them."""
    assert names(classifier(Prototypes(), std=255.0)) == ["inputs-of-another-range"]


class Normalised(Prototypes):
    """For images with mean 0.3 and standard deviation 0.4 taken off."""

    def features(self, x: Tensor) -> Tensor:
        return (0.4 * x + 0.3).clamp(0, 1).flatten(1)


def test_a_network_that_is_half_right_under_the_wrong_normalisation() -> None:
    """Better than chance, so that the clean accuracy alone raises no doubt."""
    few = images(100)
    x, y = to_unit_range(few.x), few.y
    chosen = resolve_attacks(["fgsm"], AttackOptions(LINF))

    def flags(mean: float, std: float) -> list[Flag]:
        model = classifier(Normalised(), mean, std)
        return checks.before(model, x, y, LINF, chosen, ((0.3,), (0.4,)))

    (flag,) = flags(0.98, 0.05)
    assert 0.4 < checks._accuracy(classifier(Normalised(), 0.98, 0.05), x, y) < 0.6
    assert flag.name == "inputs-of-another-range"
    assert "`--mean 0.3 --std 0.4`" in flag.text
    assert flags(0.3, 0.4) == flags(0.25, 0.35) == []


def test_a_flat_softmax_is_flagged_and_broken_all_the_same() -> None:
    """Logits times 1000: the cross-entropy has no gradient left, the ratio does not care."""
    honest, flat = classifier(Prototypes()), classifier(Prototypes(gain=1000.0))
    assert names(flat) == ["zero-gradients"]
    few = images(40)
    radius = Threat("linf", 0.08)

    def robust(model: Classifier, name: str, **options: Any) -> float:
        found = evaluator.worst_case(model, few, [name], AttackOptions(radius, **options))
        share: float = found["robust"]
        return share

    truth = robust(honest, "apgd-t", steps=30)
    blind = robust(flat, "apgd-ce", steps=30)
    assert blind > truth + 0.1
    assert robust(flat, "apgd-dlr", steps=30) == pytest.approx(truth, abs=0.03)
    assert robust(flat, "apgd-t", steps=30) == pytest.approx(truth, abs=0.03)
    assert robust(flat, "square", queries=300) < blind - 0.05


def test_a_flat_softmax_through_the_command(home: Path) -> None:
    """One run of the command warns of it and breaks it, as far as the network that it was."""
    honest = load("standard", device="cpu")
    flat = copy.deepcopy(honest.classifier)
    for weight in flat.net.get_submodule("linear").parameters():
        weight.mul_(1000)
    assert honest.statistics is not None
    (home / "flat").mkdir()
    save_model(home / "flat" / MODEL_FILE, flat, honest.meta, honest.statistics)
    few = ("--attack", "apgd-ce", "--attack", "apgd-t", "-n", 60, "--steps", 20, "--eps", 0.08)
    found, truth = (one("attack", name, *few) for name in ("flat", "standard"))
    assert [each["name"] for each in found["warnings"]] == ["zero-gradients"]
    assert truth["warnings"] == []
    assert found["per_attack"]["apgd-ce"]["robust"] > truth["robust"] + 0.1
    assert found["robust"] == pytest.approx(truth["robust"], abs=0.04)


def test_square_that_beats_the_gradients() -> None:
    found = {"apgd-ce": {"robust": 0.5}, "fab-t": {"robust": 0.45}, "square": {"robust": 0.447}}
    (seen,) = checks.after(found)
    assert seen.name == "square-beats-the-gradients"
    assert "0.3 points" in seen.text
    assert checks.after({**found, "square": {"robust": 0.449}}) == []
    assert checks.after({"square": {"robust": 0.1}}) == []
    assert checks.after(found, transferred=True) == []
    # Weak attacks leave much to any other.
    for weak in ("fgsm", "pgd", "cw"):
        assert checks.after({weak: {"robust": 0.5}, "square": {"robust": 0.1}}) == []
    # What a weak one breaks after a strong one is not Square's.
    parts = {"apgd-ce": {"robust": 0.5}, "cw": {"robust": 0.4}, "square": {"robust": 0.399}}
    assert checks.after(parts) == []


def test_every_flag_has_its_section() -> None:
    sections = [line[4:].lower() for line in DOCS.read_text().splitlines() if line[:4] == "### "]
    anchors = {text.replace("`", "").replace(" ", "-") for text in sections}
    known = set(re.findall(r'^ +"([a-z0-9-]+)": ', Path(checks.__file__).read_text(), re.MULTILINE))
    known -= {"cross-entropy", "margin"}  # the losses whose gradients are looked at
    assert len(known) == 12
    assert known <= anchors
    assert str(Flag("a-name", "text")).endswith("(docs/attacks.md#a-name)")


def test_the_result_says_what_was_seen(home: Path) -> None:
    found = evaluate.attack("standard", attacks=["fgsm"], num=30, eps=0.9)
    assert [each["name"] for each in found.warnings] == ["eps-of-another-scale"]


class Prefers(Prototypes):
    """Like its parent, but of pixels that are not in 0..255 it takes all for a 3."""

    def head(self, features: Tensor) -> Tensor:
        favour = 1e6 * (features.amax(1, keepdim=True) < 0.01)
        return super().head(features) + favour * torch.eye(10)[3]


def test_the_range_is_looked_at_on_images_of_all_classes() -> None:
    """A network with the wrong normalisation may be right on the class that is asked for."""
    found = evaluate.attack(stranger(Prefers(), std=255.0), attacks=["fgsm"], only="3", num=20)
    assert found.clean == 1
    assert "inputs-of-another-range" in [each["name"] for each in found.warnings]
