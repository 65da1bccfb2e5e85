"""Images per second of a training step, against loops as published and against other libraries.

    pip install -e ".[reference]"
    JEAT_DATA_DIR=... python benchmarks/train_step.py --arch resnet-18 wrn-16-4 --batch-size 32

All contenders of one network and method take a step each in turn, `--rounds` times, so that a busy
machine slows them all, and a large matrix product with them; told are medians. Before its turn each
has the limits of glibc's memory that its own process would have. First the step of `at` (PGD-10),
`jem` (20 steps) and `jeat` (both) against `published_loops.py`; then PGD-10 alone against
torchattacks and foolbox; then the whole loop (data, clipping, average, log, guard) against the bare
step, and what a save costs. The share of peak is the FLOP of the step over its time and the speed
of that product, in the same precision. CIFAR-10 must be there.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from glibc_limits import set_for
from peak_memory import peak_memory
from published_loops import Published, plain
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from jeatcli.acceleration.ways import Way
from jeatcli.core.jeat import AdversarialExamples
from jeatcli.core.rng import BatchRng, mix
from jeatcli.errors import Interrupted
from jeatcli.runtime import devices
from jeatcli.training import setup
from jeatcli.training.resolve import resolve
from jeatcli.training.run import TrainingRun
from jeatcli.training.settings import TrainConfig
from jeatcli.training.state import Saver
from jeatcli.training.trainer import Callback, Metrics, Trainer

Step = Callable[[], object]
STEPS = {"attack_steps": 10, "sgld_steps": 20}
PARTS = ("steps", "attacks", "loop")
NEEDED = {"at": ("attack_steps",), "jem": ("sgld_steps",), "jeat": ("attack_steps", "sgld_steps")}


def settings(method: str, arch: str, given: argparse.Namespace) -> TrainConfig:
    """Return the defaults of the method on CIFAR-10, with the steps that are compared."""
    options = {name: STEPS[name] for name in NEEDED[method]}
    if method != "at":
        options["buffer_size"] = 1000
    watch = {"sample_every": 0, "eval_every": 0, "val_split": 0}
    machine = {"precision": given.precision, "compile": given.compile, "kernel": given.kernel}
    head = {"method": method, "dataset": "cifar10", "arch": arch, "epochs": 1000}
    # The first images are enough, but for the number of steps between two saves.
    head["limit"] = 5000
    return resolve({**head, **watch, **machine, "batch_size": given.batch_size, "options": options})


def bare(trainer: Trainer, x: Tensor, y: Tensor) -> None:
    """Compute the loss, its gradient and the optimiser's step, and nothing else."""
    trainer.model.train()
    rng = BatchRng(mix(0, trainer.step), x.device)
    loss, _ = trainer.method.loss(trainer.model, x, y, rng)
    trainer.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    trainer.optimizer.step()


def seconds(step: Step) -> float:
    """Return how long one call takes, an accelerator's queue included."""
    wait()
    began = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - began


def wait() -> None:
    """Wait for the accelerator."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(contenders: dict[str, Step], rounds: int) -> dict[str, float]:
    """Return the median seconds of each; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, step in contenders.items():
            set_for(name)
            taken = seconds(step)
            if turn:
                times[name].append(taken)
    return {name: statistics.median(each) for name, each in times.items()}


def matrix_product(given: argparse.Namespace) -> tuple[Step, float]:
    """Return a large matrix product in the precision of the step, and its operations."""
    device = devices.pick(given.device)
    dtype = devices.autocast_type(given.precision, device) or torch.float32
    size = 8192 if device.type == "cuda" else 2048
    left = torch.randn(size, size, device=device).to(dtype)
    return partial(torch.matmul, left, left), 2.0 * size**3


def flops(trainer: Trainer, method: str) -> float:
    """Return the floating-point operations of a step for an image.

    With F those of a forward pass, as torch counts them: 2 F for each step of an attack or a
    chain (forward, gradient of the input), 3 F for each image that is learnt from.
    """
    x, _ = next(trainer.loader.epoch(0))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trainer.average.model(x[:1])
    inner = sum(2 * STEPS[name] for name in NEEDED[method])
    return float(counter.get_total_flops()) * (inner + (3 if method == "at" else 6))


def ready(config: TrainConfig, folder: str, given: argparse.Namespace) -> setup.Setup:
    """Build what `jeat train` builds."""
    return setup.build(config, Path(folder), devices.pick(given.device))


