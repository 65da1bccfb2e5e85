"""Other people's checkpoints that cannot be read, or are not what the options say."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import checkpoints as strangers
from helpers.checkpoints import PLAIN, weights, written
from helpers.cli import done, here, refused, untouched
from PIL import Image
from safetensors.torch import save_file

from jeatcli.checkpoints import checkpoint
from jeatcli.checkpoints.settings import Foreign
from jeatcli.errors import JeatError, UsageProblem

ATTACK = ("-n", "20", "--attack", "fgsm", "--device", "cpu")
DESCRIBED = ("--arch", "wrn-10-1", "--dataset", "digits")


class Payload:
    """A pickle that makes a directory when it is read carelessly."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("described", [(), DESCRIBED])
def test_a_pickle_that_would_run_code(
    tmp_path: Path, legacy: bool, described: tuple[str, ...]
) -> None:
    path, place = tmp_path / "theirs.pt", tmp_path / "harm"
    content = {"state_dict": weights(), "args": Payload(place)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    for verb in ("attack", "sample"):
        said = here(verb, path, *described)
        refused(said, 1, f"`{path}` holds more than tensors", "mkdir", "could run code")
    Image.new("L", (8, 8)).save(tmp_path / "drawn.png")
    refused(here("score", tmp_path, "--features", path, *described), 1, "could run code")
    assert not place.exists()
    torch.load(path, weights_only=False)
    assert place.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>Quota exceeded</html>" * 9, "is a web page"),
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(99), "is damaged"),
        (b"\x80\x02}q\x00.", "is damaged"),
        (gzip.compress(b"x", mtime=0), "is compressed by gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "theirs.pt"
    path.write_bytes(content)
    way = {"is a poi": "git lfs pull", "is compr": "gunzip"}.get(words[:8], "download")
    refused(here("attack", path, *DESCRIBED), 1, f"`{path}` {words}", way)
    if words.endswith("LFS"):  # a run that was cloned without its files
        path.rename(path := path.with_suffix(".safetensors"))
        refused(here("attack", path), 1, f"`{path}` {words}", way)


def test_json_that_is_no_index(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    refused(here("attack", path, *DESCRIBED), 1, f"`{path}` is JSON", "as one state dict")


def test_one_of_several_files(tmp_path: Path) -> None:
    for path in (tmp_path / f"model-00001-of-0000{count}.safetensors" for count in (1, 2)):
        save_file(weights(), path)
    refused(here("attack", path, *DESCRIBED), 1, f"`{path}` is 1 of 2 files", "as one state dict")
    whole = tmp_path / "model-00001-of-00001.safetensors"
    assert checkpoint.load(whole, foreign=PLAIN, device="cpu").foreign


def test_what_is_beside_a_network_without_a_prefix(tmp_path: Path) -> None:
    path = written(tmp_path, weights() | {"projector.0.weight": torch.zeros(3, 3)})
    hint = "if these are no part of its function, save a state dict without them"
    refused(here("attack", path, *DESCRIBED), 1, "1 not known to it: projector.0.weight", hint)


@pytest.mark.parametrize("name", ["{}_orig", "{}_g", "parametrizations.{}.original0"])
def test_weights_that_are_computed_from_others(tmp_path: Path, name: str) -> None:
    found = weights()
    found[f"conv1.{name.format('weight')}"] = found.pop("conv1.weight")
    refused(here("attack", written(tmp_path, found), *DESCRIBED), 1, "`prune.remove`")


def test_a_name_of_many_lines_is_shown_on_one(tmp_path: Path) -> None:
    path = written(tmp_path, weights() | {"a\nHint: " + 999 * "x": torch.zeros(3)})
    said = here("attack", path, *DESCRIBED).stderr
    assert "1 not known to it: a Hint: xxx" in said
    assert 200 * "x" not in said


def test_a_checkpoint_cut_short(tmp_path: Path) -> None:
    path = written(tmp_path, weights())
    whole = path.read_bytes()
    for length in (len(whole) - 9, len(whole) // 2, 20):
        path.write_bytes(whole[:length])
        refused(here("attack", path, *DESCRIBED), 1, f"`{path}` is damaged")
    path = tmp_path / "theirs.safetensors"
    save_file(weights(), path)
    whole = path.read_bytes()
    for length in (len(whole) - 9, 500, 9, 3, 0):
        path.write_bytes(whole[:length])
        said = here("attack", path, *DESCRIBED)
        refused(said, 1, f"`{path}` is cut short", "or download it anew")
        assert "resume the run" not in said.stderr


def test_a_web_page_in_the_place_of_a_file(tmp_path: Path) -> None:
    for name in ("model.safetensors", "theirs.bin"):
        path = tmp_path / name
        path.write_bytes(b"\n<!DOCTYPE html><html>Quota exceeded</html>" * 9)
        refused(here("attack", path), 1, f"`{path}` is a web page", "download it again")


def test_a_header_of_safetensors_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes().replace(b"data_offsets", b"data_offsetz", 1))
    refused(here("attack", path), 1, "is not a jeat checkpoint", "or download it anew")


def test_a_header_whose_length_looks_like_a_web_page(tmp_path: Path) -> None:
    """A file of safetensors begins with that number: 0x3c20 is ` <`."""
    path, missing = tmp_path / "theirs.safetensors", 0
    for _ in range(2):
        save_file(weights(), path, {"note": "x" * missing})
        missing += 0x3C20 - int.from_bytes(path.read_bytes()[:8], "little")
    assert path.read_bytes()[:2] == b" <"
    assert here("attack", path, *DESCRIBED, "-n", 1, "--attack", "fgsm").exit_code == 0


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {3: 4}, "hm"])
def test_no_state_dict(tmp_path: Path, content: object) -> None:
    path = written(tmp_path, content)
    refused(here("attack", path, *DESCRIBED), 1, f"`{path}` holds no named tensors")


