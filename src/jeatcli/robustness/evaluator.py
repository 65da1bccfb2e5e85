"""The worst case over attacks, restarts and targets, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..acceleration.dispatch import choose
from ..acceleration.ways import NEVER_MEASURED, Way, Wish, Work
from ..core.models.classifier import Classifier
from ..core.rng import drawing_by, mix
from ..data.images import Images, batches, to_unit_range
from ..errors import JeatError
from ..runtime.distributed import current
from ..runtime.progress import SILENT, Bar, Reporter
from . import checks
from .attacks.attack import Attack, for_classes, resolve_attacks
from .attacks.batch import AttackOptions, Batch, predictions
from .attacks.surrogate import Surrogate
from .state import UNBROKEN, BatchOutcome, Damaged, EvaluationState, StateFiles


@dataclass
class Evaluator:
    """Attacks in turn on the images that are still robust.

    Of several processes each attacks a part of every batch; all know all verdicts, and the first
    one writes.
    """

    classifier: Classifier  # the victim, in eval mode and float32
    images: Images
    indices: Tensor  # in the test set (n,); the randomness of an image depends on its own
    attacks: Sequence[Attack]
    options: AttackOptions
    target: int | None = None
    batch_size: int = 256  # rows of the network's batch
    fixed: bool = False  # whether that size was asked for, and holds for a resumed evaluation
    dtype: torch.dtype | None = None  # of the search; None is float32
    # Not measured unless that is wished for: what a training run logs depends on no clock.
    wish: Wish = NEVER_MEASURED
    source: Classifier | None = None  # what the attacks see, if it is another one
    keep: bool = False  # whether to keep the adversarial images
    known: Sequence[bool] | None = None  # which images are classified correctly, if that is known
    files: StateFiles | None = None  # where the state goes
    left: str = "robust"  # what images are called that no attack has broken
    reporter: Reporter = SILENT
    attacked: Tensor | None = field(init=False, default=None)

    def run(self) -> dict[str, Any]:
        """Attack; return the fields of `Robustness` that it finds."""
        if self.keep:
            self.attacked = self.clean()
        self.state = self._resumed() or self._begun()
        self.surrogate = Surrogate(
            self.source or self.classifier,
            self.dtype,
            way=Way(self.state.kernel, self.state.compiled),
            victim=self.classifier,
        )
        for number in range(self.state.finished, len(self.attacks)):
            self._attack(number)
        return self._result()

    def clean(self) -> Tensor:
        """Return a copy of the images as they are, in [0, 1], on the CPU.

        Those that are floats already would otherwise be the same tensor as `attacked`.
        """
        return to_unit_range(self.images.x).to("cpu", copy=True)

    def _result(self) -> dict[str, Any]:
        labels, broken_by = labels_of(self.attacks), self.state.broken_by
        n = len(broken_by)
        left = correct = sum(self.state.correct)
        per_attack = {}
        for number, (label, attack) in enumerate(zip(labels, self.attacks, strict=True)):
            broken = broken_by.count(number)
            left -= broken
            options = attack.in_numbers(self.options.threat)
            counts = self.state.counts[number]
            per_attack[label] = {"robust": left / n, "broken": broken, **counts, **options}
        return {
            "n": n,
            "clean": correct / n,
            "robust": left / n,
            "kernel": self.state.kernel,
            "compiled": self.state.compiled,
            "per_attack": per_attack,
            "samples": {
                "index": self.indices.tolist(),
                "correct": self.state.correct,
                "broken_by": [None if k == UNBROKEN else labels[k] for k in broken_by],
            },
        }

    def _begun(self) -> EvaluationState:
        correct = list(self.known or current().from_main(self._correct).tolist())
        unbroken = [UNBROKEN] * len(correct)
        way = current().from_main(lambda: self._fastest(sum(correct)))
        bf16 = self.dtype is torch.bfloat16
        state = EvaluationState(correct, unbroken, self.batch_size, bf16, *way)
        self._save(state)
        return state

    def _fastest(self, images: int) -> Way:
        """Return how to compute the network in attacks on that many images."""
        # About half of the passes are for images that an earlier start has broken.
        passes = images * sum(attack.passes for attack in self.attacks) / 2
        work = Work(self.images.shape, self.batch_size, passes)
        return choose(self.source or self.classifier, self.dtype, work, self.wish, self.reporter)

    @torch.no_grad()
    def _correct(self) -> Tensor:
        """Return which images are classified correctly: the only ones worth attacking."""
        correct = []
        drawing = self._drawing(len(self.attacks))
        with drawing, self.reporter.track("clean accuracy", len(self.images)) as bar:
            for x, y in batches(self.images, self.batch_size):
                correct.append(predictions(self.classifier(x)) == y)
                bar(len(x))
        return torch.cat(correct).cpu()

    def _resumed(self) -> EvaluationState | None:
        """Return the state on disk, or None, and restore the images that it kept."""
        state = current().from_main(self._read)
        if state is None:
            return None
        if not self.fixed:
            self.batch_size = state.batch_size
        self.dtype = torch.bfloat16 if state.bf16 else None
        self.reporter.say("resuming the attack where it was interrupted")
        return state

    def _read(self) -> EvaluationState | None:
        if self.files is None:
            return None
        try:
            return self.files.read(len(self.images), len(self.attacks), self.attacked)
        except Damaged as problem:
            self.reporter.warn(
                f"the saved state in `{self.files.folder}` is damaged ({problem}): starting over"
            )
            if self.keep:
                self.attacked = self.clean()
            return None

    def _attack(self, number: int) -> None:
        """Run an attack on the images that are still robust."""
        state, attack, processes = self.state, self.attacks[number], current()
        left = state.waiting(number).to(self.images.y.device)
        size = max(1, self.batch_size // attack.entry.rows) * processes.size
        state.begin(number)
        several = f" ({number + 1} of {len(self.attacks)})" if len(self.attacks) > 1 else ""
        label = f"attack {attack.name}{several}"
        with self.reporter.track(label, len(left), done=state.done) as bar:
            # torch.split of an empty tensor returns one empty part.
            for index in torch.split(left[state.done :], size) if len(left) > state.done else ():
                began = time.perf_counter()
                steps = _Steps(bar, attack.steps, len(index))
                with self._drawing(number, state.done, processes.rank):
                    part = self._attack_part(attack, processes.share(index), steps)
                for outcome in processes.collect(part):
                    state.record(number, outcome)
                    self._keep_images(outcome)
                state.counts[number]["seconds"] += time.perf_counter() - began
                state.done += len(index)
                self._save(state)
                steps.finish(**{self.left: f"{100 * state.robust:.1f} %"})
        state.finish(number)
        self._save(state)

    def _drawing(self, *part: int) -> AbstractContextManager[None]:
        """Let a network that draws do so by the seed and the part that is computed.

        So a resumed attack meets the function that an uninterrupted one does.
        """
        return drawing_by(mix(self.options.seed, *part), self.images.y.device)

    def _attack_part(self, attack: Attack, index: Tensor, steps: _Steps) -> BatchOutcome:
        """Attack the images of index (n,), which are this process's part of a batch."""
        if not len(index):
            return BatchOutcome([])
        surrogate = self.surrogate.fresh(steps)
        x, y = to_unit_range(self.images.x[index]), self.images.y[index]
        target = None if self.target is None else torch.full_like(y, self.target)
        batch = Batch(x, y, target, self.indices.to(x.device)[index])
        moved = attack(surrogate, batch, self.options)
        # An attack whose gradients were NaN has not moved the image.
        lost = moved.isnan().flatten(1).any(1)
        checks.lost_to_gradients(attack.name, int(lost.sum()), surrogate.nan)
        moved = torch.where(lost.view(-1, 1, 1, 1), x, moved)
        checks.inside_ball(attack.name, batch, moved, self.options.threat)
        with torch.no_grad():
            broken = batch.broken(self.classifier(moved)).nonzero().squeeze(1)
        images = moved[broken].cpu() if self.keep else None
        counts = surrogate.forward, surrogate.backward, surrogate.nan
        return BatchOutcome(index[broken].tolist(), images, *counts)

    def _keep_images(self, outcome: BatchOutcome) -> None:
        if self.attacked is None or outcome.images is None or not outcome.broken:
            return
        self.attacked[torch.tensor(outcome.broken)] = outcome.images
        if self.files is not None:
            self._write(lambda files: files.write_images(self.state.parts, outcome))
        self.state.parts += 1

    def _save(self, state: EvaluationState) -> None:
        self._write(lambda files: files.write(state))

    def _write(self, write: Callable[[StateFiles], None]) -> None:
        """Write into the state's directory, if there is one; if that fails, do without."""
        if self.files is None:
            return
        try:
            write(self.files)
        except JeatError as problem:
            self.reporter.warn(f"{problem.message}; the attack cannot be resumed")
            self.files = None


