"""Drawn images as files, written batch by batch: a killed command resumes where it was."""

import itertools
import json
import math
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..data import pictures, stored
from ..data.provenance import CLASSES, IMAGES, TEXT
from ..errors import Interrupted, JeatError
from ..runtime import locks
from ..runtime.distributed import current
from ..runtime.files import check_writable, made, writing
from ..runtime.outputs import SAMPLE_PICTURE, check_output
from ..runtime.plain import parsed
from ..runtime.progress import SILENT, Reporter
from .plan import SamplingPlan

# What the record of a PNG says of that image alone.
_OWN = ("image", "class")


def save_folder(plan: SamplingPlan, folder: Path, reporter: Reporter = SILENT) -> None:
    """Draw into `000000.png` and so on, each with the settings that drew it.

    A whole image of the same settings is not drawn again. Of several processes only the first
    writes, here and in `save_npz`.
    """
    with ExitStack() as stack:

        def begin() -> None:
            check_writable(_numbered(folder, 0))
            stack.enter_context(_locked(folder / ".drawing", reporter))
            _check_folder(folder, len(plan.labels), plan.identity)

        current().from_main(begin)
        if current().is_main:
            _fill_folder(folder, plan, reporter)
        else:
            # This process draws a part of what the first one saves.
            deque(plan.batches(), maxlen=0)


def _fill_folder(folder: Path, plan: SamplingPlan, reporter: Reporter) -> None:
    identity, classes, count = plan.identity, plan.model.meta.classes, len(plan.labels)
    labels = enumerate(plan.labels.tolist())
    records = [identity | {"image": k, "class": classes[label]} for k, label in labels]
    done = {k for k, record in enumerate(records) if _record(_numbered(folder, k)) == record}
    if done:
        reporter.say(f"{len(done):,} of {count:,} images are in `{folder}` already")
    with _resumable(folder, count, done):
        for index, images in plan.batches(reporter, skip=set(done)):
            for k, pixels in zip(index.tolist(), pictures.to_uint8(images), strict=True):
                text = {TEXT: json.dumps(records[k])}
                pictures.save_png(pictures.to_image(pixels), _numbered(folder, k), text)
                done.add(k)


def _numbered(folder: Path, k: int) -> Path:
    return folder / f"{k:06d}.png"


