"""Where images start: the law of each, and what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import Listener
from helpers.training import run
from safetensors import safe_open
from torch import Tensor

from jeatcli.checkpoints.checkpoint import load, save_model
from jeatcli.checkpoints.model import Model
from jeatcli.core.class_gaussians import ClassGaussians
from jeatcli.core.rng import ImageRng
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError
from jeatcli.sampling import initializers, sample, settings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("runs") / "jem"
    return load(run(folder, "jem", options={"buffer_size": 200}).run)


def drawn(name: str, model: Model, count: int = 200) -> tuple[Tensor, Tensor]:
    y = torch.arange(count) % 10
    like = torch.empty(count, *model.meta.shape)
    return initializers.resolve(name, model)(y, like, ImageRng(range(count))), y


@pytest.mark.parametrize("name", settings.INITIALIZERS)
def test_a_start_does_not_depend_on_the_batch(model: Model, name: str) -> None:
    start = initializers.resolve(name, model)
    like = torch.empty(6, *model.meta.shape)
    whole = start(torch.arange(6), like, ImageRng(range(6)))
    part = start(torch.arange(2, 5), like[2:5], ImageRng(range(2, 5)))
    assert torch.equal(whole[2:5], part)
    assert ((whole >= 0) & (whole <= 1)).all()
    assert not torch.equal(whole[0], whole[1])


def test_uniform_and_noise_know_no_class(model: Model) -> None:
    uniform, _ = drawn("uniform", model)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.std().item() == pytest.approx(12**-0.5, abs=0.01)
    noise, _ = drawn("noise", model)
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.std().item() == pytest.approx(initializers.NOISE, abs=0.005)


def test_pca_combines_the_leading_directions_of_the_class(model: Model) -> None:
    statistics = model.statistics
    assert statistics is not None
    y = torch.tensor([3] * 400)
    like = torch.empty(400, *model.meta.shape)
    found = statistics.sample_pca(y, like, ImageRng(range(400)), 5)
    # Away from the clip to [0, 1] nothing is left outside of mean and five directions.
    basis = torch.linalg.qr(statistics.factor[3, :5].flatten(1).T).Q
    inside = ((found > 0) & (found < 1)).flatten(1).float().mean(1)
    assert inside.max() < 1  # digits have borders at 0: the clip is part of the law
    offset = (found - statistics.mean[3]).flatten(1)
    rest = (offset - offset @ basis @ basis.T).norm(dim=1) / offset.norm(dim=1)
    whole = statistics.draw(y, like, ImageRng(range(400))) - statistics.mean[3]
    whole = whole.flatten(1)
    spread = (whole - whole @ basis @ basis.T).norm(dim=1) / whole.norm(dim=1)
    assert rest.mean() < 0.6 * spread.mean()


def test_the_names_are_those_of_the_statistics(model: Model) -> None:
    statistics = model.statistics
    assert statistics is not None
    like = torch.empty(200, *model.meta.shape)
    found, y = drawn("gaussian", model)
    assert torch.equal(found, statistics.draw(y, like, ImageRng(range(200))))
    found, y = drawn("pca", model)
    assert torch.equal(found, statistics.sample_pca(y, like, ImageRng(range(200)), 30))


def test_data_are_training_images_of_the_class(model: Model) -> None:
    found, y = drawn("data", model, 50)
    training = load_images("digits", "train")
    known = {
        (image.numpy().tobytes(), int(label))
        for image, label in zip(training.x, training.y, strict=True)
    }
    pixels = (found * 255).round().to(torch.uint8)
    assert all((x.numpy().tobytes(), int(k)) in known for x, k in zip(pixels, y, strict=True))


def test_data_of_a_class_without_a_training_image(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = load_images("digits", "train")
    few = training.take((training.y != 3).nonzero().flatten())
    monkeypatch.setattr(initializers, "load_images", lambda *_, **__: few)
    with pytest.raises(JeatError, match="no training image of `3`"):
        drawn("data", model, 50)


def test_a_class_without_training_images_is_told(model: Model, tmp_path: Path) -> None:
    training = load_images("digits", "train")
    few = training.take((training.y != 3).nonzero().flatten())
    statistics = ClassGaussians.fit(few.x, few.y, 10)
    path = tmp_path / "lacks-3.safetensors"
    save_model(path, model.classifier, model.meta, statistics)
    text = "no training image of `3`: `{}` starts there from the statistics of all images"
    for init in ("gaussian", "pca"):
        heard = Listener()
        ask = {"num": 20, "steps": 0, "init": init, "batch_size": 4, "reporter": heard}
        sample.sample(load(path), classes=["2", "4"], **ask)
        assert heard.said == []
        sample.sample(load(path), **ask)
        assert heard.said == [text.format(init)]
    # Files of early versions do not say how many images there were.
    assert model.statistics is not None
    early = ClassGaussians(model.statistics.mean, model.statistics.factor, model.statistics.ridge)
    save_model(path, model.classifier, model.meta, early)
    assert load(path).statistics.absent == []  # type: ignore[union-attr]


def test_a_class_that_the_buffer_lacks_is_told(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_images("digits", "train").first(1).x / 255
    (there,) = model.classifier(pool).argmax(1).tolist()
    monkeypatch.setattr(initializers, "_replay_buffer", lambda _: pool)
    heard = Listener()
    sample.sample(model, num=20, steps=0, init="buffer", reporter=heard)
    names = ", ".join(f"`{label}`" for label in range(10) if label != there)
    assert heard.said == [
        f"the model takes no image of the replay buffer for {names}: `buffer` starts there from any"
    ]


def test_buffer_gives_ends_of_chains_that_the_model_takes_for_the_class(model: Model) -> None:
    with safe_open(model.path.with_name("state.safetensors"), framework="pt") as state:
        pool = state.get_tensor("method.buffer")
    assert pool.shape == (200, *model.meta.shape)
    found, y = drawn("buffer", model, 50)
    known = {image.numpy().tobytes() for image in pool}
    assert all(image.numpy().tobytes() in known for image in found)
    there = torch.isin(y, model.classifier(pool).argmax(1))
    assert there.any()
    assert torch.equal(model.classifier(found[there]).argmax(1), y[there])


def test_what_a_buffer_needs(model: Model, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(model.path.read_bytes())
    with pytest.raises(JeatError, match=r"the replay buffer of `elsewhere` is missing"):
        sample.sample(moved, num=2, steps=0, init="buffer")
    plain = run(tmp_path / "standard", "standard", limit=32, epochs=1).run
    with pytest.raises(JeatError, match=r"holds no replay buffer, which the method `standard`"):
        sample.sample(plain, num=2, steps=0, init="buffer")
