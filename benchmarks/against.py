"""Passes and training steps of this checkout against another one's, in turn.

    git worktree add --detach ../before bf7ec65
    JEAT_DATA_DIR=... python benchmarks/against.py --against ../before/src --arch wrn-16-2 \
        --method at jeat --layers batch-relu none-silu

Each checkout computes on the CPU in a process of its own, with an empty cache, as for a user who
gives no option on speed: this one in the way that it chooses, for `--work` passes of an image or a
whole training, and one that cannot choose without `--compile`. They take turns, so only one of them
computes at a time. Told are images/s of the median round, by the wall clock, and their ratio; a
first round is left out. Both keep freed memory as a command of this checkout does
(`keep_freed_memory`): what that gains by itself is not in the ratio.

`pass`: forward and back to a batch of images with frozen weights in evaluation mode, `--passes`
times a round; 0 leaves it out. `--method`: a step of training on CIFAR-10, which must be there, of
`standard` an update of the weights and nothing else; without a name, none. `--precision auto` is
what each checkout finds faster.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from subprocess import PIPE, Popen
from typing import Any

import torch

Case = dict[str, Any]
Step = Callable[[], object]
Ready = tuple[Step, str, torch.dtype | None]  # what is measured, in which way and precision
HERE = Path(__file__).resolve().parents[1] / "src"
# The options that say how long attacks and chains are.
LENGTHS = {
    "standard": (),
    "at": ("attack_steps",),
    "jem": ("sgld_steps",),
    "jeat": ("attack_steps", "sgld_steps"),
}
# Whether the checkout of this process measures how it computes fastest.
CHOOSES = find_spec("jeatcli.acceleration") is not None
COLUMNS = ("network", "layers", "precision", "what", "images/s here", "there", "ratio")


class Side:
    """A process that computes by the code of one checkout when it is told to."""

    def __init__(self, source: Path, held: ExitStack) -> None:
        cache = held.enter_context(tempfile.TemporaryDirectory())
        command = [sys.executable, __file__, "worker"]
        places = {**os.environ, "PYTHONPATH": str(source), "JEAT_CACHE_DIR": cache}
        self.process = Popen(command, env=places, stdin=PIPE, stdout=PIPE, text=True)
        held.enter_context(self.process)
        package = self.ask(None)
        assert Path(package).is_relative_to(source), f"{package} was imported instead"

    def ask(self, task: Case | int | None) -> str:
        """Return the answer of `work`."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(task), file=self.process.stdin, flush=True)
        if not (answer := self.process.stdout.readline()):
            raise SystemExit("a process ended while it computed; its error is above")
        return answer.strip()


