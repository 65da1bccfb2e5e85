"""Measured speeds in the cache: kept, checked, and never believed if they may be another's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.networks import classifier
from helpers.speeds import AUTO, MUCH, Clock, asked, chosen

from jeatcli.acceleration.choices import Place, Speeds
from jeatcli.acceleration.ways import Way


def test_a_kept_choice_is_checked_and_not_measured_again(model, clock: Clock) -> None:
    chosen(model)
    first = len(asked)
    way, told = chosen(model)
    assert (way, "checked" in told) == (Way("winograd-32"), True)
    assert len(asked) < first


def test_a_wrong_choice_planted_in_the_cache_is_corrected(model, clock: Clock) -> None:
    chosen(model)
    place = Place(model, None, MUCH)
    right = place.read()
    for planted in ("library", "winograd"):
        place.write(Speeds({**right.seconds, planted: 1e-5}))
        way, told = chosen(model)
        assert (way, "measured" in told) == (Way("winograd-32"), True)
        assert place.read() == right


def test_what_noise_once_favoured_is_forgotten(model, clock: Clock) -> None:
    """Too little to be measured again: each look moves the kept speeds a quarter of the way."""
    clock["fused"] = 0.96e-3
    chosen(model)
    place = Place(model, None, MUCH)
    place.write(Speeds({**place.read().seconds, "fused": 1.05e-3}))
    found = [chosen(model)[0].kernel for _ in range(4)]
    assert found == ["winograd-32", "winograd-32", "fused", "fused"]
    seconds = place.read().seconds
    assert seconds["library"] / seconds["winograd"] == pytest.approx(2 / 3)


def test_a_layer_may_keep_what_is_no_tensor(model, clock: Clock) -> None:
    model.net.get_extra_state = lambda: {"images": 3}
    assert chosen(model)[0] == Way("winograd-32")
    assert "checked" in chosen(model)[1]


def test_a_wrong_compiled_choice_is_corrected(model, clock: Clock) -> None:
    clock |= {"winograd-32, compiled": 4e-3, "library, compiled": 4e-3}
    chosen(model)
    place = Place(model, None, MUCH)
    place.write(Speeds({**place.read().seconds, "winograd-32, compiled": 1e-6}, compiling=1.0))
    assert chosen(model, MUCH, AUTO)[0] == Way("winograd-32")
    assert place.read().seconds["winograd-32, compiled"] == 4e-3


def test_on_another_day_the_whole_machine_may_be_slower(model, clock: Clock) -> None:
    chosen(model)
    clock |= {key: 3 * value for key, value in clock.items()}
    way, told = chosen(model)
    assert (way, "checked" in told) == (Way("winograd-32"), True)


DAMAGES: dict[str, Callable[[str], str | bytes]] = {
    "cut": lambda text: text[: len(text) // 2],
    "bytes": lambda text: b"\xff\xfe\x00" + text.encode(),
    "list": lambda text: "[]",
    "deep": lambda text: "[" * 100_000,
    "negative": lambda text: text.replace("0.002", "-1.0"),
    "infinite": lambda text: text.replace("0.002", "Infinity"),
    "nan": lambda text: text.replace("0.002", "NaN"),
    "text": lambda text: text.replace("0.002", '"fast"'),
    "of another machine": lambda text: text.replace('"processor": "', '"processor": "Other '),
    "of no way": lambda text: text.replace('"library"', '"nothing"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_does_not_matter(model, clock: Clock, cache: Path, damage: str) -> None:
    chosen(model)
    (kept,) = cache.iterdir()
    whole = kept.read_text()
    changed = DAMAGES[damage](whole)
    kept.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    way, told = chosen(model)
    assert (way, "measured" in told) == (Way("winograd-32"), True)
    assert json.loads(kept.read_text()) == json.loads(whole)


@pytest.mark.skipif(os.name != "posix", reason="files have owners on POSIX systems")
@pytest.mark.parametrize("foreign", ["writable", "link", "directory", "owner"])
def test_what_another_user_may_have_written_is_not_read(
    model, clock: Clock, cache: Path, monkeypatch: pytest.MonkeyPatch, foreign: str
) -> None:
    chosen(model)
    (kept,) = cache.iterdir()
    assert (kept.stat().st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o600, 0o700)
    if foreign == "writable":
        kept.chmod(0o666)
    elif foreign == "link":
        kept.rename(cache.with_name("elsewhere"))
        kept.symlink_to(cache.with_name("elsewhere"))
    elif foreign == "directory":
        kept.unlink()
        kept.mkdir()
    else:
        monkeypatch.setattr(os, "getuid", lambda: kept.stat().st_uid + 1)
    way, told = chosen(model)
    assert (way, "measured" in told) == (Way("winograd-32"), True)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_where_nothing_can_be_kept_it_is_measured_each_time(
    model, clock: Clock, cache: Path
) -> None:
    cache.write_text("a file")
    assert "measured" in chosen(model)[1]
    assert "measured" in chosen(model)[1]


def test_a_place_is_of_one_machine_and_one_work(model, cache: Path, monkeypatch) -> None:
    same = Place(classifier("cifar-resnet-8", "batch"), None, MUCH).path
    others = [
        Place(model, torch.bfloat16, MUCH),
        Place(model, None, MUCH._replace(batch=16)),
        Place(model, None, MUCH._replace(shape=(3, 16, 16))),
        Place(model, None, MUCH._replace(updates=1e4)),
        Place(classifier("cifar-resnet-8", "none"), None, MUCH),
        Place(classifier("cifar-resnet-14", "batch"), None, MUCH),
    ]
    for name, function in (("get_num_threads", lambda: 77), ("__version__", "0")):
        monkeypatch.setattr(torch, name, function)
        others.append(Place(model, None, MUCH))
    assert Place(model, None, MUCH).path not in [other.path for other in others[:-1]]
    monkeypatch.undo()
    monkeypatch.setenv("JEAT_CACHE_DIR", str(cache.parent))
    # Whatever its weights, and however often it is used.
    assert Place(model, None, MUCH._replace(passes=9e9)).path == same
    assert len({same, *(other.path for other in others)}) == len(others) + 1
