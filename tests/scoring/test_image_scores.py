"""The scores are torch-fidelity's, of the images and features that the protocol names."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pictures import save_images
from helpers.runs import Listener, save_run
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from jeatcli import wrap
from jeatcli.checkpoints.model import Model
from jeatcli.data import pictures, stored
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.runtime import digests, distributed
from jeatcli.runtime.files import cache_dir
from jeatcli.runtime.progress import BarContext, Silent
from jeatcli.sampling.sample import sample
from jeatcli.scoring import features
from jeatcli.scoring.image_scores import image_scores
from jeatcli.scoring.neighbours import nearest

Floats = NDArray[np.float64]


def features_of(judge: Model, pixels: Tensor) -> Floats:
    with torch.inference_mode():
        return judge.classifier.features(pixels.float() / 255).double().numpy()


def drawn(artist: Model, num: int) -> Tensor:
    return torch.from_numpy(pictures.to_uint8(sample(artist, num=num, steps=1).images))


def frechet(one: Floats, two: Floats) -> float:
    """Compute |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) by symmetric eigenvalues alone."""
    first, second = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    mixed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    away = one.mean(0) - two.mean(0)
    return float(away @ away + np.trace(first) + np.trace(second) - 2 * mixed)


def unbiased_mmd(one: Floats, two: Floats) -> float:
    """Compute the squared MMD of the cubic kernel (x.y / d + 1)^3 (Binkowski et al. 2018)."""

    def kernel(a: Floats, b: Floats) -> Floats:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Floats) -> float:
        k = kernel(a, a)
        return float((k.sum() - np.trace(k)) / (len(a) * (len(a) - 1)))

    return within(one) + within(two) - 2 * float(kernel(one, two).mean())


def test_fid_is_the_frechet_distance_in_float64(artist: Model, judge: Model) -> None:
    found = image_scores(artist, features=judge, num=300, reference="test", steps=1)
    ours = features_of(judge, drawn(artist, 300))
    theirs = features_of(judge, load_images("digits", "test").x)
    # The features are float32; from there on all is float64. What is left is the batch size's
    # effect on the network and the roots of eigenvalues that are zero.
    assert found.fid == pytest.approx(frechet(ours, theirs), rel=1e-6)


def test_one_feature_has_a_distance() -> None:
    """That of two normal distributions, (m1 - m2)^2 + (s1 - s2)^2."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1), torch.nn.Linear(1, 3))
    narrow = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
    ones, twos = (torch.rand(num, 1, 8, 8) for num in (40, 60))
    found = image_scores(ones / 2, real=twos, features=narrow)
    one, two = (
        net[:2](torch.from_numpy(pictures.to_uint8(x)).float() / 255).detach().double()
        for x in (ones / 2, twos)
    )
    assert found.fid == pytest.approx(
        ((one.mean() - two.mean()) ** 2 + (one.std() - two.std()) ** 2).item(), rel=1e-5
    )


def test_kid_is_the_unbiased_mmd(artist: Model, judge: Model) -> None:
    # Subsets that hold all images are all the same.
    found = image_scores(artist, features=judge, num=397, reference="test", steps=1)
    ours = features_of(judge, drawn(artist, 397))
    theirs = features_of(judge, load_images("digits", "test").x)
    assert found.kid == pytest.approx(unbiased_mmd(ours, theirs), rel=1e-6)
    # A spread would be that of the reference alone, and here there is none at all.
    assert found.kid_std is None
    assert "each subset is all of the images" in found.notes["kid"]
    assert found.protocol["kid_subset_size"] == 397


