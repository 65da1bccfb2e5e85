"""The classifier's own scores, each against an independent computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import done, here, refused
from helpers.pictures import save_images
from helpers.runs import Listener, load_run, save_run
from PIL import Image

from jeatcli import wrap
from jeatcli.checkpoints.model import Model
from jeatcli.data import pictures
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.landscapes.landscape import energy_landscape
from jeatcli.runtime.plain import plain
from jeatcli.scoring import ood
from jeatcli.scoring.calibration import calibrate
from jeatcli.scoring.classifier_scores import classifier_scores


def by_a_loop(confidence: list[float], correct: list[bool], bins: int) -> float:
    """Compute the ECE as its definition reads."""
    error = 0.0
    for k in range(bins):
        inside = [
            (c, r)
            for c, r in zip(confidence, correct, strict=True)
            if k / bins < c <= (k + 1) / bins
        ]
        if inside:
            sure = sum(c for c, _ in inside) / len(inside)
            right = sum(r for _, r in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(right - sure)
    return error


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_is_that_of_a_plain_loop(bins: int) -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(500, generator=generator, dtype=torch.float64) ** 0.3
    confidence[:3] = torch.tensor([1.0, 0.2, 0.6])
    correct = torch.rand(500, generator=generator) < confidence**2
    found = calibrate(confidence, correct, bins)
    assert found.ece == pytest.approx(by_a_loop(confidence.tolist(), correct.tolist(), bins))
    assert sum(found.counts) == 500
    assert [c is None for c in found.confidence] == [n == 0 for n in found.counts]


def test_a_bin_includes_its_upper_edge() -> None:
    edges = torch.tensor([0.25, 0.5, 0.5, 0.75, 1.0])
    assert calibrate(edges, edges > 0, 4).counts == [1, 2, 1, 1]


def test_a_sure_and_a_doubting_classifier() -> None:
    half = torch.tensor([True, False] * 50)
    assert calibrate(torch.ones(100), half).ece == pytest.approx(0.5)
    assert calibrate(torch.full((100,), 0.5), half).ece == pytest.approx(0.0)
    assert calibrate(torch.ones(100), torch.ones(100).bool()).ece == 0.0


def test_auroc_is_the_share_of_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    # Few values, so that many pairs are ties.
    own = torch.randint(8, (60,), generator=generator).double() + 1
    other = torch.randint(8, (45,), generator=generator).double()
    pairs = [(a > b) + 0.5 * (a == b) for a in own.tolist() for b in other.tolist()]
    assert ood.auroc(own, other) == pytest.approx(sum(pairs) / len(pairs))
    assert ood.auroc(own, own) == pytest.approx(0.5)
    assert ood.auroc(own + 10, other) == 1.0
    assert ood.auroc(other - 10, other) == 0.0


def test_scores_are_those_of_the_logits(judge: Model) -> None:
    images = load_images("digits", "test").x[:20]
    found = ood.own_scores(judge, images, batch_size=6)
    logits = judge.classifier(images.float() / 255).double()
    total = logits.exp().sum(1)
    torch.testing.assert_close(found["log_density"], total.log(), rtol=1e-5, atol=1e-5)
    top = (logits.exp() / total[:, None]).amax(1)
    torch.testing.assert_close(found["max_probability"], top, rtol=1e-5, atol=1e-5)
    # Along the gradient the density rises by its norm.
    net = judge.classifier
    for k in range(3):
        x = (images[k : k + 1].float() / 255).requires_grad_(True)
        (slope,) = torch.autograd.grad(net(x).logsumexp(1).sum(), x)
        way = 0.01 * slope / slope.norm()
        rise = net(x + way).logsumexp(1) - net(x - way).logsumexp(1)
        assert -found["gradient_norm"][k].item() == pytest.approx(rise.item() / 0.02, rel=0.01)


def test_probabilities_near_one_are_told_apart() -> None:
    """In float32 all would be 1, and rank no image before another."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    for weight, values in zip(net.parameters(), ([8 / 64, 0, 0], [18, 0, 0]), strict=True):
        weight.data = (
            torch.tensor(values).view(-1, *[1] * (weight.ndim - 1)).expand_as(weight) * 1.0
        )
    images = load_images("digits", "test").x[:50]
    sure = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
    found = ood.own_scores(sure, images)["max_probability"]
    # The first class leads the two others by so much.
    lead = 18 + 8 * images.double().mean((1, 2, 3)) / 255
    torch.testing.assert_close(1 - found, 2 / (lead.exp() + 2), rtol=1e-4, atol=0)
    assert (found.float() == 1).all()


