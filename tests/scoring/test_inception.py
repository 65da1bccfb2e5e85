"""The Inception weights: found, checked, said to be absent, and the library's own numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.extractors import publish
from helpers.pictures import save_images
from helpers.runs import Listener
from numpy.typing import NDArray

from jeatcli.checkpoints.model import Model
from jeatcli.data import pictures
from jeatcli.data.images import Images
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.runtime import digests, download, files
from jeatcli.scoring import features, inputs, networks
from jeatcli.scoring.extractors import load_extractor
from jeatcli.scoring.image_scores import image_scores
from jeatcli.scoring.settings import EXTRACTORS

Floats = NDArray[np.float64]
FILE = EXTRACTORS["inception"].file


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of Inception's layout that holds random numbers."""
    from torch_fidelity import FeatureExtractorInceptionV3, feature_extractor_inceptionv3

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object) -> None:
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {}
        )
        net = Blank("blank", ["2048"])
    torch.manual_seed(0)
    for weight in net.parameters():
        if weight.dim() > 1:
            weight.normal_(std=(2 / weight[0].numel()) ** 0.5)
    path = tmp_path_factory.mktemp("inception") / FILE
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take FID and KID on 192 features: the roots of 2048 take longer than all other tests."""
    from torch_fidelity import FeatureExtractorInceptionV3

    layers = {"isc": "logits_unbiased", "fid": "192", "kid": "192", "prc": "192"}
    monkeypatch.setattr(
        FeatureExtractorInceptionV3, "get_default_feature_layer_for_metric", layers.__getitem__
    )
    monkeypatch.setattr(networks, "LAYERS", ("192", "logits_unbiased"))


@pytest.mark.usefixtures("_shallow")
def test_inception_scores_are_the_library_s(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_fidelity import calculate_metrics

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 32, 32, generator=generator)
    pixels = torch.randint(256, (5, 3, 32, 32), generator=generator, dtype=torch.uint8)
    reference = Images("cifar10", pixels, torch.zeros(5).long(), ("a",))
    monkeypatch.setattr(inputs, "load_images", lambda *_, **__: reference)
    # The library goes by names, and we by digests of the pixels.
    rounded = list(pictures.to_uint8(images))
    rounded.sort(key=lambda image: hashlib.sha256(image.tobytes()).digest())
    save_images(np.stack(rounded), tmp_path / "ours")
    save_images(pixels.float() / 255, tmp_path / "theirs")

    found = image_scores(
        tmp_path / "ours",
        dataset="cifar10",
        inception_weights=random_weights,
        splits=2,
        kid_subset_size=3,
    )
    direct = calculate_metrics(
        input1=str(tmp_path / "ours"),
        input2=str(tmp_path / "theirs"),
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        isc_splits=2,
        kid_subset_size=3,
        prc_neighborhood=3,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(random_weights),
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    assert found.inception_score == pytest.approx(direct["inception_score_mean"], rel=1e-6)
    assert found.inception_score_std == pytest.approx(direct["inception_score_std"], rel=1e-6)
    assert found.fid == pytest.approx(direct["frechet_inception_distance"], rel=1e-6)
    assert found.kid == pytest.approx(direct["kernel_inception_distance_mean"], rel=1e-6)
    assert found.precision == pytest.approx(direct["precision"], rel=1e-6)
    assert found.recall == pytest.approx(direct["recall"], rel=1e-6)
    assert found.kid_std == pytest.approx(direct["kernel_inception_distance_std"], rel=1e-6)
    assert found.protocol["features"]["sha256"] == digests.checksum(random_weights)
    assert "not the published Inception file" in found.protocol["comparable"]


def test_grey_images_are_repeated_as_the_library_would() -> None:
    pixels = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    colour = features.coloured(pixels)
    for grey, rgb in zip(pixels, colour, strict=True):
        converted = pictures.to_image(grey.numpy()).convert("RGB")
        assert np.array_equal(np.array(converted).transpose(2, 0, 1), rgb.numpy())


def test_a_file_in_the_cache_is_used(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "inception", sha256=digests.checksum(random_weights))
    folder = files.cache_dir() / "inception"
    folder.mkdir(parents=True)
    (folder / FILE).symlink_to(random_weights)
    assert load_extractor("inception").path == folder / FILE


def test_offline_says_which_file_to_put_where(
    artist: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, "inception", mirrors=("http://127.0.0.1:9/weights.pth",))
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    listener = Listener()
    with pytest.raises(JeatError) as problem:
        image_scores(artist, reporter=listener)
    assert artist.meta.shape[0] == 1
    assert "say little about grey images: `--features RUN`" in listener.said[0]  # before a download
    assert FILE in problem.value.message
    hint = problem.value.hint or ""
    assert str(files.cache_dir() / "inception") in hint
    assert "http://127.0.0.1:9/weights.pth" in hint
    assert "--features RUN" in hint


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("executed",)


@pytest.mark.parametrize("content", ["nothing", "text", "pickle", "other"])
def test_what_is_no_weights_file(
    content: str, artist: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("<html>not found</html>")
    elif content == "pickle":
        torch.save({"a": _Evil()}, path)
    elif content == "other":
        torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(JeatError, match=r"weights\.pth") as problem:
        image_scores(artist, inception_weights=path)
    assert FILE in (problem.value.hint or "")
    assert "executed" not in capfd.readouterr().out


# Bad input


def test_pictures_need_a_reference(random_weights: Path, tmp_path: Path) -> None:
    save_images(torch.rand(4, 1, 8, 8), tmp_path / "p")
    with pytest.raises(UsageProblem, match="no reference data set") as problem:
        image_scores(tmp_path / "p", inception_weights=random_weights)
    assert "--dataset" in (problem.value.hint or "")


def test_the_layers_are_the_library_s_own() -> None:
    from torch_fidelity import FeatureExtractorInceptionV3

    of = FeatureExtractorInceptionV3.get_default_feature_layer_for_metric
    values, logits = networks.LAYERS
    assert {of("fid"), of("kid"), of("prc")} == {values}
    assert of("isc") == logits


def test_what_was_checked_is_what_is_used(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    given: list[object] = []
    original = networks.FeatureExtractorInceptionV3

    def watched(name: str, layers: list[str], **settings: object) -> object:
        given.append(settings["feature_extractor_weights_path"])
        # Whoever replaces the file now is too late.
        path.write_bytes(b"other weights")
        return original(name, layers, **settings)

    path = Path(shutil.copy(random_weights, tmp_path))
    monkeypatch.setattr(networks, "FeatureExtractorInceptionV3", watched)
    loaded = load_extractor("inception", path)
    assert not isinstance(given[0], str | Path)
    assert loaded.sha256 == digests.checksum(random_weights)