class _Steps:
    """Advance a bar by the inner steps of a batch, so that it estimates the time left."""

    def __init__(self, bar: Bar, total: int, images: int) -> None:
        self.bar, self.total, self.images = bar, total, images
        self.steps = 0

    def __call__(self) -> None:
        """Count a step."""
        if self.steps < self.total:
            self.steps += 1
            self.bar(self.images / self.total, step=self.steps)

    def finish(self, **figures: float | str) -> None:
        """Count the images as done, however many steps are left."""
        self.bar(self.images * (1 - self.steps / self.total), **figures)


def worst_case(
    classifier: Classifier,
    images: Images,
    names: Sequence[str],
    options: AttackOptions,
    batch_size: int = 256,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Run attacks in turn, in float32, and return what `Evaluator.run` does."""
    classes = len(images.classes)
    attacks = resolve_attacks(for_classes(names, classes), options, classes)
    for attack in attacks:
        attack.check(classes, False, options.threat.norm)
    every = torch.arange(len(images))
    return Evaluator(
        classifier, images, every, attacks, options, batch_size=batch_size, reporter=reporter
    ).run()


def labels_of(attacks: Sequence[Attack]) -> list[str]:
    """Name each attack; one that is there again with other options gets a number."""
    labels: list[str] = []
    for attack in attacks:
        again = sum(label.partition("#")[0] == attack.name for label in labels)
        labels.append(f"{attack.name}#{again + 1}" if again else attack.name)
    return labels