def work() -> None:
    """Answer a case by how it is computed, a number of its steps by their seconds, None by where.

    What else is printed goes to stderr.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    # Of this checkout on both sides: the other may have none.
    run_path(str(HERE / "jeatcli/runtime/freed_memory.py"))["keep_freed_memory"]()
    step: Step = list
    for line in sys.stdin:
        task, answer = json.loads(line), import_module("jeatcli").__file__
        if isinstance(task, dict):
            torch.compiler.reset()  # or torch gives up on what it has compiled eight times
            step, way, dtype = (passes if task["what"] == "pass" else training)(task)
            answer = f"{way}, {'bf16' if dtype else 'fp32'}"
        elif task:
            began = time.perf_counter()
            for _ in range(task):
                step()
            answer = str(time.perf_counter() - began)
        print(answer, file=answers, flush=True)


def module(now: str, before: str) -> Any:
    """Return a module of the checkout by the name that it has here, or had at commit bf7ec65."""
    try:
        return import_module(f"jeatcli.{now}")
    except ModuleNotFoundError:
        return import_module(f"jeatcli.{before}")


def passes(case: Case) -> Ready:
    """Return a pass over a batch."""
    torch.manual_seed(0)
    shape = module("core.models.layers", "models").Shape((3, 32, 32), 10, *case["layers"])
    net = module("core.models", "models").build(case["arch"], shape)
    classifier = module("core.models.classifier", "models").Classifier(net, (0.5,) * 3, (0.25,) * 3)
    classifier.eval().requires_grad_(False)
    devices = module("runtime.devices", "devices")
    dtype = devices.autocast_type(case["precision"], torch.device("cpu"))
    images, way = torch.rand(case["batch_size"], *shape.image), "library"
    if CHOOSES:
        from jeatcli.acceleration.dispatch import choose
        from jeatcli.acceleration.twins import accelerate
        from jeatcli.acceleration.ways import Wish, Work

        at_hand = Work(shape.image, len(images), case["work"])
        chosen = choose(classifier, dtype, at_hand, Wish(compiled=case["compile"]))
        twin, way = accelerate(classifier, dtype, chosen), str(chosen)
    else:
        twin = import_module("jeatcli.models").quick(classifier, dtype)

    def step() -> None:
        x = images.clone().requires_grad_(True)
        torch.autograd.grad(twin(x).logsumexp(1).sum(), x)

    return step, way, dtype


def training(case: Case) -> Ready:
    """Return a step of a training with the defaults of the method."""
    settings = {name: case[name] for name in ("arch", "precision", "batch_size")}
    settings |= dict(zip(("norm_layer", "activation"), case["layers"], strict=True))
    settings |= {"sample_every": 0, "eval_every": 0, "val_split": 0}
    # The first images are enough, in as many steps as 100 epochs of all of them have.
    settings |= {"method": case["what"], "dataset": "cifar10", "limit": 5000, "epochs": 1000}
    settings["options"] = {name: case[name] for name in LENGTHS[case["what"]]}
    if CHOOSES:
        settings["compile"] = case["compile"]
    config = module("training.resolve", "config").resolve(settings)
    build = getattr(module("training.setup", "stage"), "build" if CHOOSES else "Stage")
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(config, Path(folder), torch.device("cpu")).trainer
    batches = (batch for epoch in itertools.count() for batch in trainer.loader.epoch(epoch))
    kernel = getattr(trainer.config, "kernel", "library")
    way = kernel + ", compiled" * trainer.config.compile
    return lambda: trainer.update(*next(batches)), way, trainer.model.autocast


def compare(sides: list[Side], case: Case, rounds: int) -> None:
    """Print a row: the images/s of both sides, and how they compute."""
    ways = [side.ask(case) for side in sides]
    steps = case["passes"] if case["what"] == "pass" else 1
    times = [[float(side.ask(steps)) for side in sides] for _ in range(rounds + 1)]
    medians = [statistics.median(each) for each in zip(*times[1:], strict=True)]
    rates = [f"{steps * case['batch_size'] / median:,.1f}" for median in medians]
    head = (case["arch"], "-".join(case["layers"]), case["precision"], case["what"])
    print(f"| {' | '.join([*head, *rates, f'{medians[1] / medians[0]:.2f}', *ways])} |", flush=True)


def main() -> None:
    """Compare and print."""
    from jeatcli.runtime.devices import processor  # which the other checkout may not have

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--against", type=Path, required=True, help="the `src` of another checkout")
    add("--arch", nargs="+", default=["cifar-resnet-20", "wrn-16-2"])
    add("--layers", nargs="+", default=["batch-relu"], metavar="NORM-ACTIVATION")
    add("--precision", nargs="+", default=["bf16", "fp32"])
    add("--method", nargs="*", choices=LENGTHS, default=["jeat"])
    add("--passes", type=int, default=10, help="in a round")
    add("--work", type=float, default=3e6, help="passes of an image that the way is chosen for")
    add("--attack-steps", type=int, default=3)
    add("--sgld-steps", type=int, default=5)
    add("--batch-size", type=int, default=64)
    add("--rounds", type=int, default=5)
    add("--no-compile", action="store_true", help="try no compiled graph here: that takes minutes")
    given = parser.parse_args()
    same = {**vars(given), "against": None, "compile": False if given.no_compile else None}
    with ExitStack() as held:
        sides = [Side(source, held) for source in (HERE, given.against.resolve())]
        threads, load = torch.get_num_threads(), f"{os.getloadavg()[0]:.1f}"
        print(f"{processor()}, {threads} threads, torch {torch.__version__}, load {load} before;")
        print(f"batches of {given.batch_size}, {given.attack_steps} steps of attacks, ", end="")
        print(f"{given.sgld_steps} of chains, {given.rounds} rounds in turn, freed memory kept\n")
        print(f"| {' | '.join(COLUMNS)} | way here | there |")
        print("| " + " | ".join(["---"] * (len(COLUMNS) + 2)) + " |", flush=True)
        whats = ["pass"] * bool(given.passes) + given.method
        every = itertools.product(given.arch, given.layers, given.precision, whats)
        for arch, layers, precision, what in every:
            case = {"arch": arch, "layers": layers.split("-"), "precision": precision, "what": what}
            compare(sides, {**same, **case}, given.rounds)


if __name__ == "__main__":
    work() if sys.argv[1:] == ["worker"] else main()
