"""A faster twin of a classifier, for attacks and chains."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

import torch

from ..core.models.classifier import Classifier, Network
from .compiled import Compiled
from .folding import Rewritten
from .learner import learner_of
from .native.amx import has_tiles
from .native.learning import install
from .native.learning_tiles import install_tiles
from .ways import KERNELS, LIBRARY, Way

# The twins of the classifiers in training; None where nothing is gained.
_twins: WeakKeyDictionary[Classifier, Classifier | None] = WeakKeyDictionary()


def accelerate(
    classifier: Classifier, dtype: torch.dtype | None = None, way: Way = LIBRARY
) -> Classifier:
    """Return a classifier of the same logits, to rounding, for many passes with frozen weights.

    `classifier`, in eval mode, is not changed, and returned itself where nothing is gained. A
    `dtype` of None is float32.
    """
    net = _rewritten(classifier, dtype, way)
    if net is classifier.net and dtype is classifier.autocast and not way.compiled:
        return classifier
    return _around(net, classifier, Compiled if way.compiled else Classifier, dtype)


def learn_by(classifier: Classifier, way: Way) -> None:
    """Let a classifier, in train mode, learn in that way."""
    kernel, dtype = KERNELS[way.kernel], classifier.autocast or torch.float32
    if kernel.winograd is not None:
        install(classifier.net, dtype, kernel.winograd)
    if kernel.amx and dtype is torch.bfloat16:
        install_tiles(classifier.net, kernel.wgrad)
    if way.compiled:  # which fuses by itself
        classifier.compile(dynamic=False)
    elif kernel.fused:
        classifier.learner = learner_of(classifier.net)


def attach_twin(
    classifier: Classifier, way: Way = LIBRARY, shape: Sequence[int] | None = None
) -> None:
    """Let the attacks and chains of training run on a faster twin of the classifier.

    A compiled one is compared with it on images of that shape, (C, H, W), if it is given.
    """
    classifier.twin = partial(_twin, way=way, shape=shape)


def _twin(classifier: Classifier, way: Way, shape: Sequence[int] | None) -> Classifier:
    """Return the twin with the current weights, or the classifier if nothing is gained."""
    if classifier not in _twins:
        dtype = classifier.autocast
        net = _rewritten(classifier, dtype, way)
        gains = net is not classifier.net
        twin = _around(net, classifier, Classifier, dtype) if gains else None
        if twin and way.compiled:
            twin.compile(dynamic=False)
        _twins[classifier] = twin
    kept = _twins[classifier]
    if kept is None:
        return classifier
    assert isinstance(kept.net, Rewritten)
    kept.net.refresh()
    if way.compiled and shape and kept.net.unchecked:
        mean = kept.normalize.mean
        images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(kept.net.updates))
        with torch.no_grad():
            kept.features(images.to(mean.device))  # which compares, as a compiled program does not
    return kept


def _rewritten(classifier: Classifier, dtype: torch.dtype | None, way: Way) -> Network:
    """Return the network in fewer operations, or itself where that is impossible."""
    net, kernel, kind = classifier.net, KERNELS[way.kernel], dtype or torch.float32
    if classifier.training or not getattr(net, "foldable", False):
        return net
    # Torch's compiler fuses by itself.
    rewritten = Rewritten(
        net,
        None if kernel.winograd is None else kind,
        kernel.winograd or 0,
        kind if kernel.fused and not way.compiled else None,
        own_passes=not way.compiled,
        amx=kernel.amx and not way.compiled and kind is torch.bfloat16 and has_tiles(),
    )
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
