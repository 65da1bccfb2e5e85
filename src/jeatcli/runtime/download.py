"""Download published files from the first mirror that works, verified and written atomically."""

import hashlib
import os
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ..errors import JeatError
from .digests import checksum
from .files import replacing
from .progress import SILENT, Reporter

# Seconds without a byte after which a mirror is given up.
TIMEOUT = 30.0
CHUNK = 1 << 16
WRITABLE = "choose a writable folder (`--data-dir`, `JEAT_DATA_DIR`, `JEAT_CACHE_DIR`)"
# By the number of hexadecimal digits. MD5 is what the data sets' authors publish; it guards
# against accidents, not attackers.
_DIGESTS = {32: ("MD5", "md5"), 64: ("SHA-256", "sha256")}


class _MirrorFailed(Exception):
    """One mirror did not deliver the file; the next may."""


def fetch(
    name: str,
    mirrors: Sequence[str],
    expected: str,
    folder: Path,
    reporter: Reporter = SILENT,
    *,
    download: bool = True,
    instead: str = "",
) -> Path:
    """Return `folder/name`, downloaded from the first of `mirrors` that delivers it whole.

    A file with the `expected` MD5 or SHA-256 (hexadecimal) is used; a damaged one stays until its
    replacement has arrived. `instead` ends the error's hint: what else would do.
    """
    target = folder / name
    trouble = _trouble(target, expected)
    if trouble is None:
        return target
    failures: list[str] = []
    if download:
        if target.exists():
            reporter.warn(f"{trouble}: downloading it again")
        for number, url in enumerate(mirrors):
            if failures:
                reporter.say(
                    f"cannot download `{name}` from {failures[-1]}; trying address {number + 1} of "
                    f"{len(mirrors)}"
                )
            try:
                _download(url, target, expected, reporter)
            except _MirrorFailed as failure:
                failures.append(f"{urlsplit(url).netloc}: {failure}")
            else:
                return target
    tried = "; ".join(dict.fromkeys(failures))
    why = f", and could not be downloaded ({tried})" if download else ", and downloading is off"
    addresses = " or ".join(mirrors)
    raise JeatError(
        f"{trouble}{why}",
        f"put the file with {_named(expected)} into `{folder}`, from {addresses}{instead}",
    )


def _named(digest: str) -> str:
    return f"{_DIGESTS[len(digest)][0]} {digest}"


def _trouble(target: Path, expected: str) -> str | None:
    """Say what is wrong with the file at `target`, or return None if it is as published."""
    try:
        if not target.is_file():
            return f"`{target}` is missing"
        actual = checksum(target, _DIGESTS[len(expected)][1])
        size = target.stat().st_size
    except OSError as problem:
        return f"`{target}` cannot be read ({problem.strerror or problem})"
    if actual == expected:
        return None
    digests = f"{_named(actual)}, which should be {expected}"
    return f"`{target}` is damaged ({size:,} bytes with {digests})"


def _download(url: str, target: Path, expected: str, reporter: Reporter) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "jeat-cli"})
    digest, size = hashlib.new(_DIGESTS[len(expected)][1], usedforsecurity=False), 0
    with _network():
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    with response, replacing(target, WRITABLE) as part, part.open("xb") as file:
        total = int(response.headers.get("Content-Length") or 0)
        with reporter.track(f"downloading {target.name}", total, "byte") as bar:
            while chunk := _read(response):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                bar(len(chunk))
        if size < total:
            raise _MirrorFailed(f"the connection broke after {size:,} of {total:,} bytes")
        if (actual := digest.hexdigest()) != expected:
            raise _MirrorFailed(f"it sent {size:,} bytes with {_named(actual)}, not {expected}")
        file.flush()
        os.fsync(file.fileno())


def _read(response: HTTPResponse) -> bytes:
    with _network():
        chunk: bytes = response.read(CHUNK)
    return chunk


@contextmanager
def _network() -> Iterator[None]:
    """Tell the network's errors from the disk's: both are OSErrors."""
    try:
        yield
    except HTTPError as problem:
        problem.close()
        raise _MirrorFailed(f"HTTP {problem.code} {problem.reason}") from problem
    except URLError as problem:
        raise _MirrorFailed(str(problem.reason)) from problem
    except (OSError, HTTPException) as problem:
        raise _MirrorFailed(str(problem) or type(problem).__name__) from problem