def test_against_a_folder_by_pairs(judge: Model, tmp_path: Path) -> None:
    test = load_images("digits", "test")
    other = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    save_images(other, tmp_path / "noise")
    found = classifier_scores(judge, ood=[str(tmp_path / "noise")])
    assert found.n == 397
    correct = judge.classifier(test.x.float() / 255).argmax(1) == test.y
    assert found.accuracy == pytest.approx(correct.double().mean().item())
    areas = found.ood[str(tmp_path / "noise")]
    assert areas["n"] == 30
    few = classifier_scores(judge, ood=[str(tmp_path / "noise")], num=20, calibrated=False)
    assert few.ood[str(tmp_path / "noise")]["n"] == 20
    stored = torch.from_numpy(pictures.to_uint8(other))
    ours = ood.own_scores(judge, test.x)
    theirs = ood.own_scores(judge, stored)
    for name in ood.SCORES:
        a, b = ours[name][:, None], theirs[name][None]
        pairs = (a > b).double() + 0.5 * (a == b).double()
        assert areas[name] == pytest.approx(pairs.mean().item(), abs=1e-9)


def test_against_images_by_any_name(judge: Model, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 1), dtype=np.uint8)
    file = tmp_path / "noise.npz"
    np.savez(file, arr_0=pixels, arr_1=np.arange(25) % 10)
    found = classifier_scores(judge, ood=[str(file), f"npz:{file}"]).ood
    assert found[str(file)] == found[f"npz:{file}"]


def test_the_first_images_of_another_set_that_is_sorted_are_warned_of(
    judge: Model, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "sorted.npz", images=pixels, labels=np.arange(100) // 10)
    name, listener = f"npz:{tmp_path / 'sorted.npz'}", Listener()
    found = classifier_scores(judge, ood=[name], num=20, calibrated=False, reporter=listener)
    assert found.ood[name]["n"] == 20
    assert any("of 2 of 10 classes" in text for text in listener.said)
    listener.said.clear()
    energy_landscape(judge, kind="histogram", against=name, num=20, reporter=listener)
    assert any("of 2 of 10 classes" in text for text in listener.said)
    # All of them are of all classes.
    listener.said.clear()
    classifier_scores(judge, ood=[name], calibrated=False, reporter=listener)
    assert not any("of 10 classes" in text for text in listener.said)


def test_other_kinds_must_have_the_shape(judge: Model, tmp_path: Path, mnist_root: Path) -> None:
    with pytest.raises(UsageProblem, match="takes 1x8x8 images, but those of mnist are 1x28x28"):
        classifier_scores(judge, ood=["mnist"], data_dir=mnist_root)
    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    with pytest.raises(JeatError, match=r"colour\.png.* in mode RGB"):
        classifier_scores(judge, ood=[str(tmp_path)])
    with pytest.raises(JeatError, match="unknown data set `digist`"):
        classifier_scores(judge, ood=["digist"])


def test_images_that_are_among_the_test_images_are_told(judge: Model, tmp_path: Path) -> None:
    test = load_images("digits", "test").first(60)
    save_images(torch.cat([test.x[:2] / 255, torch.rand(58, 1, 8, 8)]), tmp_path / "some")
    heard = Listener()
    ask = {"ood": ["digits", str(tmp_path / "some")], "num": 60, "calibrated": False}
    classifier_scores(judge, reporter=heard, **ask)
    text = "{} of the 60 images of `{}` are among the test images: these cannot be told apart"
    assert text.format(60, "digits") in heard.said
    assert text.format(2, tmp_path / "some") in heard.said
    heard = Listener()
    energy_landscape([judge], kind="histogram", num=6, against="digits", reporter=heard)
    assert text.replace("60", "6").format(6, "digits") in heard.said


@pytest.mark.parametrize("prefix", ["", "npz:"])
def test_the_first_of_others_in_the_order_of_their_classes_are_told(
    judge: Model, tmp_path: Path, prefix: str
) -> None:
    train = load_images("digits", "train")
    order = train.y.argsort(stable=True)
    file = tmp_path / "others.npz"
    pixels, labels = train.x[order].permute(0, 2, 3, 1).numpy(), train.y[order].numpy()
    np.savez(file, arr_0=pixels, arr_1=labels)
    for num, told in ((150, ["the first 150 are of 2 of 10 classes"]), (None, [])):
        heard = Listener()
        ask = {"ood": [f"{prefix}{file}"], "num": num, "calibrated": False}
        classifier_scores(judge, reporter=heard, **ask)
        sorted_ = [text for text in heard.said if "in the order of their classes" in text]
        assert all(words in text for words, text in zip(told, sorted_, strict=True))


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    save_run("judge")
    save_images(torch.rand(5, 1, 8, 8), tmp_path / "noise")
    picture = tmp_path / "reliability.png"
    ask = ("score", "judge", "--device", "cpu")
    shown = done(*ask, "--calibration", picture, "--ood", tmp_path / "noise")
    for word in ("accuracy", "ECE, 15 bins", "AUROC against", "max p(y|x)", str(picture)):
        assert word in shown
    with Image.open(picture) as image:
        assert image.info["jeat"].startswith("ECE 0.")
    done(*ask, "--calibration", picture, "-n", 50, "--figsize", 2, 2.5, "--dpi", 50)
    with Image.open(picture) as image:
        assert image.size == (100, 125)
    found = json.loads(done(*ask, "--calibration", "--json", "-n", 50))
    assert found["n"] == 50
    assert len(found["calibration"]["counts"]) == 15
    assert found["ood"] == {}
    assert json.loads(done(*ask, "--ood", "digits", "--json"))["calibration"] is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--calibration", "--steps", 3], "`--steps` is for the scores of images"),
        (["--ood", "digits", "--features", "judge"], "`--features` is for the scores of images"),
        (["--calibration", "judge"], "cannot draw into `judge`"),
        (["--calibration", "--dpi", 50], "the look of the picture are for the diagram"),
        (["--calibration", "x.svg", "--dpi", 50], "`--dpi` does nothing for `x.svg`"),
        (["--calibration", "x.png", "--style", "none"], "unknown style `none`"),
    ],
)
def test_options_of_the_other_scores(more: list[object], words: str) -> None:
    save_run("judge")
    refused(here("score", "judge", *more), 2, words)


