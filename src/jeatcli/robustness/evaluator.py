"""Which images no attack breaks: the worst case over attacks, restarts and targets, one by one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.models.classifier import Classifier
from ..core.threat import Threat
from ..data.images import Images, batches, to_unit_range
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Bar, Reporter
from .attacks.attack import Attack, resolve_attacks
from .attacks.batch import Batch, Plan
from .attacks.surrogate import Search
from .journal import Journal
from .refusals import check, refuse_unfit, without_nan
from .state import UNBROKEN, Ledger, Progress, Strike


@dataclass
class Trial:
    """Attacks in turn on the images that are still robust.

    Where several processes have joined, each attacks a part of every batch; all have the same
    verdicts, and the first one writes.

    Args:
        classifier: The plain one, in eval mode and float32: it judges.
        images: Images and labels.
        places: Their places in the whole set (n,), which their randomness depends on.
        plan: Threat model and seed.
        aim: The class to reach, or None.
        batch_size: Rows of the network's batch.
        fixed: Whether that size was asked for: it then holds for an attack that goes on, too.
        dtype: What the search computes in; None is float32.
        compiled: Whether torch compiles the network that is searched on.
        source: The classifier that the attacks see, if it is another one.
        keep: Whether to keep the adversarial images.
        journal: Where the progress goes, or None.
        reporter: Listens.
    """

    classifier: Classifier
    images: Images
    places: Tensor
    plan: Plan
    aim: int | None = None
    batch_size: int = 256
    fixed: bool = False
    dtype: torch.dtype | None = None
    compiled: bool = False
    source: Classifier | None = None
    keep: bool = False
    journal: Journal | None = None
    reporter: Reporter = SILENT
    ledger: Ledger = field(init=False)

    def run(self, attacks: Sequence[Attack]) -> dict[str, Any]:
        """Attack; return the parts of `Robustness` that are found out, for JSON."""
        images = to_unit_range(self.images.x).cpu() if self.keep else None
        progress = self._resumed(images) or self._begun()
        self.ledger = Ledger(progress, images, self.journal, self.reporter)
        correct = torch.tensor(progress.correct, device=self.images.y.device)
        seen = self.source or self.classifier
        self.search = Search(seen, self.dtype, compiled=self.compiled, judge=self.classifier)
        for number in range(progress.finished, len(attacks)):
            self._attack(number, attacks[number], correct)
        labels = _labels(attacks)
        broken_by = torch.tensor(progress.broken_by)
        n, standing, per_attack = len(correct), int(correct.sum()), {}
        for number, (label, attack) in enumerate(zip(labels, attacks, strict=True)):
            broken = int((broken_by == number).sum())
            standing -= broken
            options = _settings(attack, self.plan.threat)
            counts = progress.counts[number]
            per_attack[label] = {"robust": standing / n, "broken": broken, **counts, **options}
        return {
            "n": n,
            "clean": int(correct.sum()) / n,
            "robust": standing / n,
            "per_attack": per_attack,
            "samples": {
                "index": self.places.tolist(),
                "correct": correct.tolist(),
                "broken_by": [None if k == UNBROKEN else labels[k] for k in broken_by.tolist()],
            },
        }

    @torch.no_grad()
    def _correct(self) -> Tensor:
        """Return which images are taken for what they are: the only ones worth attacking."""
        parts = batches(self.images, self.batch_size)
        return torch.cat([self.classifier(x).argmax(1) == y for x, y in parts]).cpu()

    def _begun(self) -> Progress:
        correct = current().from_main(self._correct).tolist()
        broken_by = [UNBROKEN] * len(correct)
        return Progress(correct, broken_by, self.batch_size, self.dtype is torch.bfloat16)

    def _resumed(self, images: Tensor | None) -> Progress | None:
        """Return the progress of the journal, its images put in their places; None if none."""
        found = current().from_main(lambda: self.journal.read() if self.journal else None)
        if found is None:
            return None
        progress = Progress(**found["progress"])
        if not self.fixed:
            self.batch_size = progress.batch_size
        self.dtype = torch.bfloat16 if progress.bf16 else None
        if self.journal and images is not None:
            for places, kept in self.journal.read_images(progress.parts):
                images[places] = kept
        self.reporter.say("going on where the attack was interrupted")
        return progress

    def _attack(self, number: int, attack: Attack, correct: Tensor) -> None:
        progress = self.ledger.progress
        broken_by = torch.tensor(progress.broken_by, device=correct.device)
        # What this attack broke already, before it was interrupted, was among its images.
        waiting = correct & ((broken_by == UNBROKEN) | (broken_by == number))
        left = waiting.nonzero().squeeze(1)
        size = max(1, self.batch_size // attack.rows) * current().size
        if len(progress.counts) == number:
            progress.counts.append({"forward": 0, "backward": 0, "nan": 0, "seconds": 0.0})
        done = progress.done
        with self.reporter.track(f"attack {attack.name}", len(left), done=done) as bar:
            # Of nothing at all torch makes one empty part.
            for index in torch.split(left[done:], size) if len(left) > done else ():
                self._batch(number, attack, index, bar)
                standing = int(correct.sum()) - sum(k != UNBROKEN for k in progress.broken_by)
                bar(len(index), robust=standing / len(correct))
        progress.done, progress.finished = 0, number + 1
        self.ledger.write()

    def _batch(self, number: int, attack: Attack, index: Tensor, bar: Bar) -> None:
        began, ranks = time.perf_counter(), current()
        for strike in ranks.collect(self._strike(attack, ranks.share(index), bar)):
            self.ledger.count(number, strike)
        self.ledger.progress.counts[number]["seconds"] += time.perf_counter() - began
        self.ledger.progress.done += len(index)
        self.ledger.write()

    def _strike(self, attack: Attack, index: Tensor, bar: Bar) -> Strike:
        """Attack the images of index (n,), which are this process's part of a batch."""
        if not len(index):
            return Strike([])
        search = self.search.anew(lambda k: bar(0, step=k))
        x, y = to_unit_range(self.images.x[index]), self.images.y[index]
        target = None if self.aim is None else torch.full_like(y, self.aim)
        batch = Batch(x, y, target, self.places.to(x.device)[index])
        moved = without_nan(attack(search, batch, self.plan), batch.x)
        check(attack.name, batch, moved, self.plan.threat)
        with torch.no_grad():
            fallen = batch.broken(self.classifier(moved)).nonzero().squeeze(1)
        images = moved[fallen].cpu() if self.keep else None
        return Strike(index[fallen].tolist(), images, search.forward, search.backward, search.nan)


