"""What a killed evaluation needs to resume: an `EvaluationState`, in memory and on disk.

Each set of weights and settings has a directory, named by their digest: `progress.json`, and the
adversarial images of each batch where they are wanted. Files are written atomically, the images
before the state that counts on them: only the current batch is lost.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..acceleration.ways import KERNELS, LIBRARY
from ..runtime import locks
from ..runtime.digests import digest, tensor_digest
from ..runtime.distributed import current
from ..runtime.files import made, write_atomic
from ..runtime.progress import Reporter

UNBROKEN = -1
STATE = "progress.json"
_COUNTS = ("forward", "backward", "nan")
_LARGEST = 2**63
# What the file of a batch holds: the numbers of the images that were broken, and these images.
_PART = ("places", "images")


class Damaged(Exception):
    """A state that no evaluation can have written."""


class BatchOutcome(NamedTuple):
    """What an attack did to a batch, or to a process's part of it."""

    broken: list[int]  # the numbers of the images that it broke
    images: Tensor | None = None  # these as it moved them, on the CPU, if they are kept
    forward: int = 0  # passes in images
    backward: int = 0
    nan: int = 0  # gradients that had NaN in them


@dataclass
class EvaluationState:
    """How far an evaluation is, image by image."""

    correct: list[bool]  # those that are not are not attacked
    broken_by: list[int]  # the number of the attack that broke it, or `UNBROKEN`
    # As the rest of how the search is computed, which another start might choose otherwise.
    batch_size: int
    bf16: bool
    kernel: str = LIBRARY.kernel
    compiled: bool = False
    # Of each attack that has begun: passes in images, gradients of NaN, seconds.
    counts: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0  # images that the running attack has finished
    parts: int = 0  # batches whose adversarial images are kept
    finished: int = 0  # attacks that are over

    def begin(self, number: int) -> None:
        """Make room for the counts of an attack."""
        if len(self.counts) == number:
            self.counts.append(dict.fromkeys(_COUNTS, 0) | {"seconds": 0.0})

    def record(self, number: int, outcome: BatchOutcome) -> None:
        """Add what the attack of that number did."""
        for key in _COUNTS:
            self.counts[number][key] += getattr(outcome, key)
        for image in outcome.broken:
            self.broken_by[image] = number

    def finish(self, number: int) -> None:
        """Close the attack of that number."""
        self.done, self.finished = 0, number + 1

    def waiting(self, number: int) -> Tensor:
        """Return the images left to the attack, with those that it broke before a resume."""
        correct, broken_by = torch.tensor(self.correct), torch.tensor(self.broken_by)
        mine = correct & ((broken_by == UNBROKEN) | (broken_by == number))
        return mine.nonzero().squeeze(1)

    @property
    def robust(self) -> float:
        """The share of the images that are classified correctly and not broken."""
        left = sum(self.correct) - sum(number != UNBROKEN for number in self.broken_by)
        return left / len(self.correct)

    def check(self, images: int, attacks: int) -> None:
        """Refuse a state that no evaluation of that many images and attacks can have written."""
        begun = len(self.counts)
        running = begun == self.finished + 1
        whole = [
            *((counts[key], _LARGEST) for counts in self.counts for key in _COUNTS),
            *((self.finished, attacks), (self.batch_size - 1, _LARGEST), (self.parts, _LARGEST)),
            (self.done, len(self.waiting(self.finished)) if running else 0),
        ]
        possible = (
            all(type(number) is int and 0 <= number <= most for number, most in whole)
            and all(type(each) is bool for each in (*self.correct, self.bf16, self.compiled))
            and all(type(each) is int and UNBROKEN <= each < begun for each in self.broken_by)
            and len(self.correct) == len(self.broken_by) == images
            and begun <= attacks
            and begun - running == self.finished
            and self.kernel in KERNELS
            and all(0 <= float(counts["seconds"]) < _LARGEST for counts in self.counts)
        )
        broken = zip(self.correct, self.broken_by, strict=True)
        if not possible or any(number != UNBROKEN and not correct for correct, number in broken):
            raise Damaged(STATE)


class StateFiles:
    """The directory below `folder` with the state of the evaluation whose digest is `key`."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / f"attack-{key}"
        self.key = key + " " + version("jeat-cli")
        self.taken = False  # whether another process is at it

    def read(
        self, images: int, attacks: int, attacked: Tensor | None = None
    ) -> EvaluationState | None:
        """Return the state that was written last, or None; `Damaged` is raised for a useless one.

        The images that were kept are written into `attacked`, all images.
        """
        try:
            record = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except OSError:
            return None
        except (ValueError, RecursionError) as problem:
            raise Damaged(STATE) from problem
        if not isinstance(record, dict) or record.get("key") != self.key:
            return None
        try:
            # States of version 0.1.0 have no digest.
            if record.get("digest") not in (None, digest(progress=record["progress"])):
                raise Damaged("digest")
            state = EvaluationState(**record["progress"])
            state.check(images, attacks)
            if attacked is not None:
                self._read_images(state.parts, attacked)
        except Damaged:
            raise
        except Exception as problem:
            raise Damaged(STATE) from problem
        return state

    def _read_images(self, parts: int, attacked: Tensor) -> None:
        for part in range(parts):
            with safe_open(self._part(part), "pt") as file:
                tensors, known = [file.get_tensor(name) for name in _PART], file.metadata() or {}
            if known.get("digest") != tensor_digest(*tensors):
                raise Damaged("images")
            places, images = tensors
            attacked[places] = images

    def write(self, state: EvaluationState) -> None:
        """Replace the state on disk."""
        progress = vars(state)
        record = {"key": self.key, "progress": progress, "digest": digest(progress=progress)}
        text = json.dumps(record)
        write_atomic(self.folder / STATE, lambda beside: beside.write_text(text, encoding="utf-8"))

    def write_images(self, part: int, outcome: BatchOutcome) -> None:
        """Keep the adversarial images of a batch as part number `part`."""
        assert outcome.images is not None
        tensors = (torch.tensor(outcome.broken), outcome.images.contiguous())
        named, about = dict(zip(_PART, tensors, strict=True)), {"digest": tensor_digest(*tensors)}
        write_atomic(self._part(part), lambda beside: save_file(named, beside, about))

    def remove(self) -> None:
        """Remove the directory, unless it is another process's: the result is written."""
        if not self.taken:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _part(self, part: int) -> Path:
        return self.folder / f"{part:06d}.safetensors"


@contextmanager
def own_state(files: StateFiles | None, reporter: Reporter) -> Iterator[StateFiles | None]:
    """Give a state's files to this process alone, or None: to do without.

    Where another process has them, that is told; the system frees the lock of one that died. Of
    several processes that work together the first has them.
    """
    if files is None or not current().is_main:
        yield None
        return
    with ExitStack() as held:
        files.taken = not _locked(files.folder, held)
        if files.taken:
            reporter.warn(
                f"another process is running the same attack, and has its state in "
                f"`{files.folder}`: this one starts from the beginning, and cannot be resumed"
            )
        yield None if files.taken else files


def _locked(folder: Path, held: ExitStack) -> bool:
    """Lock a directory while `held` is open; return False if another process has it."""
    # What keeps it from being made is told by who writes into it; Windows opens no directory, and
    # some file systems have no locks.
    with suppress(OSError):
        held.enter_context(made(folder))
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        held.callback(os.close, descriptor)
        return locks.take(descriptor)
    return True
