"""A chain that grows while real images are told from where it ends (Yin et al. 2026)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Curriculum:
    """The steps of a chain: one more each time that the AUC over `over` images is at least `at`."""

    at: float  # the AUC from which on the chain grows
    over: int  # images that the AUC is averaged over; measurements do not overlap
    most: int  # the largest number of steps
    # Changed in place: batches since the last measurement and steps of the chain, the sum of AUCs.
    counts: Tensor
    auc: Tensor

    @property
    def steps(self) -> int:
        """How many steps the chain has now."""
        return int(self.counts[1])

    def update(
        self,
        real: Tensor,
        drawn: Tensor,
        processes: int = 1,
        average: Callable[[Tensor], object] = id,
    ) -> Tensor:
        """Take the scores (n,) of a batch and of its chains' ends; return their AUC.

        A tie counts as not told apart. `average` puts the mean over the processes into a tensor.
        """
        auc = (real[:, None] > drawn).float().mean()
        # At each batch, so that a state saved by one process is that of all.
        average(auc)
        self.auc += auc
        self.counts[0] += 1
        if int(self.counts[0]) * len(real) * processes >= self.over:
            reached = bool(self.auc / self.counts[0] >= self.at)
            self.counts[1] += int(reached and self.steps < self.most)
            self.counts[0] = 0
            self.auc.zero_()
        return auc
