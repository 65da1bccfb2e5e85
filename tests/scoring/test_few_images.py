"""Too few images, or images of few classes: said beside the numbers, and in `comparable`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import done, here, refused
from helpers.pictures import save_images
from helpers.runs import Listener, load_run, save_run
from torch_fidelity.metric_isc import isc_features_to_metric

from jeatcli import wrap
from jeatcli.checkpoints.model import Model
from jeatcli.data import stored
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError
from jeatcli.runtime.files import runs_dir
from jeatcli.sampling import writers
from jeatcli.sampling.sample import prepare
from jeatcli.scoring import fidelity
from jeatcli.scoring.features import Features
from jeatcli.scoring.fidelity import Numbers
from jeatcli.scoring.image_scores import image_scores


def test_one_image_a_split_is_no_score(artist: Model, judge: Model) -> None:
    listener = Listener()
    five = image_scores(artist, features=judge, num=5, steps=1, reporter=listener)
    assert five.inception_score is None
    assert five.inception_score_std is None
    note = "5 images in 10 splits, and the score of one image is 1 by definition"
    assert note in five.notes["inception_score"]
    assert note in five.protocol["comparable"]
    assert any(note in text for text in listener.said)
    # Two images a split are a score, of two at most where there are ten classes.
    six = image_scores(artist, features=judge, num=12, splits=6, steps=1)
    assert six.inception_score is not None
    assert 1 <= six.inception_score <= 2
    assert six.notes["inception_score"] == (
        "too few: 2 images per split for 10 classes, so at most 2"
    )
    assert image_scores(artist, features=judge, num=100, steps=1).notes.keys() == {"fid", "kid"}


def test_logits_far_apart_have_a_score() -> None:
    """Of probabilities that are 0 in float64 the library takes 0 log 0, which is NaN."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % 3
    logits = 1e4 * torch.nn.functional.one_hot(classes, 10).double()
    ours = Features(torch.randn(60, 4, generator=generator).double(), logits)
    numbers = Numbers.of(ours, ours, 1, 1, 2)
    assert fidelity.compute(ours, ours, numbers)["inception_score"] == pytest.approx(3)
    # What is less far apart is as it was.
    usual = Features(ours.values, 30 * torch.randn(60, 10, generator=generator).double())
    found = fidelity.compute(usual, ours, replace(numbers, splits=4))
    library = isc_features_to_metric(usual.logits, 4, rng_seed=2020)
    assert found["inception_score"] == library["inception_score_mean"]


