"""`jeat --info`: what a report of a bug needs."""

from __future__ import annotations

import pytest
from helpers.cli import done, one

from jeatcli.cli import info, output
from jeatcli.runtime import devices


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    (folder / "inception").mkdir(parents=True)
    (folder / "inception" / "weights").write_bytes(b"x" * 1500)
    monkeypatch.setenv("JEAT_CACHE_DIR", str(folder))
    monkeypatch.setenv("JEAT_DEVICE", "cpu")
    return folder


def test_the_table_has_versions_device_precision_and_places(cache):
    text = done("--info")
    names = [line.split("  ")[0] for line in text.splitlines()]
    wanted = ["jeat", "processor", "device", "precision", "threads", "runs", "data", "cache"]
    assert [name for name in names if name in wanted] == wanted
    assert "measured just now" in text
    assert "1.50 kB" in text
    assert "JEAT_CACHE_DIR" in text
    assert "torch " in text


@pytest.mark.parametrize(("gain", "shown"), [(0.043, "0.043"), (1.27, "1.3"), (12.4, "12")])
def test_a_slow_precision_is_not_rounded_to_nothing(cache, monkeypatch, gain, shown):
    monkeypatch.setattr(devices, "bf16_gain", lambda: gain)
    assert f"({shown} times as fast in bf16 as in fp32" in done("--info")


def test_as_json(cache):
    found = one("--info")
    assert found["caches"] == {"inception": 1500}
    assert found["directories"]["cache"]["path"] == str(cache)
    assert found["device"] == "cpu"
    assert found["precision"] in ("fp32", "bf16")
    assert found["packages"]["click"] == info.version("click")


def test_a_device_that_is_not_there_is_said(cache, monkeypatch):
    monkeypatch.setenv("JEAT_DEVICE", "cuda:99")
    assert "device `cuda:99` does not exist" in done("--info")


def test_a_slow_bf16_is_not_zero_times_as_fast(cache, monkeypatch):
    monkeypatch.setattr(devices, "bf16_gain", lambda: 0.0134)
    assert "fp32 (0.013 times as fast in bf16 as in fp32" in done("--info")


def test_what_is_not_installed_is_said():
    assert info.version("jeat-absent") == "not installed"


def test_sizes_are_written_without_exponents():
    sizes = {0: "0 B", 7: "7 B", 1500: "1.50 kB", 999_999: "1000 kB", 2.5e12: "2500 GB"}
    sizes[16_000_000] = "16.0 MB"
    assert {count: output.size(count) for count in sizes} == sizes