def test_inception_score_has_the_library_s_convention(artist: Model, judge: Model) -> None:
    found = image_scores(artist, features=judge, num=105, steps=1)
    logits = judge.classifier(drawn(artist, 105).float() / 255).double()
    order = np.random.RandomState(2020).permutation(105)
    p = logits[order].softmax(1)
    scores = []
    for k in range(10):
        part = p[k * 105 // 10 : (k + 1) * 105 // 10]
        divergence = (part * (part / part.mean(0)).log()).sum(1)
        scores.append(divergence.mean().exp().item())
    assert found.inception_score == pytest.approx(np.mean(scores), rel=1e-6)
    assert found.inception_score_std == pytest.approx(np.std(scores), rel=1e-4)


def test_precision_and_recall_by_the_balls_of_the_third_neighbours(
    artist: Model, judge: Model
) -> None:
    found = image_scores(artist, features=judge, num=150, reference="test", steps=1)
    ours = features_of(judge, drawn(artist, 150))
    theirs = features_of(judge, load_images("digits", "test").x)

    def share(inside: Floats, of: Floats) -> float:
        """Return the share of the points that lie in the ball of some point of the others."""
        radii = np.sort(np.linalg.norm(of[:, None] - of[None], axis=2), axis=1)[:, 3]
        away = np.linalg.norm(inside[:, None] - of[None], axis=2)
        return float((away <= radii).any(1).mean())

    assert found.precision == pytest.approx(share(ours, theirs), abs=1e-9)
    assert found.recall == pytest.approx(share(theirs, ours), abs=1e-9)
    assert found.protocol["neighbours"] == 3


def test_real_images_are_precise_and_found_again(judge: Model, tmp_path: Path) -> None:
    training = load_images("digits", "train")
    stored.save_npz(training.x.numpy(), training.y, tmp_path / "real.npz")
    found = image_scores(tmp_path / "real.npz", features=judge)
    assert (found.precision, found.recall) == (1.0, 1.0)
    assert found.fid == pytest.approx(0, abs=1e-6)


def test_selected_images_are_told(artist: Model, judge: Model) -> None:
    protocol = image_scores(artist, features=judge, num=10, steps=1, best_of=3).protocol
    assert protocol["selection"] == "the best of 3 by joint energy"
    assert "selected images: the best of 3" in protocol["comparable"]


def test_copies_are_seen(artist: Model, judge: Model, tmp_path: Path) -> None:
    training = load_images("digits", "train")
    copies = torch.cat([training.x[:30], drawn(artist, 10)])
    stored.save_npz(copies.numpy(), torch.zeros(40), tmp_path / "copies.npz")
    picture = tmp_path / "near.png"
    near = image_scores(tmp_path / "copies.npz", features=judge, neighbours=picture).neighbours
    assert near is not None
    assert near.identical == pytest.approx(30 / 40)
    # The features of a copy are those of another batch: float32's rounding is left.
    assert near.median == pytest.approx(0, abs=1e-5)
    assert near.median_train > 0
    with Image.open(picture) as image:
        # Twelve rows of an image and its six nearest, each 64 x 64, lines of 2 around them, and
        # above them what they are.
        high = 12 * 66 + 2
        assert image.width == 7 * 66 + 2
        assert high + 12 < image.height < high + 24
        shown, words = np.array(image)[-high:], np.array(image)[:-high]
    assert np.array_equal(shown[2:66, 2:66], shown[2:66, 68:132])
    assert all(words[:, 66 * k : 66 * k + 66].max() > 200 for k in range(7))
    values = torch.from_numpy(features_of(judge, training.x))
    distances, places = nearest(values[:5], values, 3)
    for row in range(5):
        away = (values - values[row]).norm(dim=1)
        assert torch.allclose(distances[row], away.sort().values[:3], atol=1e-6)
        assert away[places[row, 1]] == pytest.approx(away.sort().values[1].item(), abs=1e-6)
    for settings in ({"reference": "test"}, {"neighbours": tmp_path / "near.jpg"}):
        with pytest.raises(UsageProblem, match=r"neighbours are training|`--neighbours` writes"):
            image_scores(
                tmp_path / "copies.npz", features=judge, **{"neighbours": picture, **settings}
            )


def test_features_of_a_data_set_are_taken_once(
    artist: Model, judge: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(features, "WORTH_KEEPING", 1000)
    settings = {"num": 20, "steps": 1}
    first = image_scores(artist, features=judge, **settings)
    (kept,) = (cache_dir() / "features").iterdir()
    assert kept.name.startswith("digits-train-")
    counted: list[int] = []
    extract = features.extract

    def count(images: Tensor, *rest: Any) -> features.Features:
        counted.append(len(images))
        return extract(images, *rest)

    monkeypatch.setattr(features, "extract", count)
    again = image_scores(artist, features=judge, **settings)
    assert counted == [20]
    assert (again.fid, again.kid, again.recall) == (first.fid, first.kid, first.recall)
    # Other weights are another file, and a damaged one is written anew.
    image_scores(artist, features=artist, **settings)
    assert len(list((cache_dir() / "features").iterdir())) == 2
    kept.write_bytes(kept.read_bytes()[:100])
    assert image_scores(artist, features=judge, **settings).fid == first.fid
    assert counted == [20, 20, 1400, 20, 1400]
    assert kept.stat().st_size > 1000


def test_kept_features_are_not_those_of_a_judge_that_was_changed(
    judge: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "WORTH_KEEPING", 100)
    real, drawn = torch.rand(2, 150, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = image_scores(drawn, real=real, features=judge).fid
    # A hook is in no digest of the weights.
    layer = next(each for each in judge.classifier.modules() if isinstance(each, torch.nn.Conv2d))
    layer.register_forward_hook(lambda _, inputs, output: 3 * output)
    after = image_scores(drawn, real=real, features=judge).fid
    for kept in (cache_dir() / "features").iterdir():
        kept.unlink()
    assert after == image_scores(drawn, real=real, features=judge).fid != before


def test_protocol_says_all_that_the_numbers_depend_on(artist: Model, judge: Model) -> None:
    listener = Listener()
    found = image_scores("artist", features="judge", num=15, steps=1, seed=4, reporter=listener)
    protocol = json.loads(json.dumps(found.protocol))
    assert protocol["n"] == 15
    assert protocol["reference"] == {"dataset": "digits", "split": "train", "n": 1400}
    assert protocol["features"]["sha256"] == digests.checksum(judge.path)
    assert protocol["features"]["run"] == "judge"
    assert (protocol["splits"], protocol["kid_subsets"]) == (10, 100)
    assert protocol["kid_subset_size"] == 15
    assert protocol["classes"] == "10, 1 or 2 of each"
    assert "0.5" in protocol["rounding"]
    assert protocol["sampling"]["steps"] == 1
    assert protocol["sampling"]["seed"] == found.seed == 4
    assert protocol["sampling"]["weights"] == artist.fingerprint
    assert set(protocol["versions"]) == {"jeat-cli", "torch-fidelity", "torch"}
    assert protocol["comparable"].startswith("no: 15 images instead of 50,000")
    assert any("KID" in text and "15" in text for text in listener.said)
    assert found.run == "artist"


def test_a_run_that_judges_itself_is_named(judge: Model) -> None:
    found = image_scores(judge, features=judge, num=10, steps=1)
    assert "judges itself" in found.protocol["comparable"]


def test_two_images_suffice_and_one_does_not(artist: Model, judge: Model) -> None:
    found = image_scores(artist, features=judge, num=2, steps=1)
    assert found.inception_score is None
    assert "1 by definition" in found.notes["inception_score"]
    assert all(np.isfinite(value) for value in asdict(found).values() if type(value) is float)
    with pytest.raises(UsageProblem, match="at least 2"):
        image_scores(artist, features=judge, num=1)


def test_as_many_images_as_the_reference(artist: Model, judge: Model) -> None:
    found = image_scores(artist, features=judge, reference="test", steps=0)
    assert found.protocol["n"] == 397


def test_leaves_no_trace_and_says_nothing(
    artist: Model,
    judge: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    image_scores(artist, features=judge, num=10, steps=1)
    assert set(tmp_path.rglob("*")) == before
    assert capfd.readouterr() == ("", "")


# Inception


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 3}, "already drawn"),
        ({"num": 5}, "5 images requested"),
        ({"splits": 0}, "splits"),
        ({"kid_subset_size": 1}, "at least 2"),
        ({"kid_subsets": 0}, "kid_subsets"),
        ({"reference": "val"}, "unknown reference `val`"),
        ({"metric": ["densty"]}, "unknown metric `densty`"),
        ({"spltis": 3}, "unknown setting `spltis`"),
        ({"inception_weights": "w.pth"}, "cannot be used"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str, judge: Model, tmp_path: Path) -> None:
    save_images(torch.rand(4, 1, 8, 8), tmp_path / "p")
    with pytest.raises(UsageProblem, match=message):
        image_scores(tmp_path / "p", features=judge, **settings)


def test_runs_that_do_not_fit(judge: Model, tmp_path: Path) -> None:
    save_run("colour", dataset="cifar10")
    with pytest.raises(UsageProblem, match=r"`colour` takes 3x32x32 .* digits are 1x8x8"):
        image_scores("colour", features=judge, dataset="digits", num=4)
    with pytest.raises(JeatError, match="no run"):
        image_scores("nothing", features=judge)


def test_progress_counts_the_images_of_all_processes(
    judge: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, of which the second takes what the first does: here the first has its part twice."""

    class Two(distributed.ProcessGroup):
        def collect(self, value: Any) -> list[Any]:
            return [value, value]

    monkeypatch.setattr(features, "current", lambda: Two(0, 2))
    counted: list[float] = []

    class Counting(Silent):
        def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
            counted.append(-total)
            return nullcontext(lambda amount, **figures: counted.append(amount))

    found = features.extract(load_images("digits", "test").x[:10], judge, 2, Counting())
    assert counted == [-10, 4, 4, 2]
    assert len(found.values) == 10


def test_bars_say_whose_features_they_count(artist: Model, judge: Model) -> None:
    labels: list[str] = []

    class Labels(Silent):
        def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> BarContext:
            labels.append(label)
            return nullcontext(lambda amount, **figures: None)

    image_scores(artist, features=judge, num=20, steps=1, reporter=Labels())
    assert [label for label in labels if "features" in label] == [
        "image features",
        "reference features",
    ]
