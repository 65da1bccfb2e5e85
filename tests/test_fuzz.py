"""Random input at every border: in words, of the right file or option, and without a trace.

Whatever is read, `jeat` either does what it is asked or refuses it with a message that names the
input; there is no internal error, and no file that it does not own is changed. Everything is made
here, and the examples are the same in every run.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import everything, here
from helpers.runs import save_run
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from jeatcli.checkpoints import state_dict
from jeatcli.checkpoints.header import read_header
from jeatcli.data import pictures, stored
from jeatcli.errors import JeatError
from jeatcli.runtime import outputs
from jeatcli.runtime.outputs import check_output
from jeatcli.training.resolve import to_toml
from jeatcli.training.settings import TrainConfig

Fuzzed = Callable[[Callable[..., None]], Callable[..., None]]


def fuzz(examples: int, **inputs: st.SearchStrategy[Any]) -> Fuzzed:
    """Try so many examples, the same in every run; fixtures are shared by all of them."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    chosen = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=quiet,
    )
    return lambda test: chosen(given(**inputs)(test))


INTS = st.sampled_from([0, 1, -1, 2, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400])
FLOATS = st.sampled_from(
    [0.0, -0.5, 0.5, 1.5, 1e-320, 3.5e38, 1e308, math.inf, -math.inf, math.nan]
)
TEXTS = st.one_of(
    st.sampled_from(["", "x", "nan", "²", "../x", "\x1b[31m", "\ud800", "a" * 5000, "\0"]),
    st.text(max_size=8),
)
SCALARS = st.one_of(st.none(), st.booleans(), INTS, FLOATS, TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def bent(draw: st.DrawFn, whole: bytes) -> bytes:
    """Flip bits of a file, cut it, or put something into it, at its ends more often."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        last = len(content)
        at = draw(st.integers(0, last) | st.integers(0, min(last, 64)))
        match draw(st.sampled_from(["flip", "cut", "drop", "insert", "repeat"])):
            case "flip" if at < last:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at:]
            case "drop":
                del content[at : at + draw(st.integers(1, 64))]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=16))
            case _:
                content += content[at:]
    return bytes(content)


def check(said: Any, *names: str) -> None:
    """Check that a command was done, with numbers, or refused in words that name its input."""
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    assert said.exit_code in (0, 1, 2, 3), said.stderr
    assert "internal" not in said.stderr
    assert "Traceback" not in said.stderr
    if said.exit_code:
        assert any(name in said.stderr for name in names), said.stderr
    elif said.stdout.startswith("{"):
        json.loads(said.stdout, parse_constant=pytest.fail)


def read_or_refused(read: Callable[[], object], path: Path) -> object:
    """Return what is read, or None where that is refused by an error that names the file."""
    try:
        return read()
    except JeatError as problem:
        message = problem.message
    assert str(path) in message
    return None


# files


@pytest.fixture
def model() -> Path:
    return save_run("model", method="jeat")


def header_of(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return the two headers of a model's file, and what is behind them."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    outer = json.loads(content[8 : 8 + size])
    about = json.loads(outer["__metadata__"]["jeat"]) | {"digest": None}
    return outer, about, content[8 + size :]


KEYS = ["activation", "arch", "classes", "dataset", "epoch", "finished", "mean", "method"]
KEYS += ["norm_layer", "options", "schema", "seed", "shape", "std", "version", "anything"]


@fuzz(60, key=st.sampled_from(KEYS), value=JSON, verb=st.sampled_from(["attack", "sample"]))
def test_headers(model: Path, tmp_path: Path, key: str, value: object, verb: str) -> None:
    whole = model.read_bytes()
    outer, inner, tensors = header_of(model)
    outer["__metadata__"]["jeat"] = json.dumps(inner | {key: value})
    text = json.dumps(outer).encode()
    model.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    before = everything(tmp_path)
    few = ("--attack", "fgsm") if verb == "attack" else ("--steps", 1, "-o", tmp_path / "x.npz")
    try:
        check(here(verb, "model", "-n", 2, *few, "--json", "--device", "cpu"), "model")
    finally:
        assert all(everything(tmp_path)[name] == before[name] for name in before)
        model.write_bytes(whole)
        for path in tmp_path.rglob("*"):
            if path.is_file() and str(path) not in before:
                path.unlink()


@fuzz(80, data=st.data())
def test_bytes_of_a_model(model: Path, data: st.DataObject) -> None:
    whole = model.read_bytes()
    size = int.from_bytes(whole[:8], "little") + 8
    head = data.draw(bent(whole[:size]))
    model.write_bytes(head + whole[size:])
    try:
        read_or_refused(lambda: read_header(model), model)
    finally:
        model.write_bytes(whole)


TOML = to_toml(TrainConfig("standard", "digits", options={})).splitlines()
VALUES = st.sampled_from(
    [
        *[
            "1",
            "-1",
            "1.5",
            "'x'",
            "true",
            "[]",
            "[nan]",
            "{}",
            "nan",
            "-inf",
            "1e308",
            "1979-05-27",
            "12:00:00",
            "''",
            "x",
            "0x10",
        ],
        *("9" * 5000, "[" * 5000, "{a = {b = 1}}", '"\\ud800"'),
    ]
)


@fuzz(60, line=st.sampled_from([line for line in TOML if " = " in line]), value=VALUES)
def test_settings_files(tmp_path: Path, line: str, value: str) -> None:
    key, file = line.partition(" = ")[0], tmp_path / "settings.toml"
    text = "\n".join(f"{key} = {value}" if each == line else each for each in TOML)
    file.write_text(text, encoding="utf-8")
    before = everything(tmp_path)
    said = here("train", "-c", file, "--dry-run")
    check(said, file.name, key, key.replace("_", "-"), value[:20])
    assert everything(tmp_path) == before


@fuzz(60, data=st.data())
def test_archives_of_images(tmp_path: Path, data: st.DataObject) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "x.npz"
    parts: dict[str, Any] = {
        "arr_0": rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8),
        "arr_1": np.arange(6),
        "jeat": np.array(
            json.dumps({"sampler": "sgld", "steps": 2, "images": 6, "classes": ["a"]})
        ),
    }
    name = data.draw(st.sampled_from(sorted(parts)))
    shapes = st.sampled_from([(), (0,), (6,), (6, 8, 8), (6, 9, 8, 1), (0, 8, 8, 1), (6, 1)])
    kinds = st.sampled_from(["f4", "f8", "i8", "u1", "u2", "b1", "c8", "S3", "U2", "M8[D]"])
    match data.draw(st.sampled_from(["kind", "shape", "text", "bytes"])):
        case "kind":
            parts[name] = np.resize(parts["arr_0"], parts[name].shape).astype(data.draw(kinds))
        case "shape":
            parts[name] = np.resize(parts[name], data.draw(shapes))
        case "text":
            parts["jeat"] = np.array(data.draw(st.just("[" * 3000) | JSON.map(json.dumps)))
    np.savez(path, **parts)
    path.write_bytes(data.draw(st.just(path.read_bytes()) | bent(path.read_bytes())))
    found = read_or_refused(lambda: stored.read_images(path, (1, 8, 8)), path)
    assert found is None or (found[0].dtype, found[0].shape[1:]) == (np.uint8, (1, 8, 8))


MODES = ["L", "RGB", "P", "1", "LA", "RGBA", "I", "F", "CMYK", "I;16"]
FORMATS = ["PNG", "BMP", "GIF", "JPEG", "WEBP", "TIFF", "PPM"]


def picture(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """Return a file of that format, in grey where the format has no such mode."""
    pixels = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
    for chosen in (mode, "L"):
        content = io.BytesIO()
        try:
            Image.fromarray(pixels).convert(chosen).save(content, kind)
        except (OSError, ValueError, KeyError):
            continue
        return content.getvalue()
    raise AssertionError


@fuzz(
    200,
    kind=st.sampled_from(FORMATS),
    mode=st.sampled_from(MODES),
    size=st.sampled_from([(8, 8), (1, 1), (9, 8), (300, 1)]),
    data=st.data(),
)
def test_pictures(
    tmp_path: Path, kind: str, mode: str, size: tuple[int, int], data: st.DataObject
) -> None:
    whole, path = picture(kind, mode, size), tmp_path / "x.png"
    path.write_bytes(data.draw(st.just(whole) | bent(whole)))
    exact = read_or_refused(lambda: pictures.read_exact(path, (1, 8, 8)), path)
    assert exact is None or exact.shape == (1, 8, 8)
    colours = read_or_refused(lambda: pictures.decode(path), path)
    assert colours is None or colours[0].ndim == 3
    read_or_refused(lambda: pictures.is_grey(path), path)
    read_or_refused(lambda: pictures.light_pixels(path), path)
    pictures.embedded_text(path)
    assert path.exists()


@fuzz(60, data=st.data(), protocol=st.integers(2, 5), zipped=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_checkpoints_of_others(
    tmp_path: Path, data: st.DataObject, protocol: int, zipped: bool
) -> None:
    weight, content = torch.ones(2, 3), io.BytesIO()
    others = [None, 3, "x", [weight], {"a": weight}, weight.to(torch.complex64), weight.to("meta")]
    others += [weight.to_sparse(), weight[:0], weight.bool(), np.float64(1.0), np.arange(2)]
    found = {"a.weight": weight, data.draw(TEXTS): data.draw(st.sampled_from(others))}
    wrapped = data.draw(st.sampled_from([found, {"state_dict": found}, [found], {"a": found}]))
    torch.save(wrapped, content, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    path = tmp_path / "theirs.pt"
    path.write_bytes(data.draw(st.just(content.getvalue()) | bent(content.getvalue())))
    read_or_refused(lambda: state_dict.read(path), path)


PRODUCTS = [product for product in vars(outputs).values() if isinstance(product, outputs.Product)]


@fuzz(60, product=st.sampled_from(PRODUCTS), content=st.binary(min_size=1, max_size=300))
def test_what_is_there_already(tmp_path: Path, product: outputs.Product, content: bytes) -> None:
    assume(not any(mark in content for mark in product.marks))
    path = tmp_path / f"theirs{product.endings[0]}"
    path.write_bytes(content)
    with pytest.raises(JeatError, match="exists and was not written by"):
        check_output(path, product)
    assert path.read_bytes() == content


# numbers

NUMBERS = ["", " ", "x", "nan", "-inf", "1/0", "-1", "1e308", "-1e39", "9" * 400, "1/" + "9" * 400]
NUMBERS += ["9223372036854775808", "²", "1_0", "0x10", "1e", "1,2", "--", "0", "1", "0.5", "\ud800"]
OPTIONS = {
    "train": ["--batch-size", "--lr", "--eps", "--seed", "--epochs", "--val-split", "--arch", "-O"],
    "attack": ["--eps", "--seed", "-n", "--class", "--target", "--fail-under", "--norm"],
    "sample": ["-n", "--seed", "--clip", "--noise", "--stop", "--scale", "--class", "--format"],
    "landscape": ["--unit", "--grid", "--image", "--span", "--seed", "--axes"],
    "score": ["-n", "--splits", "--kid-subset-size", "--seed", "--noise"],
}
COMMANDS = {
    "train": ("train", "--method", "at", "--dataset", "digits", "--dry-run"),
    "attack": ("attack", "model", "--attack", "fgsm", "-n", 2),
    "sample": ("sample", "model", "-n", 1, "--steps", 1, "-o", "x.npz", "--format", "npz"),
    "landscape": ("landscape", "model", "--grid", 3, "-o", "x.png"),
    "score": ("score", "model", "--features", "model", "-n", 2, "--steps", 0),
}
PAIRS = [(verb, option) for verb, options in OPTIONS.items() for option in options]


@fuzz(80, pair=st.sampled_from(PAIRS), value=st.sampled_from(NUMBERS))
def test_numbers(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[str, str],
    value: str,
) -> None:
    verb, option = pair
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path)
    text = f"eps={value}" if option == "-O" else value
    said = here(*COMMANDS[verb], *(() if verb == "train" else ("--device", "cpu")), option, text)
    name = "eps" if option == "-O" else option.lstrip("-")
    check(said, name, name.replace("-", "_"), value[:20] or "''", "finite", "few")
    after = everything(tmp_path)
    assert {name: after.get(name) for name in before} == before
    for name in after.keys() - before.keys():
        Path(name).unlink()
