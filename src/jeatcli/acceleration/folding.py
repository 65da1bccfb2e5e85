"""A network with its batch normalisations folded, for attacks and chains."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..core.models.classifier import Network
from .comparison import check_same, independent
from .fused import FusedConv, fusible
from .native.amx import AmxConv, fits_tiles
from .native.convolution import WinogradConv, fits
from .native.direct import direct
from .passes import Passes
from .steps import Unsuited
from .swapped import SwappedConv
from .tracing import Features, layer, only_user, traced


class Fold(NamedTuple):
    """A convolution that replaces another one and the normalisation after it."""

    both: nn.Conv2d
    conv: nn.Conv2d
    norm: nn.BatchNorm2d


class Rewritten(Network):
    """The same function as a network in eval mode, to rounding.

    Batch normalisations are folded into the convolutions before them, which saves passes over
    memory. Other layers are shared with the network; `refresh` updates the folded ones. The first
    images, and later ones ever more rarely, go through the network, too, and have to give the same.

    Args:
        net: The network; not changed.
        winograd: The type of Winograd's convolutions, where they fit; None for none.
        least: The channels, in and out, that they have at least.
        fused: The type of the other convolutions, the sums and ReLUs after them in the same pass;
            None where these stay apart.
        own_passes: Whether the passes are ours (`passes`), where a convolution is; autograd's are
            what torch can compile.
        amx: Whether the processor's matrix tiles compute those that they can, where others are
            fused.
    """

    def __init__(
        self,
        net: Network,
        winograd: torch.dtype | None = None,
        least: int = 0,
        fused: torch.dtype | None = None,
        own_passes: bool = True,
        amx: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        features = Features(net)
        self.body = fx.GraphModule(features, traced(features))
        modules = dict(features.named_modules())
        _drop_identities(self.body.graph, modules)
        self.folds = _fold(self.body, modules)
        self.swaps: list[SwappedConv] = []
        self.passes: Passes | None = None
        self.updates = 0
        self.refresh()

        def make(conv: nn.Conv2d) -> SwappedConv | None:
            if winograd is not None and fits(conv, winograd, least):
                return WinogradConv(conv, winograd)
            if fused is None:
                return None
            if amx and fits_tiles(conv, fused):
                return AmxConv(conv)
            kind = direct(conv, fused) if winograd is not None or amx else None
            if kind is not None:
                return kind(conv, fused)
            return FusedConv(conv, fused) if fusible(conv, fused) else None

        if winograd is not None or fused is not None:
            self.swaps = _swap(self.body, make)
        self.passes = Passes(self.body) if self.swaps and own_passes else None
        self.suited = False  # whether a pass with gradients has gone well

    @property
    def differs(self) -> bool:
        """Whether anything could be rewritten."""
        return bool(self.folds or self.swaps)

    @torch.no_grad()
    def refresh(self) -> None:
        """Update the weights after a training step of the network."""
        # What it computes may change beside its weights: each power of two is soon enough to see.
        self.updates += 1
        self.unchecked = self.updates & (self.updates - 1) == 0
        for both, conv, norm in self.folds:
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None
            assert variance is not None
            assert both.bias is not None
            weight, bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
            )
            both.weight.copy_(weight)
            both.bias.copy_(bias)
        for swap in self.swaps:
            swap.refresh()
        if self.passes is not None:
            self.passes.refresh()

    def features(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and self.unchecked and len(x):
            self.unchecked = False
            half = torch.is_autocast_enabled(x.device.type) or any(
                swap.dtype is torch.bfloat16 for swap in self.swaps
            )
            dtype = torch.bfloat16 if half else torch.float32
            check_same(type(self.net).__name__, self._features, self.net.features, x, dtype)
            passes = self.passes
            if passes is not None and passes.independent is None:
                passes.independent = independent(self._features, x)
        return self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        passes = self.passes  # another thread may find them unsuited
        if passes is not None:
            kept = None if self.suited else x.clone()  # which no operation has changed in place
            try:
                out = passes(x)
            except Unsuited:
                self.passes, x = None, x if kept is None else kept
            else:
                self.suited = self.suited or out.requires_grad
                return out
        features: Tensor = self.body(x)
        return features

    def head(self, features: Tensor) -> Tensor:
        return self.net.head(features)


def _drop_identities(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
    """Let the users of what does nothing take its input, so that they can join that."""
    for node in list(graph.nodes):
        if isinstance(layer(node, modules), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _fold(body: fx.GraphModule, modules: Mapping[str, nn.Module]) -> list[Fold]:
    """Replace each pair by one convolution, whose weights `refresh` fills in."""
    folds: list[Fold] = []
    for node in list(body.graph.nodes):
        norm, before = layer(node, modules), node.args[0] if node.args else None
        conv = layer(before, modules)
        if not (isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d)):
            continue
        assert isinstance(before, fx.Node)
        if len(before.users) > 1 or norm.running_mean is None or norm.training:
            continue
        both = copy.deepcopy(conv)
        both.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
        name = f"folded_{len(folds)}"
        body.add_submodule(name, both.requires_grad_(False))
        before.target = name
        node.replace_all_uses_with(before)
        body.graph.erase_node(node)
        folds.append(Fold(both, conv, norm))
    body.delete_all_unused_submodules()
    body.recompile()
    return folds


def _swap(
    body: fx.GraphModule, make: Callable[[nn.Conv2d], SwappedConv | None]
) -> list[SwappedConv]:
    """Replace each convolution by the one that `make` returns, if any, with what follows it."""
    swaps: dict[fx.Node, SwappedConv] = {}
    modules = dict(body.named_modules())
    for node in list(body.graph.nodes):
        conv = layer(node, modules)
        swap = make(conv) if isinstance(conv, nn.Conv2d) else None
        if swap is not None:
            swaps[node] = swap
            node.target = f"swap_{len(swaps)}"
            body.add_submodule(node.target, swap)
            modules[node.target] = swap
    # Where two are added up the sum is in the pass of Winograd's, which takes others along as well.
    for node in sorted(swaps, key=lambda node: not isinstance(swaps[node], WinogradConv)):
        _join(node, swaps[node], modules)
    for node, swap in swaps.items():
        user = only_user(node)
        if not isinstance(swap, WinogradConv) and user in swaps and node in user.args[1:]:
            # A shortcut: backward, the other convolution of its input then finishes the gradient.
            user.prepend(node)
    body.delete_all_unused_submodules()
    body.recompile()
    return list(swaps.values())


def _join(node: fx.Node, swap: SwappedConv, modules: Mapping[str, nn.Module]) -> None:
    """Fuse the sum and the activation that alone use its output into a convolution.

    They are computed while its output is in registers, and not in passes over memory.
    """
    joined = [node]
    total = only_user(node)
    if total is not None and total.target is operator.add and len(total.all_input_nodes) == 2:
        (residual,) = (operand for operand in total.all_input_nodes if operand is not node)
        node.args = (*node.args, residual)
        joined.append(total)
    after = only_user(joined[-1])
    if after is not None and isinstance(layer(after, modules), nn.ReLU):
        swap.relu = True
        joined.append(after)
    if len(joined) == 1:
        return
    joined[-1].replace_all_uses_with(node)
    joined[-1].append(node)  # the residual may be computed later than the convolution was
    for fused in reversed(joined[1:]):
        node.graph.erase_node(fused)