def test_on_other_test_images(judge: Model, tmp_path: Path) -> None:
    train = load_images("digits", "train").first(160)
    file = tmp_path / "others.npz"
    pixels = train.x.permute(0, 2, 3, 1).numpy()
    np.savez(file, arr_0=pixels, arr_1=train.y.numpy())
    given = classifier_scores(judge, images=train.x, labels=train.y, ood=["digits"])
    ask = ("score", "judge", "--on", f"npz:{file}", "--device", "cpu", "--json")
    found = json.loads(done(*ask, "--calibration", "--ood", "digits"))
    assert (found["n"], found["dataset"]) == (160, f"npz:{file}")
    assert found["accuracy"] == given.accuracy != classifier_scores(judge).accuracy
    assert found["calibration"]["ece"] == pytest.approx(plain(given.calibration)["ece"])
    for name in ood.SCORES:
        assert found["ood"]["digits"][name] == pytest.approx(given.ood["digits"][name])
    for more in ((), ("--corruptions",)):
        refused(here(*ask, *more), 2, "`--on` is for `--calibration` and `--ood`")
    with pytest.raises(UsageProblem, match="exclude each other"):
        classifier_scores(judge, images=train.x, labels=train.y, on="digits")


def test_logits_that_are_no_numbers_are_no_scores(judge: Model) -> None:
    next(judge.classifier.parameters()).fill_(torch.nan)
    for settings in ({"calibrated": True}, {"calibrated": False, "ood": ["digits"]}):
        with pytest.raises(JeatError, match=r"`judge` gives logits that are NaN"):
            classifier_scores(judge, num=20, **settings)


def test_an_archive_without_images_is_no_kind(judge: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", arr_0=np.zeros((0, 8, 8, 1), np.uint8))
    with pytest.raises(JeatError, match="holds no images"):
        classifier_scores(judge, ood=[str(tmp_path / "none.npz")], num=20)


def test_few_images_are_warned_of(tmp_path: Path) -> None:
    model, listener = load_run("few"), Listener()
    np.savez(tmp_path / "few.npz", arr_0=np.zeros((5, 8, 8, 1), np.uint8))
    ood = (str(tmp_path / "few.npz"), "digits")
    classifier_scores(model, num=149, ood=ood, reporter=listener)
    assert sum("149 images in 15 bins" in text for text in listener.said) == 1
    assert [text for text in listener.said if "stands on" in text] == [
        f"detection against `{ood[0]}` stands on 5 images, and the false positive rate at 95 % "
        "needs 20 at least"
    ]
    listener.said.clear()
    classifier_scores(model, num=1, ood=("digits",), reporter=listener)
    assert "the calibration error of 1 image in 15 bins" in listener.said[0]
    assert "detection against `digits` stands on 1 image, and" in listener.said[1]
    listener.said.clear()
    classifier_scores(model, num=150, ood=("digits",), reporter=listener)
    assert not [text for text in listener.said if "bins" in text or "stands on" in text]
