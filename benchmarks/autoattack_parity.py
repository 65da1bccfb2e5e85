"""AutoAttack, image by image, against pyautoattack on the same net and images.

    pip install -e ".[reference]"
    python benchmarks/autoattack_parity.py RUN [-n 500] [--norm linf] [--eps 8/255]

RUN may be a state dict of others, with `--arch`, `--dataset`, `--mean` and `--std`. The reference
searches in float32, on the network in torch's own memory layout, as its users load it; ours in each
of `--search`, in batches of the same size, and with `--compile` on a compiled network, whose
compilation counts. The clock is the processor's on a CPU. Each part of the ensemble is run by
itself on all images that are classified correctly, then the whole on what is left. Starts are
random and not shared, so that images near the limit may fall either way; to tell that noise from a
difference, the reference is also run with a second seed (`--seeds 2`), and autoattack_shared.py has
both sides draw the same numbers.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from glibc_limits import set_for
from published_loops import plain
from pyautoattack import AutoAttack
from told import Told
from torch import Tensor

from jeatcli.acceleration.dispatch import choose
from jeatcli.acceleration.ways import Wish, Work
from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.checkpoints.settings import Foreign
from jeatcli.core.threat import Threat, parse_number
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.robustness.attacks import ENSEMBLES
from jeatcli.robustness.attacks.attack import resolve_attacks
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.surrogate import Surrogate

VERSIONS = {"autoattack": "standard", "autoattack-plus": "plus", "autoattack-rand": "rand"}
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
SEARCHES = {"fp32": None, "bf16": torch.bfloat16}


@dataclass
class Outcome:
    """Which images withstood, and how long it took."""

    robust: Tensor
    seconds: float


@dataclass(frozen=True)
class Case:
    """What is attacked."""

    model: Model
    x: Tensor
    y: Tensor
    threat: Threat
    batch_size: int
    ensemble: str  # of `VERSIONS`

    @property
    def parts(self) -> tuple[str, ...]:
        """The attacks of the ensemble, in order."""
        return tuple(name for name, _ in ENSEMBLES[self.ensemble].parts)

    def robust(self, moved: Tensor) -> Tensor:
        """Return which images the plain classifier still takes for what they are."""
        parts = torch.split(moved, self.batch_size)
        with torch.no_grad():
            guesses = torch.cat([self.model.classifier(part).argmax(1) for part in parts])
        return guesses == self.y

    def reference(self, seed: int) -> AutoAttack:
        """Return pyautoattack on the same network, in torch's own memory layout."""
        return AutoAttack(
            plain(self.model.classifier).eval(),
            norm=NORMS[self.threat.norm],
            eps=self.threat.eps,
            seed=seed,
            version=VERSIONS[self.ensemble],
            device=self.model.device,
        )


def clock(case: Case) -> float:
    """Return seconds: on a CPU the processor's, which other processes do not use up."""
    return time.process_time() if case.model.device.type == "cpu" else time.perf_counter()


def reference(case: Case, parts: Sequence[str], seed: int) -> Outcome:
    """Attack by pyautoattack."""
    set_for("pyautoattack")
    began = clock(case)
    judge = case.reference(seed)
    judge.attacks_to_run = list(parts)
    moved, _ = judge.run_standard_evaluation(case.x, case.y, batch_size=case.batch_size)
    return Outcome(case.robust(moved), clock(case) - began)


