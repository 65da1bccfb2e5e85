"""A network that learns in fewer passes over memory: normalisation, sum and activation in one."""

from __future__ import annotations

import operator

from torch import Tensor, fx, nn

from ..core.models.classifier import Network
from .native.norm import NormAct, fits_norm
from .swapped import has_hooks
from .tracing import Features, layer, only_user, traced


class Learner:
    """The features of a network in train mode, to rounding; all layers are the network's own.

    No module, as its weights are the network's and none of its own.

    Args:
        net: The network, in train mode and `joinable`; not changed.

    Attributes:
        count: How many normalisations are joined with what follows them.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        features = Features(net)
        self.body = fx.GraphModule(features, traced(features))
        self.count = _join(self.body)
        self.layers = [
            (parent, name, child)
            for parent in net.modules()
            for name, child in parent.named_children()
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penultimate features (n, d) of normalised images (n, C, H, W)."""
        same = all(
            getattr(parent, name) is child and not has_hooks(child)
            for parent, name, child in self.layers
        )
        # A method may have replaced some since, or listen to them.
        features: Tensor = self.body(x) if same else self.net.features(x)
        return features


def learner_of(net: Network) -> Learner | None:
    """Return the learner of a network in train mode, or None where nothing is gained."""
    if not vars(type(net)).get("joinable") or not any(map(fits_norm, net.modules())):
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
        if isinstance(found, kinds) and after is not None:
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
