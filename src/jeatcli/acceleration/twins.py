"""A classifier made quicker for attacks and chains: fewer passes over memory, less precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch

from ..core.models.classifier import Classifier, Network, frozen
from .compiled import Compiled
from .folding import Rewritten
from .winograd.convolution import install

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
        compiled: Whether torch compiles it, and convolutions on a CPU are Winograd's.
    """
    net = _rewritten(classifier, dtype, compiled)
    if net is classifier.net and dtype is classifier.autocast and not compiled:
        return classifier
    return _around(net, classifier, Compiled if compiled else Classifier, dtype)


def hasten(classifier: Classifier) -> None:
    """Let torch compile a classifier that learns; with Winograd's convolutions on a CPU."""
    install(classifier.net, classifier.autocast or torch.float32)
    classifier.compile(dynamic=False)


@contextmanager
def inner(classifier: Classifier, train: bool = False) -> Iterator[Classifier]:
    """Lend a classifier of the present weights to the attack or the chain of a training step.

    The weights are frozen meanwhile, and the mode is as `frozen` has it. In eval mode what is lent
    is a quicker twin, if there is one; it is kept for the next step.
    """
    with frozen(classifier, train):
        yield classifier if train else _twin(classifier) or classifier


def _twin(classifier: Classifier) -> Classifier | None:
    """Return the classifier rewritten, of the weights as they are now, if that gains anything."""
    if classifier not in _twins:
        dtype, compiled = classifier.autocast, classifier.compiled
        net = _rewritten(classifier, dtype, compiled)
        gains = net is not classifier.net
        twin = _around(net, classifier, Classifier, dtype) if gains else None
        if twin and compiled:
            twin.compile(dynamic=False)
        _twins[classifier] = twin
    kept = _twins[classifier]
    if kept is not None:
        assert isinstance(kept.net, Rewritten)
        kept.net.refresh()
    return kept


def _rewritten(classifier: Classifier, dtype: torch.dtype | None, winograd: bool) -> Network:
    """Return the network in fewer operations, or as it is where that cannot be done."""
    net = classifier.net
    if classifier.training or not getattr(net, "foldable", False):
        return net
    rewritten = Rewritten(net, dtype or torch.float32 if winograd else None)
    return rewritten if rewritten.differs else net


def _around(
    net: Network, classifier: Classifier, kind: type[Classifier], dtype: torch.dtype | None
) -> Classifier:
    """Return a network with the normalisation of a classifier in front."""
    normalize = classifier.normalize
    mean, std = normalize.mean.flatten(), normalize.std.flatten()
    twin = kind(net, mean.tolist(), std.tolist()).to(mean.device).eval()
    twin.autocast = dtype
    return twin
