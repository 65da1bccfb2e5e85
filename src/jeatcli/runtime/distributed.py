"""The processes of one run, as `torchrun` starts them: one a device, or a single one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import JeatError, RankLost

T = TypeVar("T")
# What one rank may do alone while the others wait: save, download.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Args:
        rank: Its number.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leader(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Let the gradients of `objective` be averaged over the processes, as they come."""
        if self.size == 1:
            return objective
        with warnings.catch_warnings():
            # The option's new name is not known to the older versions of torch.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(objective, broadcast_buffers=False)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the average over the processes of tensors of no dimension."""
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
        """Let batch normalisation have the running statistics of all parts of the batch."""
        found = [
            buffer
            for name, buffer in model.named_buffers()
            if name.rpartition(".")[2] in ("running_mean", "running_var")
        ]
        if self.size == 1 or not found:
            return
        flat = torch.cat([buffer.flatten() for buffer in found])
        self.average_(flat)
        for buffer, mean in zip(
            found, torch.split(flat, [len(each) for each in found]), strict=True
        ):
            buffer.copy_(mean)

    def any(self, flag: bool) -> bool:
        """Return whether one process at least has the flag up."""
        if self.size == 1:
            return flag
        raised = torch.tensor(float(flag))
        with _together():
            distributed.all_reduce(raised)
        return raised.item() > 0

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes, one after another."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _together():
            distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def from_leader(self, make: Callable[[], T]) -> T:
        """Let the leader compute something; return it, or raise its failure, everywhere."""
        if self.size == 1:
            return make()
        box: list[tuple[T | None, JeatError | None]] = [(None, None)]
        if self.leader:
            try:
                box = [(make(), None)]
            except JeatError as problem:
                box = [(None, problem)]
        with _together():
            distributed.broadcast_object_list(box, 0)
        value, failure = box[0]
        if failure is not None:
            failure.told = not self.leader
            raise failure
        return cast(T, value)

    def collect(self, value: T) -> list[T]:
        """Return what every process has, in their order."""
        if self.size == 1:
            return [value]
        found: list[T | None] = [None] * self.size
        with _together():
            distributed.all_gather_object(found, value)
        return cast(list[T], found)

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's part of rows, some of the last without any if there are few."""
        return rows.tensor_split(self.size)[self.rank]

    def leader_first(self, make: Callable[[], T]) -> T:
        """Let the leader make something, then the others: what it has fetched they find there."""
        made: list[T] = []
        self.from_leader(lambda: made.append(make()))
        return made[0] if self.leader else make()

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)


SOLO = Ranks()


def current() -> Ranks:
    """Return this process among those that have joined, alone where none have."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SOLO
    return Ranks(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes that `torchrun` started, for a time.

    Args:
        device: Where this process computes: collectives go by NCCL on CUDA, by gloo elsewhere.

    Raises:
        RankLost: If another process is gone.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _together():
        distributed.init_process_group(backend, timeout=_PATIENCE)
    yield current()
    # Not after a failure: taking leave of a process that is gone may take for ever.
    distributed.destroy_process_group()


def lost(problem: BaseException) -> bool:
    """Tell whether an error comes from a connection to another process."""
    words = (
        "Connection closed",
        "Connection reset",
        "Broken pipe",
        "gloo",
        "NCCL",
        "Socket",
    )
    return isinstance(problem, distributed.DistError) or (
        isinstance(problem, RuntimeError) and any(word in str(problem) for word in words)
    )


@contextmanager
def _together() -> Iterator[None]:
    """Put the failure of a collective into words.

    Raises:
        RankLost: If another process is gone.
    """
    try:
        yield
    except RuntimeError as problem:
        if not lost(problem):
            raise
        raise rank_lost() from problem


def rank_lost() -> RankLost:
    """Build the error for a process that is gone."""
    return RankLost(
        "another process of the command has died",
        "see its own message; the same command goes on from what was saved last",
    )
