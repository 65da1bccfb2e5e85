"""AutoAttack's parts beside pyautoattack with chance taken out: both draw the same numbers.

    pip install -e ".[reference]"
    python benchmarks/autoattack_shared.py RUN [-n 500] [--norm linf] [--eps 8/255]

RUN and what describes it are those of autoattack_parity.py, and so are the batches. The parts of
APGD begin both sides at the same points. Of Square both sides draw from one seed, and all images of
a batch see the same squares, as the reference has it. FAB draws nothing. So only rounding is left
(under l1 that of the projection too, which is by bisection here and by sorting there):
the two take different ways through the network, and where two losses are equal to rounding, the
searches part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from autoattack_parity import Case, agreement, chosen, options
from torch import Tensor

from jeatcli.acceleration.ways import Way, Wish
from jeatcli.core import pgd
from jeatcli.robustness.attacks import apgd
from jeatcli.robustness.attacks.ascent import Ascent, Loss, SparseAscent
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.restarts import Broken
from jeatcli.robustness.attacks.surrogate import Surrogate

SEED = 1


class Shared:
    """Uniform random numbers, the same ones for every image of a batch."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(SEED)
        self._rand = torch.rand

    def take(self, keep: Tensor) -> Shared:
        """Return itself: whichever images are left, they see the same numbers."""
        return self

    def uniform(self, like: Tensor) -> Tensor:
        """Draw as our attacks do, for images along the first axis."""
        drawn = self._rand(like.shape[1:], generator=self.generator)
        return drawn.to(like).expand(like.shape)

    def rand(self, size: Sequence[int]) -> Tensor:
        """Draw as the reference does; of four axes the first is that of the images."""
        if len(size) < 4:
            return self._rand(size, generator=self.generator)
        return self._rand((1, *size[1:]), generator=self.generator).expand(*size)


def begun(theirs: Any, part: Batch, start: Tensor) -> tuple[Tensor, ...]:
    """Run one ascent of the reference from a start; under l1 through its three radii."""
    if theirs.norm != "L1":
        found = theirs.attack_single_run(part.x, part.y, x_init=start)
    else:
        with patch.object(torch, "randn_like", lambda x: start - x):
            radii = [factor * theirs.eps_orig for factor in (3.0, 2.0, 1.0)]
            found = theirs.decr_eps_pgd(part.x, part.y, radii, [30, 30, 40])
    return tuple(found)


def ascents(case: Case, way: Way, name: str, loss: Loss, targets: int) -> tuple[Tensor, Tensor]:
    """Run APGD of both from the same starts; return who withstood ours, and the reference."""
    judge, ball = case.reference(SEED), pgd.ball(case.threat)
    search = Surrogate(case.model.classifier, way=way)
    ascent = (SparseAscent if case.threat.norm == "l1" else Ascent)(search, loss, ball, steps=100)
    places = torch.arange(len(case.x), device=case.x.device)
    batch = Batch(case.x, case.y, None, places)
    theirs = judge.apgd_targeted if targets else judge.apgd
    theirs.loss = name
    theirs.init_hyperparam(case.x)
    found, withstood = Broken(batch), torch.ones_like(case.y, dtype=torch.bool)
    classes = search.likeliest(batch)
    for rows in torch.split(places, case.batch_size):
        for k in range(targets or 1):
            part = batch.take(rows)
            start = ascent.start(part.x, part.rng(SEED, k))
            if targets:
                theirs.y_target = classes[rows, k]
                part = part.toward_each(classes[rows, k : k + 1])
            _, acc, _, _ = begun(theirs, part, start)
            withstood[rows] &= acc.bool()
            ascent.run(part, rows, start, found)
    return case.robust(found.images), withstood


def squares(case: Case, way: Way) -> tuple[Tensor, Tensor]:
    """Run Square of both on the same draws; return who withstood ours, and the reference."""
    judge = case.reference(SEED)
    search = Surrogate(case.model.classifier, way=way)
    attack, plan = make_attack("square"), AttackOptions(case.threat)
    places = torch.arange(len(case.x), device=case.x.device)
    mine, theirs = [], []
    for rows in torch.split(places, case.batch_size):
        x, y = case.x[rows], case.y[rows]
        with patch.object(Batch, "rng", lambda *_: Shared()):
            mine.append(attack(search, Batch(x, y, None, rows), plan))
        with patch.object(torch, "rand", Shared().rand):
            theirs.append(judge.square.perturb(x, y))
    return case.robust(torch.cat(mine)), case.robust(torch.cat(theirs))


def main() -> None:
    """Compare and print."""
    given = options(__doc__).parse_args()
    case = chosen(given)
    way = Wish(compiled=given.compile).unmeasured
    targets = 5 if given.norm == "l1" else 9
    run: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "apgd-ce": lambda: ascents(case, way, "ce", apgd.cross_entropy, 0),
        "apgd-dlr": lambda: ascents(case, way, "dlr", apgd.dlr, 0),
        "apgd-t": lambda: ascents(case, way, "dlr-targeted", apgd.targeted_dlr, targets),
        "square": lambda: squares(case, way),
    }
    print("| on shared draws | robust, jeat | reference | agree |")
    print("| --- | --- | --- | --- |", flush=True)
    for name, compare in run.items():
        mine, theirs = compare()
        cells = [f"{robust.sum().item() / given.n:.4f}" for robust in (mine, theirs)]
        print(
            f"| {name} | " + " | ".join([*cells, agreement(mine, theirs, given.n)]) + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