@contextmanager
def _resumable(path: Path, count: int, done: set[int]) -> Iterator[None]:
    """Say on Ctrl-C what is saved."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; {len(done):,} of {count:,} images are saved for `{path}`",
            "the same command resumes from there",
        ) from None


def _check_folder(folder: Path, count: int, identity: Mapping[str, Any]) -> None:
    """Refuse a folder with other pictures, or with ours beyond `count` of other settings."""
    existing = [path for path in folder.glob("*.png") if path.stem.isdecimal()]
    for path in sorted({_numbered(folder, 0), *existing}):
        check_output(path, SAMPLE_PICTURE)
    for path in sorted(path for path in existing if int(path.stem) >= count):
        record = _record(path) or {}
        if {key: record[key] for key in record if key not in _OWN} != identity:
            raise JeatError(
                f"`{path}` is of another drawing, and would be taken for one of these images",
                "name another directory with `-o`, or remove what is in this one",
            )


def _record(path: Path) -> dict[str, Any] | None:
    """Return the settings in a picture or an archive of `jeat sample`, None if there are none."""
    if path.suffix.lower() == ".npz":
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                # The pixels as well: that checks them.
                text = str(arrays[TEXT]) if len(arrays["arr_0"]) else ""
        except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile):
            return None
    else:
        text = (pictures.embedded_text(path) or {}).get(TEXT, "")
    return parsed(text) or None


def free_path(path: Path, plan: SamplingPlan) -> Path:
    """Return the path, with a number appended where it would replace images of other settings."""
    numbered = (path.with_name(f"{path.stem}-{k}{path.suffix}") for k in itertools.count(2))
    candidates = itertools.chain([path], numbered)
    return next(each for each in candidates if _is_free(each, plan))


def _is_free(path: Path, plan: SamplingPlan) -> bool:
    """Tell whether nothing of other settings is there, finished or begun."""
    if path.exists():
        return _would_be_same(path, plan)
    try:
        with _part_of(path).open("rb") as part:
            return parsed(part.readline()) in ({}, plan.identity)
    except OSError:
        return True


def _part_of(path: Path) -> Path:
    """Return the file in which an archive grows."""
    return path.with_name(f".{path.name}.part")


def _would_be_same(path: Path, plan: SamplingPlan) -> bool:
    count = len(plan.labels)
    if path.is_dir():
        first = _numbered(path, 0)
        ours = {"image": 0, "class": plan.model.meta.classes[int(plan.labels[0])]}
        return not first.exists() or _record(first) == plan.identity | ours
    return _record(path) in (plan.identity | {IMAGES: count}, plan.identity | {"n": count})


def save_npz(plan: SamplingPlan, path: Path, reporter: Reporter = SILENT) -> None:
    """Draw into an archive of improved-diffusion's layout, by way of a file beside it.

    That file grows batch by batch, belongs to one process, and is removed when the archive is
    there. An archive of the same images stays as it is.
    """
    part: IO[bytes] | None = None
    record = plan.identity | {IMAGES: len(plan.labels)}
    with ExitStack() as stack:

        def is_there() -> bool:
            nonlocal part
            if _record(path) == record:
                return True
            check_writable(path)
            part = stack.enter_context(_locked(_part_of(path), reporter))
            # Another process may have written it in the meantime.
            if _record(path) == record:
                return True
            _refuse_other_part(part, plan.identity, path)
            return False

        if current().from_main(is_there):
            reporter.say(f"the images are in `{path}` already")
        elif part is None:
            # This process draws a part of what the first one saves.
            deque(plan.batches(), maxlen=0)
        else:
            _fill_archive(part, plan, path, reporter)


def _fill_archive(part: IO[bytes], plan: SamplingPlan, path: Path, reporter: Reporter) -> None:
    """Draw what is missing into an unfinished archive, then write the archive."""
    labels, shape = plan.labels.tolist(), plan.model.meta.shape
    size = math.prod(shape)
    with writing(path):
        offset, whole = _whole_images(part, plan.identity, size)
    done = min(whole, len(labels))
    if done:
        reporter.say(f"{done:,} of {len(labels):,} images are drawn already")
    saved = set(range(done))
    try:
        with writing(path), _resumable(path, len(labels), saved):
            for index, images in plan.batches(reporter, skip=set(saved)):
                part.seek(offset + int(index[0]) * size)
                _write(part, pictures.to_uint8(images).tobytes())
                saved.update(index.tolist())
    except JeatError:
        if not saved:
            part.truncate(0)
        raise
    part.seek(offset)
    pixels = np.fromfile(part, np.uint8, len(labels) * size)
    text = json.dumps(plan.identity | {IMAGES: len(labels)})
    more = {TEXT: text, CLASSES: np.array(plan.model.meta.classes)}
    stored.save_npz(pixels.reshape(len(labels), *shape), plan.labels, path, more)


@contextmanager
def _locked(path: Path, reporter: Reporter) -> Iterator[IO[bytes]]:
    """Open a file for this process alone; wait for another one. Remove it after success.

    It has no buffer: what does not fit on the disk is not tried again when it is closed.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with made(path.parent), ExitStack() as stack:
        while True:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(os.fdopen(os.open(path, flags, 0o666), "rb+", 0))
            _wait_for_lock(file, path, reporter)
            # The process that had it before may have finished, and removed it.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        try:
            yield file
        except BaseException:
            if not os.fstat(file.fileno()).st_size:
                path.unlink()
            raise
        path.unlink()


def _wait_for_lock(file: IO[bytes], path: Path, reporter: Reporter) -> None:
    try:
        if not locks.take(file):
            reporter.say(f"waiting for another process, which holds `{path}`")
            locks.take(file, wait=True)
    except OSError as problem:
        reporter.warn(f"`{path}` cannot be locked ({problem.strerror}); start no second process")


def _whole_images(part: IO[bytes], header: Mapping[str, Any], size: int) -> tuple[int, int]:
    """Return where the pixels begin, and how many whole images there are; write the header."""
    first = part.readline()
    with suppress(ValueError):
        if first.endswith(b"\n") and json.loads(first) == header:
            return len(first), (part.seek(0, os.SEEK_END) - len(first)) // size
    part.seek(0)
    part.truncate()
    _write(part, line := json.dumps(header).encode() + b"\n")
    return len(line), 0


def _refuse_other_part(part: IO[bytes], header: Mapping[str, Any], path: Path) -> None:
    """Refuse to throw away images of other settings that an interrupted command has drawn."""
    first = part.readline()
    there = parsed(first) if first.endswith(b"\n") else {}
    drawn = part.seek(0, os.SEEK_END) - len(first)
    part.seek(0)
    if there not in ({}, header) and drawn:
        raise JeatError(
            f"an unfinished drawing for `{path}` has other settings or weights",
            "resume it with its own command, name another file with `-o`, or give it up by "
            f"removing `{_part_of(path)}`",
        )


def _write(file: IO[bytes], content: bytes) -> None:
    while content:
        content = content[file.write(content) :]
