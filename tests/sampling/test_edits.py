"""Counterfactuals, holes that are filled, and ways between classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import Listener
from helpers.training import run
from PIL import Image

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.core import energy
from jeatcli.data import images, pictures
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.sampling import sample
from jeatcli.sampling import settings as samplers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("runs") / "jeat"
    return load(run(folder, "jeat", epochs=4, limit=0, batch_size=64).run)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a test image of class 3."""
    test = images.load_images("digits", "test")
    pixels = test.x[int((test.y == 3).nonzero()[0])]
    path = tmp_path_factory.mktemp("pictures") / "three.png"
    pictures.save_png(pictures.to_image(pixels.numpy()), path)
    return path


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a mask whose hole is the lower half."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[4:] = 255
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_a_counterfactual_starts_at_the_image_and_becomes_the_class(
    model: Model, three: Path, sampler: str
) -> None:
    settings = {"classes": [8], "image": three, "sampler": sampler}
    start = sample.sample(model, steps=0, **settings)
    assert torch.equal(render_back(three), (start.images[0] * 255).round().to(torch.uint8))
    assert start.distance is not None
    assert start.distance.item() == pytest.approx(0, abs=1e-6)
    end = sample.sample(model, steps=60, **settings)
    # What `das` lowers is the energy of shifted images, too much for digits of 8 x 8 pixels.
    assert sampler == "das" or model.classifier(end.images).argmax(1).item() == 8
    assert end.distance is not None
    assert end.distance.item() > 0.1
    if sampler == "pgd":
        assert end.distance.item() <= end.settings["eps"] + 1e-5


@pytest.mark.parametrize(
    ("given", "alike"),
    [
        ({"sampler": "pgd", "num": 2}, True),
        ({"sampler": "ascent", "best_of": 2}, True),
        ({"sampler": "sgld", "noise": 0.0, "num": 2}, True),
        ({"sampler": "sgld", "num": 2}, False),
        ({"sampler": "pgd", "num": 1}, False),
        ({"sampler": "pgd", "classes": [8, 9]}, False),
    ],
)
def test_images_that_are_all_the_same_are_warned_of(
    model: Model, three: Path, given: dict[str, Any], alike: bool
) -> None:
    listener = Listener()
    settings = {"classes": [8], "steps": 3, **given}
    drawn = sample.sample(model, image=three, reporter=listener, **settings)
    assert any("all images of a class are the same" in text for text in listener.said) == alike
    if drawn.images.shape[0] == 2 and settings["classes"] == [8]:
        assert torch.equal(drawn.images[0], drawn.images[1]) == alike


def render_back(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))[None]


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_only_the_hole_is_drawn(model: Model, three: Path, mask: Path, sampler: str) -> None:
    drawn = sample.sample(
        model, num=4, classes=[3], steps=20, sampler=sampler, inpaint=three, mask=mask
    )
    known = render_back(three).float() / 255
    assert torch.equal(drawn.images[:, :, :4], known[:, :4].expand(4, 1, 4, 8))
    lower = drawn.images[:, :, 4:]
    assert (lower - known[:, 4:]).abs().amax((1, 2, 3)).min() > 0.01
    assert not torch.equal(lower[0], lower[1])
    assert drawn.settings["mask"]["path"] == str(mask)


def test_a_way_leads_from_class_to_class(model: Model) -> None:
    between = ("1", 7)
    drawn = sample.sample(model, num=9, steps=60, noise=0.0, interpolate=between)
    assert drawn.labels.tolist() == [1] * 5 + [7] * 4
    logits = model.classifier(drawn.images)
    one, seven = (
        energy.joint(logits, torch.tensor([1] * 9)),
        energy.joint(logits, torch.tensor([7] * 9)),
    )
    assert logits.argmax(1)[[0, -1]].tolist() == [1, 7]
    assert (one - seven)[0] < (one - seven)[4] < (one - seven)[-1]
    steps = (drawn.images[1:] - drawn.images[:-1]).flatten(1).norm(dim=1)
    assert steps.max() < (drawn.images[-1] - drawn.images[0]).norm()
    batches = sample.sample(model, num=9, steps=60, noise=0.0, interpolate=between, batch_size=2)
    torch.testing.assert_close(drawn.images, batches.images, atol=1e-4, rtol=0)


