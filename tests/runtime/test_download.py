"""Downloads: mirrors in turn, checksums, and nothing half there."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jeatcli.errors import JeatError
from jeatcli.runtime import download
from jeatcli.runtime.digests import checksum
from jeatcli.runtime.download import fetch
from jeatcli.runtime.files import replacing

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["User-Agent"]))
        if self.path == "/absent":
            self.send_error(404)
            return
        body = {"/damaged": CONTENT[::-1]}.get(self.path, CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/slow":
            time.sleep(1)
        self.wfile.write(body[: len(body) // 2] if self.path == "/truncated" else body)

    def log_message(self, *args: object) -> None:
        return None


class _Server(ThreadingHTTPServer):
    asked: list[tuple[str, str]]

    def handle_error(self, *args: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def url(server: _Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


class Log:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[tuple[str, int, str]] = []
        self.counted = 0

    @contextmanager
    def track(self, label: str, total: int, unit: str = "image", done: int = 0) -> Iterator[object]:
        self.bars.append((label, total, unit))
        yield self._count

    def _count(self, amount: int, **figures: float) -> None:
        self.counted += amount

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_mirrors_are_tried_in_turn(server: _Server, url: str, tmp_path: Path) -> None:
    log = Log()
    mirrors = [f"{url}/{name}" for name in ("absent", "truncated", "damaged", "good", "never")]
    path = fetch("set.bin", mirrors, MD5, tmp_path / "new", log)
    assert path == tmp_path / "new" / "set.bin"
    assert path.read_bytes() == CONTENT
    assert listing(path.parent) == ["set.bin"]
    assert [name for name, _ in server.asked] == ["/absent", "/truncated", "/damaged", "/good"]
    assert {agent for _, agent in server.asked} == {"jeat-cli"}
    absent, truncated, damaged = log.lines
    assert damaged.endswith("; trying address 4 of 5")
    assert "HTTP 404" in absent
    assert "127.0.0.1" in absent
    assert "broke after 128,000 of 256,000 bytes" in truncated
    assert f"not {MD5}" in damaged
    assert log.bars[-1] == ("downloading set.bin", len(CONTENT), "byte")
    assert log.counted == len(CONTENT) * 5 // 2


def test_a_whole_file_is_used_without_network(tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(CONTENT)
    assert fetch("set.bin", ["http://127.0.0.1:9/"], MD5, tmp_path) == tmp_path / "set.bin"


def test_a_half_downloaded_file_is_fetched_anew(url: str, tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(CONTENT[:100])
    log = Log()
    fetch("set.bin", [f"{url}/good"], MD5, tmp_path, log)
    assert checksum(tmp_path / "set.bin", "md5") == MD5
    assert "is damaged (100 bytes with MD5" in log.lines[0]


def test_a_half_downloaded_file_offline(tmp_path: Path) -> None:
    target = tmp_path / "set.bin"
    target.write_bytes(CONTENT[:100])
    with pytest.raises(JeatError) as caught:
        fetch("set.bin", ["http://127.0.0.1:9/set.bin"], MD5, tmp_path)
    found = hashlib.md5(CONTENT[:100]).hexdigest()
    assert f"`{target}` is damaged (100 bytes with MD5 {found}, which should be {MD5})" in str(
        caught.value
    )
    assert "http://127.0.0.1:9/set.bin" in str(caught.value.hint)
    assert target.read_bytes() == CONTENT[:100]


def test_offline_error_says_which_file_to_put_where(tmp_path: Path) -> None:
    mirrors = ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"]
    with pytest.raises(JeatError) as caught:
        fetch("set.bin", mirrors, MD5, tmp_path / "here", instead=", or its extracted folder")
    assert caught.value.exit_code == 1
    assert "set.bin` is missing, and could not be downloaded (127.0.0.1:9: " in str(caught.value)
    for part in (MD5, f"`{tmp_path / 'here'}`", *mirrors, "or its extracted folder"):
        assert part in str(caught.value.hint)


def test_downloads_can_be_off(server: _Server, url: str, tmp_path: Path) -> None:
    with pytest.raises(JeatError, match="downloading is off"):
        fetch("set.bin", [f"{url}/good"], MD5, tmp_path, download=False)
    assert server.asked == []


def test_a_silent_mirror_is_given_up(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with pytest.raises(JeatError, match="timed out"):
        fetch("set.bin", [f"{url}/slow"], MD5, tmp_path)
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_written(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JeatError, match="cannot write") as caught:
        fetch("set.bin", [f"{url}/good"], MD5, tmp_path / "file" / "folder")
    assert "--data-dir" in str(caught.value.hint)


def test_a_full_disk_is_no_mirror_s_fault(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JeatError, match="No space left on device"):
        fetch("set.bin", [f"{url}/good"], MD5, tmp_path)
    assert listing(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with replacing(tmp_path / "set.bin") as part:
            part.write_bytes(CONTENT[:9])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert listing(tmp_path) == []