def ours(case: Case, parts: Sequence[str], dtype: torch.dtype | None, wish: Wish) -> Outcome:
    """Attack by this package, as fast as it finds it to be; finding it counts."""
    set_for("jeat")
    began = clock(case)
    plan = AttackOptions(case.threat, seed=0)
    attacks = [each for each in resolve_attacks([case.ensemble], plan) if each.name in parts]
    passes = len(case.x) * sum(attack.passes for attack in attacks) / 2
    work = Work(tuple(case.x.shape[1:]), case.batch_size, passes)
    way = choose(case.model.classifier, dtype, work, wish, Told())
    search = Surrogate(case.model.classifier, dtype, way=way)
    robust = torch.ones_like(case.y, dtype=torch.bool)
    for attack in attacks:
        left = robust.nonzero().squeeze(1)
        for index in torch.split(left, max(1, case.batch_size // attack.entry.rows)):
            if not len(index):
                continue
            batch = Batch(case.x[index], case.y[index], None, index)
            moved = attack(search, batch, plan)
            with torch.no_grad():
                robust[index] = ~batch.broken(case.model.classifier(moved))
    return Outcome(robust, clock(case) - began)


def row(
    name: str, search: str, n: int, mine: Outcome, theirs: Outcome, again: Outcome | None
) -> str:
    """Write one line of the table; accuracies are of all n images."""
    cells = [
        name,
        search,
        f"{mine.robust.sum().item() / n:.4f}",
        f"{theirs.robust.sum().item() / n:.4f}",
        agreement(mine.robust, theirs.robust, n),
        "" if again is None else agreement(again.robust, theirs.robust, n),
        f"{mine.seconds:.1f}",
        f"{theirs.seconds:.1f}",
        f"{mine.seconds / theirs.seconds:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def agreement(one: Tensor, other: Tensor, n: int) -> str:
    """Write the share of all n images with one verdict; those misclassified as they are agree."""
    return f"{1 - (one != other).sum().item() / n:.4f}"


def subject(given: argparse.Namespace) -> Model:
    """Load the model that both attack."""
    if given.arch is None:
        return load(given.run)
    foreign = Foreign(given.arch, given.dataset, tuple(given.mean), tuple(given.std))
    return load(given.run, foreign=foreign)


def options(purpose: str) -> argparse.ArgumentParser:
    """Return the options that say what is attacked."""
    parser = argparse.ArgumentParser(description=purpose.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--norm", default="linf", choices=NORMS)
    parser.add_argument("--eps", type=parse_number, default=None, help="as 8/255")
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    for name in ("arch", "dataset"):
        parser.add_argument(f"--{name}", help="of a state dict of others")
    for name in ("mean", "std"):
        parser.add_argument(f"--{name}", type=float, nargs="+", help="of a state dict of others")
    return parser


def chosen(given: argparse.Namespace, ensemble: str = "autoattack") -> Case:
    """Return what the options name, the images alone that are classified correctly, and tell it."""
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    model = subject(given)
    images = load_images(model.meta.dataset, "test").first(given.n).to(model.device)
    x = to_unit_range(images.x)
    with torch.no_grad():
        correct = model.classifier(x).argmax(1) == images.y
    threat = Threat(given.norm, model.meta.threat.eps if given.eps is None else given.eps)
    case = Case(model, x[correct], images.y[correct], threat, given.batch_size, ensemble)
    threads = f"{torch.get_num_threads()} threads" + (", ours compiled" if given.compile else "")
    print(f"{model.name}, {threat}, n = {given.n}, clean {len(case.x) / given.n:.4f}, {threads}\n")
    return case


def main() -> None:
    """Compare and print."""
    parser = options(__doc__)
    parser.add_argument("--ensemble", default="autoattack", choices=VERSIONS)
    parser.add_argument("--parts", nargs="*", help="of the ensemble, or `all` together")
    parser.add_argument("--seeds", type=int, default=1, choices=(1, 2))
    parser.add_argument("--search", nargs="+", default=["fp32"], choices=SEARCHES)
    given = parser.parse_args()
    case = chosen(given, given.ensemble)
    if unknown := set(given.parts or ()) - {*case.parts, "all"}:
        parser.error(f"{given.ensemble} has no {', '.join(unknown)}, but {', '.join(case.parts)}")
    print("| attack | search | robust, jeat | reference | agree | its own | s | s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in given.parts or (*case.parts, "all"):
        parts = case.parts if name == "all" else (name,)
        theirs = reference(case, parts, 0)
        again = reference(case, parts, 1) if given.seeds > 1 else None
        for search in given.search:
            mine = ours(case, parts, SEARCHES[search], Wish(compiled=given.compile))
            print(row(name, search, given.n, mine, theirs, again), flush=True)


if __name__ == "__main__":
    main()