def test_without_a_description_the_network_is_guessed(tmp_path: Path) -> None:
    for arch, guessed in {
        "cifar-resnet-20": "--arch cifar-resnet-20 --dataset DATASET",
        "wrn-16-2": "--arch wrn-16-2 --dataset DATASET",
        "dm-wrn-10-1": "--arch dm-wrn-10-1 --dataset DATASET",
        "resnet-18-v1": "`--arch resnet-18-v1` or `--arch resnet-18-v1-pool`",
        "resnet-18-wong": "`--arch resnet-18-kuangliu` or `--arch resnet-18-wong`",
        "resnet-18": "`--arch resnet-18` or `--arch resnet-18-raw`",
    }.items():
        path = written(tmp_path, weights(arch, "module."))
        refused(here("attack", path), 2, "was not written by `jeat train`", guessed)
    refused(here("attack", path, "--arch", "resnet-18"), 2, "`--arch resnet-18 --dataset DATASET`")
    path = written(tmp_path, {"weight": torch.zeros(3, 3)})
    refused(here("attack", path), 2, "`--arch ARCH --dataset DATASET`")


def test_what_does_not_fit_is_told_name_by_name(tmp_path: Path) -> None:
    found = weights()
    found["fc.weight"] = torch.zeros(7, 64)
    found["fc.extra"] = torch.zeros(7)
    del found["bn1.bias"], found["bn1.weight"]
    refused(
        here("attack", written(tmp_path, found), *DESCRIBED),
        1,
        "does not fit `wrn-10-1`: of its names",
        "2 missing: bn1.weight, bn1.bias",
        "1 not known to it: fc.extra",
        "1 of another shape: fc.weight 7x64 (not 10x64)",
        "it fits none of the networks cifar-resnet-N, ",
    )


