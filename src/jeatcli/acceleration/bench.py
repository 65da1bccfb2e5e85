"""A network that computes in any of the ways, and a clock that others do not advance."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch

from ..core.models.classifier import Classifier, frozen
from ..errors import Interrupted
from ..runtime.devices import thread_clock
from ..runtime.progress import Reporter
from . import possible
from .twins import accelerate, learn_by
from .ways import Way, Work

# What is slower than the fastest by this factor after a round is not timed again.
_LOST = 1.25
# A wait of more seconds is announced.
_LONG = 3.0


class Bench:
    """A network that computes in any of the ways, and a clock.

    The clock is that of the processor in this thread, which other processes do not advance.
    """

    def __init__(
        self,
        classifier: Classifier,
        dtype: torch.dtype | None,
        work: Work,
        held: ExitStack,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> None:
        self.reporter, self.should_stop = reporter, should_stop
        self.learner = copy.deepcopy(classifier) if work.updates else classifier
        self.classifier = held.enter_context(frozen(classifier))
        self.dtype, self.work = dtype, work
        self.x = torch.rand(work.batch, *work.shape, generator=torch.Generator().manual_seed(0))
        # How often an image goes through the network in a way, and the function that does it once.
        self._runs: dict[Way, list[tuple[float, Callable[[], None]]]] = {}

    def swapped(self, way: Way) -> tuple[str, int]:
        """Return what computes convolutions of the network in that way, and how many."""
        return possible.swapped(self.classifier, self.dtype, way, bool(self.work.updates))

    def computed(self, way: Way) -> Way:
        """Return the way in which the network is computed if that one is asked for."""
        return possible.computed(self.classifier, self.dtype, way, bool(self.work.updates))

    def alternate(self, ways: list[Way], rounds: int) -> dict[str, float]:
        """Return the least seconds of an image in each way, all ways taken in turn."""
        for number, way in enumerate(ways):
            self.go_on()
            began = time.perf_counter()
            self.seconds(way, 0)
            left = (time.perf_counter() - began) * (len(ways) * (rounds + 1) - 1)
            if number == 0 and left > _LONG:
                self.reporter.say(
                    f"measuring how this processor computes the network fastest: {left:.0f} s or "
                    "so (`--kernel library --no-compile` does without)"
                )
        least = dict.fromkeys(ways, math.inf)
        for _ in range(rounds):
            limit = _LOST * min(least.values())
            for way in [way for way in ways if least[way] <= limit]:
                self.go_on()
                least[way] = min(least[way], self.seconds(way, 1))
        return {str(way): seconds for way, seconds in least.items()}

    def go_on(self) -> None:
        """Stop here if the user has asked for it: nothing has begun yet."""
        if self.should_stop():
            raise Interrupted(
                "stopped before anything was computed", "run the same command again to begin"
            )

    def seconds(self, way: Way, rounds: int) -> float:
        """Return the least seconds per image of some rounds; the first call warms up."""
        if way not in self._runs:
            kinds = ((self.work.passes, self._pass), (self.work.updates, self._update))
            self._runs[way] = [(times, make(way)) for times, make in kinds if times]
            self._weighed(way)
        return min((self._weighed(way) for _ in range(rounds)), default=0.0)

    def _weighed(self, way: Way) -> float:
        spent = 0.0
        for times, run in self._runs[way]:
            began = thread_clock()
            run()
            spent += times * (thread_clock() - began)
        return spent / (self.work.passes + self.work.updates) / self.work.batch

    def _pass(self, way: Way) -> Callable[[], None]:
        twin = accelerate(self.classifier, self.dtype, way)

        def run() -> None:
            x = self.x.clone().requires_grad_(True)
            torch.autograd.grad(twin(x).logsumexp(1).sum(), x)

        return run

    def _update(self, way: Way) -> Callable[[], None]:
        learner = copy.deepcopy(self.learner).train()
        learner.autocast = self.dtype
        learn_by(learner, way)

        def run() -> None:
            learner.zero_grad()
            learner(self.x).logsumexp(1).sum().backward()

        return run
