"""The layers that a network runs, in order, as a graph."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, fx, nn

from ..core.models.classifier import Network, PixelConv
from ..errors import UsageProblem
from .native.learning import LearningConv
from .native.learning_tiles import LearningTileConv
from .swapped import is_plain

# The layers that can be rewritten.
_CONVOLUTIONS = (nn.Conv2d, PixelConv, LearningConv, LearningTileConv)
_OTHERS = (nn.BatchNorm2d, nn.ReLU, nn.SiLU, nn.Identity)


class Features(nn.Module):
    """The features of a network as a module."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.features(x)


class _Tracer(fx.Tracer):
    """Traces each of these layers as one operation, those of subclasses too."""

    proxy_buffer_attributes = True  # which the network's training changes

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layers = nn.Conv2d | nn.BatchNorm2d | nn.ReLU
        return isinstance(m, layers) or super().is_leaf_module(m, module_qualified_name)


def traced(features: Features) -> fx.Graph:
    """Return the graph of a network's features in its present mode.

    Raises:
        UsageProblem: If what it runs depends on the images.
    """
    try:
        graph = _Tracer().trace(features)
    except Exception as problem:  # whatever somebody's code makes of images that are not there
        name = type(features.net).__name__
        raise UsageProblem(
            f"the network `{name}` is `foldable`, but which layers it runs depends on the "
            f"images or their shape: {problem}",
            f"leave `foldable = True` out of `{name}`",
        ) from problem
    for node in graph.nodes:
        if node.op == "call_module" and not node.args and [*node.kwargs] == ["input"]:
            node.args, node.kwargs = (node.kwargs["input"],), {}  # as torch's layers name it
    return graph


def only_user(node: fx.Node) -> fx.Node | None:
    """Return the operation that uses the output of a node, if there is only one."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def layer(node: object, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the layer that a node of a graph calls, if it is one that can be rewritten."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = modules.get(str(node.target))
    return module if is_plain(module, *_CONVOLUTIONS, *_OTHERS) else None