def test_another_network_that_fits_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, weights("resnet-18-v1"))
    told = r"4 missing: (.|\n)*19 not known to it: "
    with pytest.raises(JeatError, match=told) as caught:
        checkpoint.load(path, foreign=replace(PLAIN, arch="resnet-18"))
    assert "more" not in caught.value.message
    assert caught.value.hint == "it fits `--arch resnet-18-v1` or `--arch resnet-18-v1-pool`"
    many = weights() | {f"extra.{k}": torch.zeros(1) for k in range(30)}
    with pytest.raises(
        JeatError, match=r"30 not known to it: (extra\.\d+, ){19}extra.19, and 10 more"
    ):
        checkpoint.load(written(tmp_path, many), foreign=PLAIN)
    shape = replace(strangers.DIGITS, norm_layer="none")
    path = written(tmp_path, strangers.net("wrn-10-1", shape).state_dict())
    with pytest.raises(JeatError) as caught:
        checkpoint.load(path, foreign=PLAIN)
    assert caught.value.hint == "it fits `--arch wrn-10-1 --norm-layer none`"


def test_what_fits_for_other_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(JeatError, match=r"16x1x3x3 \(not 16x3x3x3\)") as caught:
        checkpoint.load(written(tmp_path, weights()), foreign=replace(PLAIN, dataset="cifar10"))
    assert caught.value.hint == (
        "it fits `--arch wrn-10-1` of another number of classes than the 10 of cifar10, or for "
        "images of other channels or size: check `--dataset`"
    )


def test_parameters_without_running_statistics_are_told(tmp_path: Path) -> None:
    """They fit group norms, too, which compute another function."""
    lacks = "it lacks the running statistics of batch norms: save `net.state_dict()`"
    alone = {key: value for key, value in weights().items() if "running" not in key}
    with pytest.raises(JeatError) as caught:
        checkpoint.load(written(tmp_path, alone), foreign=PLAIN)
    assert str(caught.value.hint).startswith(lacks)  # a counter is of batch norms
    alone = {key: value for key, value in alone.items() if "num_batches" not in key}
    fits = f"`--arch wrn-10-1 --norm-layer group`, unless {lacks}"
    for foreign in (PLAIN, None):
        with pytest.raises(JeatError) as caught:
            checkpoint.load(written(tmp_path, alone), foreign=foreign)
        assert fits in str(caught.value.hint)


def test_two_networks_in_one_state_dict_stay_apart(tmp_path: Path) -> None:
    """Of the same weights either will do; of others the user chooses."""
    same = weights(prefix="model.") | weights(prefix="net.")
    assert checkpoint.load(written(tmp_path, same), foreign=PLAIN).foreign
    other = {f"net.{key}": value + 1 for key, value in weights().items()}
    path = written(tmp_path, weights(prefix="model.") | other)
    with pytest.raises(UsageProblem, match="several such networks: `model`, `net`") as caught:
        checkpoint.load(path, foreign=PLAIN)
    assert caught.value.hint == "choose one with `--entry`"
    for entry in ("net", "model"):
        model = checkpoint.load(path, foreign=replace(PLAIN, entry=entry), device="cpu")
        head = model.classifier.net.get_parameter("fc.bias")
        assert torch.equal(head, weights()["fc.bias"] + (entry == "net"))
    with pytest.raises(UsageProblem, match="unknown entry `nett`") as caught:
        checkpoint.load(path, foreign=replace(PLAIN, entry="nett"))
    assert "did you mean `net`?" in str(caught.value.hint)


def test_a_run_needs_no_description(home: Path) -> None:
    with untouched(home):
        for verb in ("attack", "sample"):
            said = here(verb, "standard", *DESCRIBED)
            refused(said, 2, "was written by `jeat train`", "leave out `--arch`")
        said = here("score", "standard", "--features", "digits-jeat-small", "--arch", "small")
        refused(said, 2, "was written by `jeat train`")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": (0.5,)}, "`--std`"),
        ({"std": (0.5,)}, "`--mean`"),
        ({"mean": (125.3,), "std": (0.2,)}, "125.3 is not of pixels in"),
        ({"mean": (0.5,), "std": (0.0,)}, "must be above 0"),
        ({"dataset": "cifar11"}, "did you mean `cifar10`"),
    ],
)
def test_descriptions_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        Foreign(**given)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_numbers_that_are_none() -> None:
    refused(here("attack", "any", "--mean", ".5,x"), 2, "--mean", "x")


