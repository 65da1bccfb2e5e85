"""A classifier made quicker for attacks and chains: fewer passes over memory, less precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ._classifier import Classifier, Network, frozen
from ._compiled import Compiled
from ._folded import Folded

# What `inner` made of the classifiers that are being trained; None where nothing can be gained.
_twins: WeakKeyDictionary[Classifier, Classifier | None] = WeakKeyDictionary()


def quick(
    classifier: Classifier, dtype: torch.dtype | None = None, compiled: bool = False
) -> Classifier:
    """Return a classifier of the same logits, to rounding, for many passes with frozen weights.

    Args:
        classifier: In eval mode; it stays as it is, and is returned itself where nothing can be
            gained.
        dtype: What the network computes in; None is float32.
        compiled: Whether torch compiles it.
    """
    net = _folded(classifier)
    if net is classifier.net and dtype is classifier.autocast and not compiled:
        return classifier
    kind = Compiled if compiled else Classifier
    normalize = classifier.normalize
    mean, std = normalize.mean.flatten(), normalize.std.flatten()
    twin = kind(net, mean.tolist(), std.tolist()).to(mean.device).eval()
    twin.autocast = dtype
    return twin


@contextmanager
def inner(classifier: Classifier, train: bool = False) -> Iterator[Classifier]:
    """Lend a classifier of the present weights to the attack or the chain of a training step.

    The weights are frozen meanwhile, and the mode is as `frozen` has it. In eval mode what is lent
    is a quicker twin, if there is one; it is kept for the next step.
    """
    with frozen(classifier, train):
        yield classifier if train else _twin(classifier) or classifier


def _twin(classifier: Classifier) -> Classifier | None:
    """Return the classifier with its statistics folded as they are now, if there are any."""
    if classifier not in _twins:
        twin = quick(classifier, classifier.autocast)
        if classifier.compiled and twin is not classifier:
            twin.compile(dynamic=False)
        _twins[classifier] = None if twin is classifier else twin
    kept = _twins[classifier]
    if kept is not None:
        assert isinstance(kept.net, Folded)
        kept.net.refresh()
    return kept


def _folded(classifier: Classifier) -> Network:
    """Return the network with its statistics folded, or as it is where that cannot be done."""
    net = classifier.net
    if classifier.training or not getattr(net, "foldable", False):
        return net
    normalised = any(isinstance(each, nn.BatchNorm2d) for each in net.modules())
    return Folded(net) if normalised else net