def test_a_judge_that_tells_no_images_apart_is_refused() -> None:
    """All distances would be 0: a Fréchet distance of 0, precision and recall of 1."""
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
    )
    judge = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
    real, drawn = torch.rand(2, 40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert image_scores(drawn, real=real, features=judge).fid > 0
    judge.classifier.net.module[1].bias.fill_(-100)
    with pytest.raises(JeatError, match="gives all 40 images of tensors the same features"):
        image_scores(drawn, real=real, features=judge)


@pytest.mark.parametrize(("num", "references", "rank"), [(5, 300, 4), (300, 5, 4), (64, 300, 63)])
def test_a_covariance_without_full_rank_is_said(num: int, references: int, rank: int) -> None:
    def features(n: int) -> Features:
        return Features(torch.zeros(n, 64), torch.zeros(n, 10))

    note = Numbers.of(features(num), features(references), 1, 1, 2).notes()["fid"]
    assert f"in 64 dimensions, the covariance has rank {rank} " in note
    assert "fid" not in Numbers.of(features(65), features(65), 1, 1, 2).notes()


def test_the_spread_of_subsets_that_are_all_images_is_none(artist: Model, judge: Model) -> None:
    whole = image_scores(artist, features=judge, num=30, steps=1)
    assert whole.kid_std is None
    assert whole.notes["kid"] == "no ±: each subset is all of the images"
    part = image_scores(artist, features=judge, num=30, kid_subset_size=29, steps=1)
    assert part.kid_std is not None
    assert "kid" not in part.notes


def test_one_split_and_one_subset_have_no_spread(artist: Model, judge: Model) -> None:
    one = image_scores(
        artist, features=judge, num=30, splits=1, kid_subsets=1, kid_subset_size=9, steps=1
    )
    assert one.inception_score is not None
    assert (one.inception_score_std, one.kid_std) == (None, None)
    two = image_scores(
        artist, features=judge, num=30, splits=2, kid_subsets=2, kid_subset_size=9, steps=1
    )
    assert min(two.inception_score_std or 0, two.kid_std or 0) > 0


def test_the_table_says_it_beside_the_number() -> None:
    save_run("artist", seed=1)
    save_run("judge")
    shown = done("score", "artist", "--features", "judge", "-n", 5, "--steps", 1, "-q")
    rows = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert "1 by definition" in rows["classifier score"]
    assert "±" not in rows["classifier score"]
    assert "rank 4" in rows["Fréchet distance"]
    assert "no ±" in rows["kernel distance"]
    assert "±" not in rows["kernel distance"].replace("no ±", "")
    ask = ("score", "artist", "--features", "judge", "-n", 5, "--steps", 1, "-q", "--json")
    found = json.loads(done(*ask))
    assert (found["schema"], found["command"], found["run"]) == (1, "score", "artist")
    assert found["path"].endswith("artist/model.safetensors")
    assert {each["name"] for each in found["warnings"]} == {"how-few-images-are-enough"}
    assert any("1 by definition" in each["text"] for each in found["warnings"])


def test_images_of_two_classes_are_compared_with_these_classes(
    artist: Model, judge: Model, tmp_path: Path
) -> None:
    training = load_images("digits", "train")
    index = torch.isin(training.y, torch.tensor([3, 8])).nonzero().flatten()
    for name, save in (("set", writers.save_folder), ("set.npz", writers.save_npz)):
        save(prepare(artist, num=20, classes=["3", "8"], steps=1), tmp_path / name)
        listener = Listener()
        found = image_scores(tmp_path / name, features=judge, reporter=listener)
        assert found.protocol["reference"] == {
            "dataset": "digits",
            "split": "train",
            "n": len(index),
            "classes": "3, 8",
        }
        assert "images of 2 of the 10 classes" in found.protocol["comparable"]
        assert "unequal" not in found.protocol["comparable"]
        assert any("2 of the 10 classes" in text for text in listener.said)
        every = image_scores(tmp_path / name, features=judge, reference_classes="all")
        assert every.protocol["reference"]["n"] == 1400
        assert "images of 2 of the 10 classes" in every.protocol["comparable"]
        assert every.fid != found.fid
    # The reference is the real images of these classes, and nothing else.
    only = training.take(index)
    text = json.dumps({"images": len(only), "sampler": "sgld"})
    more = {"jeat": text, "classes": only.classes}
    stored.save_npz(only.x.numpy(), only.y, tmp_path / "real.npz", more)
    real = image_scores(tmp_path / "real.npz", features=judge)
    assert (real.precision, real.recall) == (1.0, 1.0)
    assert real.fid == pytest.approx(0, abs=1e-4)
    # Those that lead from class to class are of the two, however few they are.
    writers.save_npz(prepare(artist, num=4, interpolate=(3, 8), steps=1), tmp_path / "way.npz")
    way = image_scores(tmp_path / "way.npz", features=judge)
    assert way.protocol["reference"]["classes"] == "3, 8"
    assert way.protocol["reference"]["n"] == len(index)
    # Five images of a run that draws all ten classes are of five by chance.
    five = image_scores(artist, features=judge, num=5, steps=1)
    assert five.protocol["reference"]["n"] == 1400
    assert "images of 5 of the 10 classes" in five.protocol["comparable"]


def test_classes_of_another_data_set_are_not_those_of_the_same_index(
    artist: Model, judge: Model, tmp_path: Path
) -> None:
    kinds = [f"kind {k:02d}" for k in range(12)]
    generator = torch.Generator().manual_seed(0)
    for name in kinds:
        for split in ("train", "test"):
            pixels = torch.rand(4, 1, 8, 8, generator=generator)
            save_images(pixels, tmp_path / "kinds" / split / name)
    settings = {"features": judge, "dataset": f"folder:{tmp_path / 'kinds'}"}
    for save, name, more in (
        (writers.save_npz, "set.npz", {}),
        (writers.save_folder, "set", {}),
        (writers.save_npz, "two.npz", {"classes": ["3", "8"]}),
        (writers.save_folder, "two", {"classes": ["3", "8"]}),
    ):
        save(prepare(artist, num=20, steps=1, **more), tmp_path / name)
        listener = Listener()
        found = image_scores(tmp_path / name, reporter=listener, **settings).protocol
        assert found["reference"] == {"dataset": settings["dataset"], "split": "train", "n": 48}
        said = [text for text in listener.said if "does not have the classes of the images" in text]
        assert len(said) == bool(more)
    drawn = image_scores(artist, num=20, steps=1, **settings).protocol
    assert drawn["reference"]["n"] == 48
    assert drawn["classes"] == "10, 2 of each"


@pytest.mark.parametrize("drawn", [False, True])
def test_names_of_files_do_not_matter(
    drawn: bool, artist: Model, judge: Model, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    if drawn:
        writers.save_folder(prepare(artist, num=24, steps=1), folder)
    else:
        save_images(torch.rand(24, 1, 8, 8), folder)
    settings = {"features": judge, "splits": 3, "kid_subset_size": 10}
    before = image_scores(folder, **settings)
    names = sorted(folder.glob("*.png"))
    order = np.random.default_rng(0).permutation(len(names))
    for path, k in zip(names, order, strict=True):
        path.rename(folder / f"renamed-{k:02}.png")
    after = image_scores(folder, **settings)
    numbers = ("inception_score", "inception_score_std", "fid", "kid", "kid_std", "recall")
    assert [getattr(after, name) for name in numbers] == [getattr(before, name) for name in numbers]
    assert after.protocol == before.protocol
    few = image_scores(folder, num=10, **settings)
    assert few.protocol["selection"] == ("none" if drawn else "not known")


def test_an_unfinished_run_is_said(judge: Model, tmp_path: Path) -> None:
    from jeatcli.landscapes.landscape import energy_landscape
    from jeatcli.scoring.classifier_scores import classifier_scores

    run = load_run("half")
    half = replace(run, meta=replace(run.meta, finished=False, epoch=1, epochs=2))
    for use in (
        lambda reporter: image_scores(half, features=judge, num=4, steps=1, reporter=reporter),
        lambda reporter: image_scores(judge, features=half, num=4, steps=1, reporter=reporter),
        lambda reporter: classifier_scores(half, num=20, reporter=reporter),
        lambda reporter: energy_landscape([half], grid=3, reporter=reporter),
    ):
        listener = Listener()
        use(listener)
        assert any("`half` was stopped after 1 of 2 epochs" in text for text in listener.said)


def test_a_network_of_nan_is_refused(judge: Model) -> None:
    from jeatcli.landscapes.landscape import energy_landscape

    wild = load_run("wild", seed=2)
    next(wild.classifier.parameters()).fill_(torch.nan)
    for use in (
        lambda: image_scores(wild, features=judge, num=4, steps=1),
        lambda: image_scores(judge, features=wild, num=4, steps=1),
        lambda: energy_landscape([wild], grid=3),
    ):
        with pytest.raises(JeatError, match="`wild`"):
            use()
    assert not list(runs_dir().rglob("*.npz"))


def test_a_folder_of_class_folders_and_what_is_left_out(tmp_path: Path) -> None:
    save_run("judge")
    ask = ("--features", "judge", "--device", "cpu")
    for name in ("cats", "dogs"):
        save_images(torch.rand(5, 1, 8, 8), tmp_path / "classes" / name)
    said = here("score", tmp_path / "classes", *ask)
    refused(said, 1, "itself holds no pictures; left out: 5 in `cats/`, 5 in `dogs/`")
    save_images(torch.rand(2, 1, 8, 8), tmp_path / "classes")
    (tmp_path / "classes" / "notes.txt").write_text("x")
    (tmp_path / "classes" / "._000000.png").write_bytes(b"of macOS")
    shown = here("score", tmp_path / "classes", *ask)
    assert shown.exit_code == 0
    line = "2 of 2 pictures; left out: 1 `.txt`, 5 in `cats/`, 5 in `dogs/`"
    assert line in shown.stderr
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8, 1), np.uint8))
    refused(here("score", tmp_path / "a.npy", *ask), 1, "is a single array", "`arr_0`")