def judge(
    classifier: Classifier,
    images: Images,
    names: Sequence[str],
    plan: Plan,
    aim: int | None = None,
    batch_size: int = 256,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Run attacks in turn on the images that are still robust, in float32, and count.

    Returns:
        `n`, `clean`, `robust`, `per_attack` and `samples` as in `Robustness`.

    Raises:
        UsageProblem: If there is no such attack, or it does not fit the classes.
    """
    attacks = resolve_attacks(names, plan)
    refuse_unfit(attacks, len(images.classes), aim is not None)
    places = torch.arange(len(images))
    trial = Trial(classifier, images, places, plan, aim, batch_size, reporter=reporter)
    return trial.run(attacks)


def _settings(attack: Attack, threat: Threat) -> dict[str, Any]:
    """Return the attack's options, a step size that follows from the others in numbers."""
    options = dict(attack.options)
    if "step_size" in options and options["step_size"] is None:
        options["step_size"] = 2.5 * threat.eps / options["steps"]
    return options


def _labels(attacks: Sequence[Attack]) -> list[str]:
    """Name each attack; one that is there again with other options gets a number."""
    labels: list[str] = []
    for attack in attacks:
        again = sum(label.partition("#")[0] == attack.name for label in labels)
        labels.append(f"{attack.name}#{again + 1}" if again else attack.name)
    return labels
