"""Which kinds of files the commands write, and may therefore write over."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..errors import JeatError, UsageProblem
from .files import check_writable, unwritable

# How much of each end of a file is searched for a product's marks.
_SEARCHED = 1 << 18


@dataclass(frozen=True)
class Product:
    """A kind of file that a command writes, and may therefore write over."""

    command: str
    endings: tuple[str, ...]  # in lower case
    marks: tuple[bytes, ...]  # one of these every such file has near its beginning or end
    others: tuple[bytes, ...] = ()  # what other files with such a mark begin with
    or_page: bool = False  # whether the option takes a report, `.html`, as well


_FIGURES = (".png", ".svg", ".pdf")
_RESULTS = b'{\n "schema": 1'
ATTACK_RECORD = Product("jeat attack", (".json",), (b'"per_attack": {',), (_RESULTS,), True)
RUN_RESULTS = Product("jeat", (".json",), (_RESULTS,))
ATTACK_IMAGES = Product("jeat attack --save", (".safetensors",), (rb"\"per_attack\": {",))
ATTACK_PLOT = Product("jeat attack --plot", _FIGURES, (b"Accuracy under attack",))
SAMPLE_PICTURE = Product("jeat sample", (".png",), (b'tEXtjeat\0{"sampler": ',))
SAMPLE_TRACE = Product("jeat sample --trace", (".png", ".gif", ".webp"), (b'"trace": [',))
SAMPLE_ARCHIVE = Product("jeat sample", (".npz",), (b"jeat.npy",))
LANDSCAPE_PICTURE = Product("jeat landscape", _FIGURES, (b'{"kind": ',), or_page=True)
LANDSCAPE_NUMBERS = Product("jeat landscape", (".npz",), (b"summary.npy",))
NEIGHBOURS = Product("jeat score --neighbours", (".png",), (b"the image, then its ",))
CORRUPTED = Product("jeat score --corruptions", _FIGURES, (b"Corruptions of ",))
RELIABILITY = Product("jeat score --calibration", _FIGURES, (b"Reliability of ", b"(ECE "))


def check_output(path: Path, product: Product, option: str = "-o") -> None:
    """Refuse an output that cannot or must not be written, before the work for it begins.

    Only empty files and those that the same command wrote are written over.
    """
    if path.suffix.lower() not in product.endings:
        known = product.endings + ((".html",) if product.or_page else ())
        *others, last = (f"`{ending}`" for ending in known)
        endings = f"{', '.join(others)} or {last}" if others else last
        raise UsageProblem(
            f"`{option}` writes a {endings} file, not `{path}`",
            f"name a file that ends in {endings}",
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise UsageProblem(f"`{option} {shown}` is not UTF-8", "choose a name in UTF-8") from None
    check_writable(path, option)
    elsewhere = f"name another place with `{option}`"
    try:
        if path.is_symlink():  # which would be replaced, not followed
            raise unwritable(path, "it is a link", f"name the file itself, or {elsewhere}")
        mode, size = path.stat().st_mode, path.stat().st_size
        if not stat.S_ISREG(mode):
            raise unwritable(path, "it is not a regular file", elsewhere)
        ours = size == 0 or _is_marked(path, product)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise unwritable(path, problem.strerror or str(problem), elsewhere) from problem
    if not ours:
        raise JeatError(
            f"`{path}` exists and was not written by `{product.command}`",
            f"name another file with `{option}`, or remove that one first",
        )


def _is_marked(path: Path, product: Product) -> bool:
    with path.open("rb") as handle:
        content = handle.read(_SEARCHED)
        handle.seek(max(len(content), path.stat().st_size - _SEARCHED))
        content += handle.read()
    return not content.startswith(product.others) and any(mark in content for mark in product.marks)


def report_of(verb: str) -> Product:
    """Return the HTML that a command writes, marked in its head."""
    mark = f'<meta name="generator" content="jeat-cli, jeat {verb}">'
    return Product(f"jeat {verb}", (".html",), (mark.encode(),))