def test_nothing_is_written_beside_it(home: Path, tmp_path: Path, monkeypatch) -> None:
    work, folder = tmp_path / "work", tmp_path / "theirs"
    work.mkdir()
    folder.mkdir()
    monkeypatch.chdir(work)
    # The name that would be a run's, were it ours.
    path = folder / "model.safetensors"
    save_file(weights(), path)
    with untouched(folder), untouched(home):
        assert "clean" in done("attack", path, *DESCRIBED, *ATTACK)
        assert not [*work.iterdir()]
        done("sample", path, *DESCRIBED, "-n", "4", "--steps", "1", "--device", "cpu")
    assert [*work.rglob("*.png")] == [work / "model" / "samples" / "all-seed0.png"]


def test_a_header_of_a_length_that_begins_a_pickle(home: Path) -> None:
    """A safetensors file begins with the length of its header, whose first byte may be 0x80."""
    path = home / "standard" / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    padded = length + (0x80 - length) % 256
    header = content[8 : 8 + length].ljust(padded)
    path.write_bytes(padded.to_bytes(8, "little") + header + content[8 + length :])
    assert path.read_bytes()[0] == 0x80
    assert not checkpoint.load(path, device="cpu").foreign


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_programs_are_named_for_what_they_are(tmp_path: Path) -> None:
    linear, x = torch.nn.Linear(2, 2), torch.rand(1, 2)
    torch.jit.trace(linear, x).save(tmp_path / "traced.pt")
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", np.zeros(3))
    for name, kind, way in (
        ("traced.pt", "a TorchScript program", "torch.jit.load("),
        ("a.npy", "a NumPy file", "torch.save"),
        ("a.npz", "a NumPy file", "torch.save"),
    ):
        said = here("attack", tmp_path / name, *DESCRIBED)
        refused(said, 1, f"{name}` is {kind}, not a state dict", "Hint: ", way)


def test_a_refused_pickle_says_how_to_save_the_weights(tmp_path: Path) -> None:
    path = written(tmp_path, torch.nn.Linear(2, 2))
    refused(here("attack", path), 1, "torch.nn.modules.linear.Linear", ".state_dict(), ", '["state')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weight: weight.to_sparse(), "sparse"),
        (lambda weight: weight.to("meta"), "without content"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "quantised"),
    ],
    ids=["sparse", "meta", "quantised"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensors_that_are_no_weights(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    found = weights()
    found["fc.weight"] = change(found["fc.weight"])
    path = written(tmp_path, found)
    refused(here("attack", path, *DESCRIBED), 1, f"holds `fc.weight`, which is {words}", "Hint: ")


@pytest.mark.parametrize("kind", [torch.int32, torch.int8, torch.bool, torch.complex64])
def test_rounded_weights_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    """torch would copy them into a network of float32 without a word."""
    found = weights()
    found["fc.weight"] = found["fc.weight"].to(kind)
    path = written(tmp_path, found)
    said = here("attack", path, *DESCRIBED)
    name = str(kind).removeprefix("torch.")
    refused(said, 1, f"holds `fc.weight` as {name}, where the network has float32")


def test_a_normalisation_that_none_can_be_names_its_file(tmp_path: Path) -> None:
    content = {f"model.{name}": value for name, value in weights().items()}
    content |= {"mean": torch.full((1, 1, 1, 1), torch.nan), "std": torch.ones(1, 1, 1, 1)}
    with pytest.raises(UsageProblem, match=r"theirs\.pt`: a normalisation with nan") as caught:
        checkpoint.load(written(tmp_path, content), foreign=replace(PLAIN, mean=None, std=None))
    assert caught.value.hint == "give `--mean` and `--std`, of pixels in [0, 1]"
