"""Measured speeds, kept in the cache: a file for each network, shape and machine.

They decide how fast a result comes and not what it is, and are measured again before they are
believed: what lies there may be damaged, or another user's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from ..core.models.classifier import Classifier
from ..errors import JeatError
from ..runtime import devices, files, own_files
from ..runtime.digests import digest
from .ways import Work


@dataclass
class Speeds:
    """Seconds of an image, by the way of computing it, and of torch's compiler."""

    seconds: dict[str, float] = field(default_factory=dict)
    compiling: float = 0.0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Speeds:
        """Return what a record holds; a ValueError says that it is none of ours."""
        seconds, compiling = record["seconds"], record["compiling"]
        numbers = [*seconds.values(), compiling]
        if not all(type(number) is float and 0 <= number < math.inf for number in numbers):
            raise ValueError("no speeds")
        return cls(dict(seconds), compiling)


class Place:
    """Where the speeds of some work with a network are kept."""

    def __init__(self, classifier: Classifier, dtype: torch.dtype | None, work: Work) -> None:
        # What a layer keeps beside its weights need be no tensor.
        shapes = {
            name: list(each.shape) if isinstance(each, torch.Tensor) else None
            for name, each in classifier.state_dict().items()
        }
        self.key: dict[str, Any] = {
            "version": version("jeat-cli"),
            "torch": torch.__version__,
            "processor": devices.processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            # Its layers and shapes, whatever its weights.
            "network": digest(layers=repr(classifier.net), shapes=shapes),
            "shape": list(work.shape),
            "batch": work.batch,
            "precision": devices.precision_name(dtype),
            # One update comes with this many passes.
            "passes": round(work.passes / work.updates) if work.updates else None,
        }
        self.folder = files.cache_dir() / "speeds"
        self.path = self.folder / f"{digest(**self.key)}.json"

    def read(self) -> Speeds | None:
        """Return what is kept there, or None."""
        if not own_files.is_own(self.path):
            return None
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            return Speeds.of(record) if record["key"] == self.key else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def write(self, speeds: Speeds) -> None:
        """Keep them, if the directory is there for this user alone."""
        text = json.dumps({"key": self.key, **asdict(speeds)}, indent=1)
        try:
            if own_files.make_private(self.folder):
                files.write_atomic(self.path, lambda beside: beside.write_text(text, "utf-8"))
                self.path.chmod(0o600)
        except (OSError, JeatError):
            return
