"""Everything that a score depends on, and whether it compares with the published ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ..checkpoints.header import INDEX_ENDING
from ..checkpoints.model import Model
from ..data.images import Images
from ..data.provenance import Provenance
from ..runtime import digests
from ..runtime.words import counted
from . import fidelity
from .features import Judge
from .settings import EXTRACTORS

# What the published numbers on CIFAR-10 are taken with.
PUBLISHED_NUM = 50_000
PUBLISHED_REFERENCE = ("cifar10", "train")
PUBLISHED_SPLITS = 10


@dataclass(frozen=True)
class Protocol:
    """How images were scored."""

    origin: Provenance  # how the images came to be
    judge: Judge  # what turned images into features
    reference: Images  # that they were compared with; `split` is that of their data set
    split: str
    numbers: fidelity.Numbers  # how many images the scores are taken from
    notes: Mapping[str, str]  # for which scores they are too few
    classes: set[int] | None  # those of the images; None if that is not known

    def describe(self) -> dict[str, Any]:
        """Return the protocol, ready for JSON."""
        features, origin, data = self._features(), self.origin, self.reference
        reference = {"dataset": data.name, "split": self.split, "n": len(data)}
        if self._fewer_classes():
            present = sorted(set(data.y.tolist()))
            reference["classes"] = ", ".join(data.classes[k] for k in present)
        used = ("splits", "kid_subsets", "kid_subset_size", "neighbours")
        return {
            "n": self.numbers.num,
            "reference": reference,
            "features": features,
            **{name: getattr(self.numbers, name) for name in used},
            "shuffle_seed": fidelity.SHUFFLE_SEED,
            "rounding": self._rounding(),
            "classes": self._class_sizes(),
            "selection": origin.selection or ("none" if origin.sampling else "not known"),
            "versions": {name: version(name) for name in ("jeat-cli", "torch-fidelity", "torch")},
            "comparable": self._comparable(features["sha256"]),
            "sampling": None if origin.sampling is None else dict(origin.sampling),
        }

    def _rounding(self) -> str:
        if self.origin.lossy:
            return "as stored, in a lossy format"
        return "floor(255 x + 0.5), as PNG" if self.origin.sampling else "as stored"

    def _features(self) -> dict[str, Any]:
        judge = self.judge
        about = {"path": str(judge.path)}
        if isinstance(judge, Model):
            # A network of the caller's own is in no file, one of several files not in its index.
            one = judge.path.is_file() and not judge.path.name.endswith(INDEX_ENDING)
            sha256 = digests.checksum(judge.path) if one else None
            return {"kind": "run", "run": judge.name, **about, "sha256": sha256}
        grey = "repeated in three channels" if self.reference.shape[0] == 1 else None
        return {"kind": judge.name, **about, "sha256": judge.sha256, "grey": grey}

    def _class_sizes(self) -> str:
        if not self.origin.classes:
            return "not known"
        counts = sorted(self.origin.classes.values())
        least, most = counts[0], counts[-1]
        between = " or " if most == least + 1 else " to "
        return f"{len(counts)}, {least}{f'{between}{most}' if most > least else ''} of each"

    def _fewer_classes(self) -> bool:
        return self.classes is not None and len(self.classes) < len(self.reference.classes)

    def _comparable(self, checksum: str) -> str:
        """Tell whether the numbers compare with the published ones, and if not, why."""
        notes = dict.fromkeys(self.notes.values())
        reasons = [*self._of_judgement(checksum), *self._of_images(), *notes]
        return f"no: {'; '.join(reasons)}" if reasons else "yes, with IS and FID on CIFAR-10"

    def _of_judgement(self, checksum: str) -> list[str]:
        reasons = []
        if self.numbers.num != PUBLISHED_NUM:
            reasons.append(f"{counted(self.numbers.num, 'image')} instead of {PUBLISHED_NUM:,}")
        if (self.reference.name, self.split) != PUBLISHED_REFERENCE:
            reasons.append(f"reference {self.reference.name} {self.split}, not cifar10 train")
        if isinstance(self.judge, Model):
            reasons.append(f"features of `{self.judge.name}`, not of Inception")
            if (self.origin.sampling or {}).get("weights") == self.judge.fingerprint:
                reasons.append("the run judges itself")
        elif self.judge.name != "inception":
            reasons.append(f"features of {EXTRACTORS[self.judge.name].summary}, not of Inception")
        elif checksum != EXTRACTORS["inception"].sha256:
            reasons.append("weights that are not the published Inception file")
        if self.numbers.splits != PUBLISHED_SPLITS:
            reasons.append(f"{counted(self.numbers.splits, 'split')} instead of {PUBLISHED_SPLITS}")
        return reasons

    def _of_images(self) -> list[str]:
        """Return why the images, by their origin, do not compare with the published ones."""
        reasons = ["pixels of a lossy format"] if self.origin.lossy else []
        if self.origin.sampling is None:
            return [*reasons, "how the images were chosen is not known"]
        if selection := self.origin.selection:
            reasons.append(f"selected images: {selection}")
        if pictures := self.origin.pictures:
            reasons.append(f"images that start at {pictures}")
        if self._fewer_classes():
            present = len(self.classes or ())
            reasons.append(f"images of {present} of the {len(self.reference.classes)} classes")
        if absent := sorted((self.classes or set()) - set(self.reference.y.tolist())):
            names = ", ".join(self.reference.classes[k] for k in absent)
            reasons.append(f"no real image of {counted(len(absent), 'class')}: {names}")
        counts = (self.origin.classes or {0: 0}).values()
        if max(counts) > min(counts) + 1:
            reasons.append(f"classes of unequal size: {self._class_sizes()}")
        return reasons