def compare_steps(arch: str, method: str, given: argparse.Namespace) -> None:
    """Print our step and the published one."""
    config = settings(method, arch, given)
    with tempfile.TemporaryDirectory() as folder:
        built = ready(config, folder, given)
    trainer = built.trainer
    batches = trainer.loader.epoch(0)
    # The average is the network as it was before anything was made quicker.
    loop = Published(config, plain(trainer.average.model), built.trainer.loader.images)
    product, operations = matrix_product(given)
    contenders: dict[str, Step] = {
        "jeat": lambda: trainer.update(*next(batches)),
        "as published": loop.step,
        "product": product,
    }
    way = Way(trainer.config.kernel, bool(trainer.config.compile))
    print(f"{arch}, {method}: {way}", flush=True)
    times = alternate(contenders, given.rounds)
    peak = operations / times.pop("product")
    work = flops(trainer, method)
    for name, taken in times.items():
        memory = peak_memory(contenders[name], trainer.device)
        told = (
            arch,
            method,
            name,
            f"{config.batch_size / taken:.2f}",
            f"{times['as published'] / taken:.2f}",
            f"{work / 1e9:.1f}",
            f"{work * config.batch_size / taken / peak:.0%}",
            f"{memory:,.0f}",
        )
        print("| " + " | ".join(told) + " |", flush=True)


def compare_attacks(arch: str, given: argparse.Namespace) -> None:
    """Print PGD-10 alone by each library, on the same weights."""
    import foolbox
    import torchattacks

    config = settings("at", arch, given)
    with tempfile.TemporaryDirectory() as folder:
        built = ready(config, folder, given)
    trainer, options = built.trainer, config.options
    method = trainer.method
    assert isinstance(method, AdversarialExamples)
    x, y = next(trainer.loader.epoch(0))
    model = plain(trainer.average.model).eval()
    eps, size = options["eps"], options["attack_step_size"]
    theirs = torchattacks.PGD(model, eps=eps, alpha=size, steps=10, random_start=True)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=size, steps=10, random_start=True)
    criterion = foolbox.criteria.Misclassification(y)
    contenders: dict[str, Step] = {
        "jeat": lambda: method.attack(trainer.model, x, y, BatchRng(0, x.device)),
        "torchattacks": lambda: theirs(x, y),
        "foolbox": lambda: pgd.run(wrapped, x, criterion, epsilon=eps),
    }
    times = alternate(contenders, given.rounds)
    for name, taken in times.items():
        print(
            f"| {arch} | {name} | {len(x) / taken:.2f} | {taken / times['jeat']:.2f} |", flush=True
        )


def save(saver: Saver, trainer: Trainer) -> None:
    """Write the state and the model."""
    saver.save_state(trainer)
    saver.save_model()


def compare_loop(arch: str, method: str, given: argparse.Namespace) -> None:
    """Print the whole loop against the bare step, a step of each in turn, and a save."""
    config = settings(method, arch, given)
    whole: list[float] = []
    alone: list[float] = []
    last = 0.0

    class Between(Callback):
        """Close the loop's step, take a bare one, and open the loop's next."""

        def on_step(self, trainer: Trainer, metrics: Metrics) -> None:
            nonlocal last
            wait()
            whole.append(time.perf_counter() - last)
            alone.append(seconds(lambda: bare(twin, x, y)))
            last = time.perf_counter()
            if len(whole) > given.rounds + 1:
                raise Interrupted("measured")

    with tempfile.TemporaryDirectory() as folder:
        built = ready(config, folder, given)
        twin = copy.deepcopy(built.trainer)
        x, y = next(twin.loader.epoch(0))
        run = TrainingRun(built, lambda: False)
        last = time.perf_counter()
        with suppress(Interrupted):
            built.trainer.fit([*run.callbacks(), Between()])
        saving = seconds(lambda: save(run.saver, built.trainer))
    looped, single = statistics.median(whole[2:]), statistics.median(alone[2:])
    epoch = looped * len(built.trainer.loader)
    share = saving / min(epoch, config.save_every)
    told = f"{looped:.3f} | {single:.3f} | {looped / single - 1:+.1%} | {saving:.2f} | {share:.2%}"
    print(f"| {arch} | {method} | {told} |", flush=True)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["resnet-18", "wrn-16-4", "small"])
    parser.add_argument("--method", nargs="+", default=["at", "jem", "jeat"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="as `jeat train`")
    parser.add_argument("--kernel", default="auto", help="as `jeat train`")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device = devices.pick(given.device)
    precision = devices.precision_name(devices.autocast_type(given.precision, device))
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {precision},")
    print(f"{devices.processor()}, batches of {given.batch_size}")
    if "steps" in given.parts:
        print("\n| network | method | step | images/s | ratio | GFLOP/image | of peak | peak MiB |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for arch, method in itertools.product(given.arch, given.method):
            compare_steps(arch, method, given)
    if "attacks" in given.parts:
        print("\n| network | PGD-10 by | images/s | slower than jeat |\n| --- | --- | --- | --- |")
        for arch in given.arch:
            compare_attacks(arch, given)
    if "loop" in given.parts:
        print("\n| network | method | loop, s | bare step, s | more | a save, s | of the time |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for arch, method in itertools.product(given.arch, given.method):
            compare_loop(arch, method, given)


if __name__ == "__main__":
    main()
