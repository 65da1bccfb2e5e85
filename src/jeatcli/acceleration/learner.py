"""A network that learns in fewer passes over memory: normalisation, sum and activation in one."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from ..core.models.classifier import Network
from .comparison import difference
from .native.norm import NormAct, fits_norm
from .tracing import Features, layer, only_user, traced

# With few, statistics of a batch would amplify rounding.
_IMAGES = 16


class Learner:
    """The features of a network in train mode, to rounding; all layers are the network's own.

    No module, as its weights are the network's and none of its own.

    Args:
        net: The network, in train mode and `foldable`; not changed.

    Attributes:
        count: How many normalisations are joined with what follows them.
    """

    def __init__(self, net: Network) -> None:
        features = Features(net)
        self.body = fx.GraphModule(features, traced(features))
        self.count = _join(self.body)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penultimate features (n, d) of normalised images (n, C, H, W)."""
        features: Tensor = self.body(x)
        return features


def learner_of(net: Network, shape: Sequence[int] | None = None) -> Learner | None:
    """Return the learner of a network, or None where nothing is gained or it cannot be had.

    With the shape (C, H, W) of images, a copy is compared with the network first: whatever one's
    own code does beside its layers, its graph may not show.
    """
    if not getattr(net, "foldable", False) or not any(map(fits_norm, net.modules())):
        return None
    if shape is not None:
        ours, theirs = copy.deepcopy(net).train(), copy.deepcopy(net).train()
        x = torch.randn(_IMAGES, *shape, generator=torch.Generator().manual_seed(0))
        images = x.contiguous(memory_format=net.memory_format)
        if difference(Learner(ours), theirs.features, images, x.dtype):
            return None
    learner = Learner(net)
    return learner if learner.count else None


def _join(body: fx.GraphModule) -> int:
    """Replace normalisations and what follows them; return how many."""
    modules = dict(body.named_modules())
    count = 0
    for node in list(body.graph.nodes):
        norm = layer(node, modules)
        if not isinstance(norm, nn.BatchNorm2d) or not fits_norm(norm):
            continue
        joined, residual = [node], None
        total = only_user(node)
        if total is not None and total.target is operator.add and len(total.all_input_nodes) == 2:
            (residual,) = (other for other in total.all_input_nodes if other is not node)
            joined.append(total)
        act: nn.Module = nn.Identity()
        after = only_user(joined[-1])
        found = layer(after, modules)
        kinds = (nn.ReLU,) if residual is not None else (nn.ReLU, nn.SiLU)
        if isinstance(found, kinds):
            act = found
            joined.append(after)
        count += 1
        name = f"joined_{count}"
        body.add_submodule(name, NormAct(norm, act))
        end = joined[-1]
        with body.graph.inserting_after(end):
            both = (node.args[0],) if residual is None else (node.args[0], residual)
            made = body.graph.call_module(name, both)
        end.replace_all_uses_with(made)
        for each in reversed(joined):
            body.graph.erase_node(each)
    body.recompile()
    return count