def test_a_way_is_straight_in_its_starts_and_its_energies(model: Model) -> None:
    settings = {"num": 5, "interpolate": (1, 7)}
    starts = sample.sample(model, steps=0, **settings).images
    ends = [sample.sample(model, steps=0, num=1, classes=[end]).images for end in (1, 7)]
    shares = torch.linspace(0, 1, 5).view(-1, 1, 1, 1)
    torch.testing.assert_close(starts, torch.lerp(*ends, shares))
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    plan = sample.prepare(model, **settings)
    found = plan.energy_of(torch.arange(5), plan.labels)(x)
    logits = model.classifier(x)
    for k in range(5):
        expected = -(4 - k) / 4 * logits[k, 1] - k / 4 * logits[k, 7]
        torch.testing.assert_close(found[k], expected, rtol=1e-4, atol=1e-5)


def test_best_of_keeps_the_lowest_energy_and_starts_with_the_image_itself(model: Model) -> None:
    settings = {"num": 12, "steps": 3, "init": "uniform"}
    alone = sample.sample(model, **settings)
    best = sample.sample(model, best_of=4, **settings)
    assert torch.equal(sample.sample(model, best_of=1, **settings).images, alone.images)
    heights = [energy.joint(model.classifier(s.images), s.labels) for s in (alone, best)]
    assert (heights[1] <= heights[0] + 1e-5).all()
    assert (heights[1] < heights[0] - 1e-3).any()
    assert best.settings["best_of"] == 4
    assert "best_of" not in alone.settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": "a.png", "interpolate": (1, 2)}, "choose one|start at a picture"),
        ({"inpaint": "a.png"}, "need each other"),
        ({"mask": "a.png"}, "need each other"),
        ({"image": "a.png", "init": "uniform"}, "`--init` would change nothing"),
        ({"interpolate": (1, 2), "classes": [3]}, "`--class` would change nothing"),
        ({"interpolate": (1, 1)}, "two ends, not 8 images of 1 class"),
        ({"interpolate": (1, 2), "num": 1}, "two ends, not 1 image of 2 classes"),
        ({"interpolate": (1, "x")}, "unknown class"),
        ({"interpolate": (1, 2, 3)}, "`interpolate` cannot be"),
        ({"image": 397}, "digits has no test image 397"),
        ({"image": -1}, "digits has no test image -1"),
    ],
)
def test_what_does_not_go_together(model: Model, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageProblem, match=message):
        sample.sample(model, **settings)


def test_a_number_is_a_test_image(model: Model, tmp_path: Path) -> None:
    test = images.load_images("digits", "test")
    pictures.save_png(pictures.to_image(test.x[17].numpy()), tmp_path / "17.png")
    settings = {"classes": [8], "sampler": "pgd", "steps": 5}
    by_number = sample.sample(model, image=17, **settings)
    by_file = sample.sample(model, image=tmp_path / "17.png", **settings)
    assert torch.equal(by_number.images, by_file.images)
    assert by_number.settings["from"] == {"dataset": "digits", "split": "test", "index": 17}


def test_pictures_that_do_not_fit(model: Model, three: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.new("L", (9, 8), 255).save(wide)
    with pytest.raises(JeatError, match=r"9x8 in mode L, but the images of `jeat` are 8x8"):
        sample.sample(model, image=wide)
    with pytest.raises(JeatError, match="9x8 with 72 light pixels"):
        sample.sample(model, inpaint=three, mask=wide)
    wide_dark = Image.new("L", (9, 8))
    wide_dark.putpixel((0, 0), 255)
    wide_dark.save(wide)
    with pytest.raises(JeatError, match="9x8 with 1 light pixel\\n"):
        sample.sample(model, inpaint=three, mask=wide)
    dark = tmp_path / "dark.png"
    Image.new("L", (8, 8)).save(dark)
    with pytest.raises(JeatError, match="0 light pixels"):
        sample.sample(model, inpaint=three, mask=dark)
    painted = tmp_path / "painted.png"  # white on a transparent ground
    Image.fromarray(np.eye(8, dtype=np.uint8)[..., None].repeat(4, 2) * 255).save(painted)
    with pytest.raises(JeatError, match="nothing of the picture would be kept"):
        sample.sample(model, inpaint=three, mask=painted)
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(JeatError, match=r"no.png` is not a readable picture"):
        sample.sample(model, inpaint=three, mask=tmp_path / "no.png")
    with pytest.raises(JeatError, match=r"there is no picture `.*gone.png`"):
        sample.sample(model, inpaint=three, mask=tmp_path / "gone.png")
