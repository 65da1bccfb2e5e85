"""The processes of one run, as `torchrun` starts them: one a device, or a single one."""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import JeatError, RankLost, UsageProblem
from . import spokesman

T = TypeVar("T")
# How long one process may save or download while the others wait.
_PATIENCE = timedelta(hours=2)
# How long the first to come waits for all others.
_MEETING, _PART = timedelta(minutes=10), timedelta(seconds=0.5)
_TORCHRUN = (
    "start all processes by `torchrun`, which sets `RANK`, `MASTER_ADDR` and `MASTER_PORT`; "
    "for a single one, unset `WORLD_SIZE`"
)


@dataclass(frozen=True)
class ProcessGroup:
    """This process, number `rank`, among the `size` processes of the run."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Average the gradients of `objective` over the processes as they are computed."""
        if self.size == 1:
            return objective
        with warnings.catch_warnings():
            # The option's new name is not known to the older versions of torch.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(objective, broadcast_buffers=False)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the average over the processes of scalar tensors."""
        if self.size == 1:
            return dict(values)
        stacked = torch.stack([value.float() for value in values.values()])
        self.average_(stacked)
        return dict(zip(values, stacked.unbind(), strict=True))

    def average_(self, tensor: Tensor) -> None:
        """Replace a tensor by its average over the processes."""
        if self.size > 1:
            with _together():
                distributed.all_reduce(tensor)
            tensor /= self.size

    def average_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of batch normalisation over the processes."""
        buffers = [
            buffer
            for name, buffer in model.named_buffers()
            if name.rpartition(".")[2] in ("running_mean", "running_var")
        ]
        if self.size == 1 or not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        self.average_(flat)
        means = torch.split(flat, [len(buffer) for buffer in buffers])
        for buffer, mean in zip(buffers, means, strict=True):
            buffer.copy_(mean)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        count = torch.tensor(float(flag))
        with _together():
            distributed.all_reduce(count)
        return count.item() > 0

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes in the order of their ranks."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _together():
            distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def from_main(self, make: Callable[[], T]) -> T:
        """Call `make` in the main process; return its value, or raise its failure, in all."""
        if self.size == 1:
            return make()
        box: list[tuple[T | None, JeatError | None]] = [(None, None)]
        if self.is_main:
            try:
                box = [(make(), None)]
            except JeatError as problem:
                box = [(None, problem)]
        with _together():
            distributed.broadcast_object_list(box, 0)
        value, failure = box[0]
        if failure is not None:
            failure.reported = not self.is_main
            raise failure
        return cast(T, value)

    def collect(self, value: T) -> list[T]:
        """Return the values of all processes in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        with _together():
            distributed.all_gather_object(values, value)
        return cast(list[T], values)

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's part of the rows; it may be empty."""
        return rows.tensor_split(self.size)[self.rank]

    def main_first(self, make: Callable[[], T]) -> T:
        """Call `make` in the main process, then in the others, which find what it downloaded."""
        made: list[T] = []
        self.from_main(lambda: made.append(make()))
        return made[0] if self.is_main else make()

    def wait(self) -> None:
        self.any(False)


SINGLE = ProcessGroup()


def current() -> ProcessGroup:
    """Return this process among those that have joined, or `SINGLE`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SINGLE
    return ProcessGroup(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the other processes that `torchrun` started, by NCCL on CUDA and gloo elsewhere.

    Raises:
        RankLost: If they do not come.
        UsageProblem: If `WORLD_SIZE` says that there are others, and nothing where they are.
    """
    # Not every build of torch has them.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=_MEETING))
        # What `torchrun` starts anew finds the store of the first attempt, with its addresses.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt {attempt}", store)
        # Where `torchrun` serves the store, coming to it is not yet a meeting.
        store.set(f"rank {rank}", "here")
        _wait(partial(store.wait, [f"rank {each}" for each in range(size)]))
        store.set_timeout(_PATIENCE)
    except (distributed.DistError, TimeoutError) as problem:
        why = str(problem).partition("\n")[0]
        raise RankLost(
            f"the {os.environ['WORLD_SIZE']} processes of the command have not met: {why}",
            _TORCHRUN,
        ) from problem
    except ValueError as problem:
        words = str(problem).removeprefix(
            "Error initializing torch.distributed using env:// rendezvous: "
        )
        raise UsageProblem(
            f"`WORLD_SIZE` is {os.environ['WORLD_SIZE']}: {words}", _TORCHRUN
        ) from problem
    with _together():
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE
        )
    spokesman.meet(store)
    yield current()
    spokesman.meet(None)
    # Not after a failure: destroying the group may wait for a dead process for ever.
    distributed.destroy_process_group()


def _wait(for_all: Callable[[timedelta], object]) -> None:
    """Wait until all processes have come, in parts: a signal is answered after each of them."""
    until = time.monotonic() + _MEETING.total_seconds()
    while True:
        try:
            for_all(_PART)
            return
        except distributed.DistStoreError:
            if time.monotonic() > until:
                raise


def lost(problem: BaseException) -> bool:
    """Tell whether an error comes from a connection to another process."""
    words = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL", "Socket")
    return isinstance(problem, distributed.DistError) or (
        isinstance(problem, RuntimeError) and any(word in str(problem) for word in words)
    )


@contextmanager
def _together() -> Iterator[None]:
    """Raise `RankLost` where a collective fails because another process has died."""
    try:
        yield
    except RuntimeError as problem:
        if not lost(problem):
            raise
        raise rank_lost() from problem


def rank_lost() -> RankLost:
    """Build the error for a process that has died."""
    return RankLost(
        "another process of the command has died",
        "see its own message; the same command resumes from the last save",
    )
