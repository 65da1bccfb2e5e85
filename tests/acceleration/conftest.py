"""An empty cache of kernels."""

from __future__ import annotations

import pytest

from jeatcli.acceleration.native import amx, kernel


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """Let a test build a kernel of its own, in an empty cache."""
    monkeypatch.setenv("JEAT_CACHE_DIR", str(tmp_path))
    caches = (kernel.kernel, amx.has_tiles)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()
