"""A faster twin of a classifier, for attacks and chains."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from ..core.models.classifier import Classifier, Network
from .compiled import Compiled
from .folding import Rewritten
from .winograd.convolution import install

# The twins of the classifiers in training; None where nothing is gained.
_twins: WeakKeyDictionary[Classifier, Classifier | None] = WeakKeyDictionary()


def accelerate(
    classifier: Classifier, dtype: torch.dtype | None = None, compiled: bool = False
) -> Classifier:
    """Return a classifier of the same logits, to rounding, for many passes with frozen weights.

    Args:
        classifier: In eval mode; not changed, and returned itself where nothing is gained.
        dtype: The type in which the network computes; None is float32.
        compiled: Whether torch compiles it, and convolutions on a CPU are Winograd's.
    """
    net = _rewritten(classifier, dtype, compiled)
    if net is classifier.net and dtype is classifier.autocast and not compiled:
        return classifier
    return _around(net, classifier, Compiled if compiled else Classifier, dtype)


def compile_for_training(classifier: Classifier) -> None:
    """Compile a classifier for training; on a CPU its 3x3 convolutions become Winograd's."""
    install(classifier.net, classifier.autocast or torch.float32)
    classifier.compile(dynamic=False)


def attach_twin(classifier: Classifier) -> None:
    """Let the attacks and chains of training run on a faster twin of the classifier."""
    classifier.twin = _twin


def _twin(classifier: Classifier) -> Classifier:
    """Return the twin with the current weights, or the classifier if nothing is gained."""
    if classifier not in _twins:
        dtype, compiled = classifier.autocast, classifier.compiled
        net = _rewritten(classifier, dtype, compiled)
        gains = net is not classifier.net
        twin = _around(net, classifier, Classifier, dtype) if gains else None
        if twin and compiled:
            twin.compile(dynamic=False)
        _twins[classifier] = twin
    kept = _twins[classifier]
    if kept is None:
        return classifier
    assert isinstance(kept.net, Rewritten)
    kept.net.refresh()
    return kept


def _rewritten(classifier: Classifier, dtype: torch.dtype | None, winograd: bool) -> Network:
    """Return the network in fewer operations, or itself where that is impossible."""
    net = classifier.net
    if classifier.training or not getattr(net, "foldable", False):
        return net
    rewritten = Rewritten(net, dtype or torch.float32 if winograd else None)
    return rewritten if rewritten.differs else net


def _around(
    net: Network, classifier: Classifier, kind: type[Classifier], dtype: torch.dtype | None
) -> Classifier:
    """Return a network behind the normalisation of a classifier."""
    normalize = classifier.normalize
    mean, std = normalize.mean.flatten(), normalize.std.flatten()
    twin = kind(net, mean.tolist(), std.tolist()).to(mean.device).eval()
    twin.autocast = dtype
    return twin
