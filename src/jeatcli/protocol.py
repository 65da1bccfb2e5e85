"""Everything that a score depends on, and whether it compares with the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import fidelity, inception
from .checkpoint import Model
from .data import Images

# What the published numbers on CIFAR-10 are taken with.
PUBLISHED_NUM = 50_000
PUBLISHED_REFERENCE = ("cifar10", "train")
PUBLISHED_SPLITS = 10


@dataclass(frozen=True)
class Protocol:
    """How images were judged.

    Args:
        model: What drew the images; None if they were there already.
        extractor: What turned images into features: a classifier, or Inception's weights.
        reference: What they were compared with.
        split: Of the reference's data set.
        num: Number of images.
        settings: `splits`, `kid_subsets`, `kid_subset_size` and `neighbours` as they were used.
        sampling: How the images were drawn; None if they were there already.
    """

    model: Model | None
    extractor: Model | Path
    reference: Images
    split: str
    num: int
    settings: Mapping[str, int]
    sampling: Mapping[str, Any] | None

    def describe(self) -> dict[str, Any]:
        """Return the protocol, ready for JSON."""
        features = self._features()
        drawn = self.model is not None
        return {
            "n": self.num,
            "reference": {
                "dataset": self.reference.name,
                "split": self.split,
                "n": len(self.reference),
            },
            "features": features,
            **self.settings,
            "shuffle_seed": fidelity.SHUFFLE_SEED,
            "rounding": "floor(255 x + 0.5), as PNG" if drawn else "as stored",
            "classes": self._classes() if drawn else "not known",
            "selection": self._selection() or ("none" if drawn else "not known"),
            "versions": {name: version(name) for name in ("jeat-cli", "torch-fidelity", "torch")},
            "comparable": self._comparable(features["sha256"]),
            "sampling": None if self.sampling is None else dict(self.sampling),
        }

    def _selection(self) -> str | None:
        """Tell by what images were chosen among more, None if they were not."""
        if self.sampling is None or "best_of" not in self.sampling:
            return None
        return f"the best of {self.sampling['best_of']} by {self.sampling['objective']} energy"

    def _features(self) -> dict[str, Any]:
        if isinstance(self.extractor, Model):
            return {
                "kind": "run",
                "run": self.extractor.name,
                "path": str(self.extractor.path),
                "sha256": inception.checksum(self.extractor.path),
            }
        grey = self.reference.shape[0] == 1
        return {
            "kind": "inception",
            "path": str(self.extractor),
            "sha256": inception.checksum(self.extractor),
            "grey": "repeated in three channels" if grey else None,
        }

    def _classes(self) -> str:
        count = len(self.reference.classes)
        least, more = divmod(self.num, count)
        return f"{count} in turn, {least}{f' or {least + 1}' if more else ''} of each"

    def _comparable(self, checksum: str) -> str:
        """Tell whether the numbers stand beside the published ones, and if not, why."""
        reasons = []
        if self.num < PUBLISHED_NUM:
            reasons.append(f"{self.num:,} images instead of {PUBLISHED_NUM:,}")
        if (self.reference.name, self.split) != PUBLISHED_REFERENCE:
            reasons.append(f"reference {self.reference.name} {self.split}, not cifar10 train")
        if isinstance(self.extractor, Model):
            reasons.append(f"features of `{self.extractor.name}`, not of Inception")
            if self.model and self.model.path == self.extractor.path:
                reasons.append("the run judges itself")
        elif checksum != inception.SHA256:
            reasons.append("weights that are not the published Inception file")
        if self.settings["splits"] != PUBLISHED_SPLITS:
            reasons.append(f"{self.settings['splits']} splits instead of {PUBLISHED_SPLITS}")
        if selection := self._selection():
            reasons.append(f"selected images: {selection}")
        if self.model is None:
            reasons.append("how the images were chosen is not known")
        return f"no: {'; '.join(reasons)}" if reasons else "yes, with IS and FID on CIFAR-10"
