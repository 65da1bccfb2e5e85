"""Which way of computing a network is the fastest here: measured on the shapes at hand.

Speeds are kept in the cache (`choices`). What is kept is measured once more, briefly, before it is
believed, so a wrong entry costs a moment and is corrected. A measurement takes a few per cent of
the work at most; with less to do, the usual way is taken unmeasured.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import torch

from ..core.models.classifier import Classifier
from ..runtime.progress import SILENT, Reporter
from . import possible
from .bench import Bench
from .choices import Place, Speeds
from .native.kernel import is_built
from .ways import KERNELS, Way, Wish, Work

# The share of the work that finding its fastest way may take.
_SHARE = 0.03
_ROUNDS = 5
# Larger batches take no longer for each image, beside one another.
_BATCH = 64
# Kept speeds stand until another way is faster by more than the clock's noise.
_NOISE = 1.1
# How far a look moves them to what it sees.
_LEARNT = 0.25
_LEAST = 1e-12  # seconds
# Seconds, with margin: of the C++ compiler on the kernel, of torch's on a network.
_BUILDING, _COMPILING = 15.0, 90.0


def choose(
    classifier: Classifier,
    dtype: torch.dtype | None,
    work: Work,
    wish: Wish,
    reporter: Reporter = SILENT,
    should_stop: Callable[[], bool] = lambda: False,
) -> Way:
    """Return the fastest way of those that are wished for and possible; on a CPU it is measured.

    The classifier is as it is before anything is accelerated, and not changed; a `dtype` of None is
    float32; the reporter hears what was chosen and why.

    Raises:
        Interrupted: If `should_stop` returns True, which is asked between the passes.
        UsageProblem: If the wish needs a C++ compiler, and the variable `CXX` is no command.
    """
    usual = _unmeasured(classifier, dtype, work, wish, reporter)
    if wish.kernel != "auto":
        wish = wish._replace(kernel=usual.kernel)
    on_cpu = classifier.normalize.mean.device.type == "cpu"
    if not on_cpu or (wish.kernel != "auto" and wish.compiled is not None):
        return usual
    total = work.passes + work.updates
    work = work._replace(batch=min(work.batch, _BATCH))
    each = (_ROUNDS + 1) * work.batch * (bool(work.passes) + bool(work.updates))
    if each * len(KERNELS) >= _SHARE * total:  # also of no work at all
        return usual
    with ExitStack() as held:
        bench = Bench(classifier, dtype, work, held, reporter, should_stop)
        ways = [Way(kernel) for kernel in _kernels(bench, wish, total)]
        if len(ways) == 1 and wish.compiled is not None:
            return Way(ways[0].kernel, wish.compiled)
        place = Place(classifier, dtype, work)
        speeds, kept = _measured(bench, ways, place.read())
        best = min(ways, key=lambda way: speeds.seconds[str(way)])
        compiled = bench.computed(best._replace(compiled=True))
        if wish.compiled:
            chosen = compiled
        elif wish.compiled is False:
            chosen = best
        else:
            kernels = dict.fromkeys([compiled.kernel, "library"])
            chosen = _compiled(bench, best, kernels, speeds, total)
        place.write(speeds)
    reporter.detail(_told(chosen, speeds, "kept, and checked" if kept else "measured"))
    return chosen


def _unmeasured(
    classifier: Classifier,
    dtype: torch.dtype | None,
    work: Work,
    wish: Wish,
    reporter: Reporter,
) -> Way:
    """Return what is possible of the way without a measurement; say so if it is not the wish."""
    asked, learns = wish.unmeasured, bool(work.updates)
    way = possible.computed(classifier, dtype, asked, learns)
    if wish.kernel == "auto":
        return way
    if way != asked:
        why = possible.why_not(classifier, dtype, asked, learns)
        reporter.say(
            f"`--kernel {asked.kernel}` is not available here ({why}); `{way.kernel}` computes the "
            "convolutions"
        )
    reporter.detail(f"convolutions: {way} (not measured)")
    return way


def _kernels(bench: Bench, wish: Wish, total: float) -> list[str]:
    """Return the kernels that differ on this network, the usual one first."""
    if wish.kernel != "auto":
        return [wish.kernel]
    if not getattr(bench.classifier.net, "foldable", False):
        return ["library"]
    if not is_built() and _SHARE * total * bench.seconds(Way(), 1) < _BUILDING:
        return ["library"]  # the others would have it built
    distinct = {bench.swapped(Way(kernel)): kernel for kernel in reversed(KERNELS)}
    return list(reversed(distinct.values()))


def _measured(bench: Bench, ways: list[Way], known: Speeds | None) -> tuple[Speeds, bool]:
    """Return the seconds of the ways, and whether those that were known are still true."""
    names = [str(way) for way in ways]
    if known is None or not set(names) <= known.seconds.keys():
        return Speeds(bench.alternate(ways, _ROUNDS)), False
    now, best = bench.alternate(ways, 1), min(names, key=known.seconds.__getitem__)
    if now[best] > _NOISE * min(now.values()):
        again = bench.alternate(ways, _ROUNDS)
        return Speeds({name: min(now[name], again[name]) for name in names}), False
    return _moved(known, now), True


def _moved(known: Speeds, now: dict[str, float]) -> Speeds:
    """Return what is kept at today's speed of the machine, a little closer to what is seen.

    Thus noise that once favoured a way is forgotten.
    """
    seen = {
        name: math.log(max(now[name], _LEAST) / max(known.seconds[name], _LEAST)) for name in now
    }
    today = statistics.fmean(seen.values())
    seconds = {
        name: value * math.exp(today + _LEARNT * (seen.get(name, today) - today))
        for name, value in known.seconds.items()
    }
    return Speeds(seconds, known.compiling)


def _compiled(bench: Bench, best: Way, kernels: Iterable[str], speeds: Speeds, total: float) -> Way:
    """Return the best way, or a compiled one where the work repays the compiler's time."""
    chosen, least, told = best, speeds.seconds[str(best)], False
    for way in (Way(kernel, compiled=True) for kernel in kernels):
        known, cost = speeds.seconds.get(str(way)), speeds.compiling or _COMPILING
        gain = total * (least - known) if known is not None else _SHARE * total * least
        if gain <= cost:
            continue
        bench.go_on()
        if not told:
            bench.reporter.say(
                "compiling the network to see whether it pays: up to minutes (`--no-compile` does "
                "without)"
            )
        told = True
        began = time.perf_counter()
        try:
            bench.seconds(way, 0)
        except Exception:  # torch's compiler, or that of C++, in many ways of its own
            break
        speeds.compiling = time.perf_counter() - began
        speeds.seconds[str(way)] = seconds = bench.seconds(way, _ROUNDS)
        if seconds < least:
            chosen, least = way, seconds
    return chosen


def _told(way: Way, speeds: Speeds, how: str) -> str:
    """Say what was chosen: `winograd-32, of library 452, winograd 588 images/s (measured)`."""
    rates = [f"{name} {1 / max(value, _LEAST):,.0f}" for name, value in speeds.seconds.items()]
    return f"convolutions: {way}; images/s: {', '.join(rates)} ({how})"
