"""Any module that maps normalised images to logits, in place of a network of ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .classifier import Network, PixelConv


class Wrapped(Network):
    """A module of unknown content; its logits stand for the features, too.

    A module with a method `classify`, as JEM's code has it, is called by that, unless `classifies`
    is set to False; a layer of that name is no such method.

    Args:
        module: Maps normalised images (n, C, H, W) to logits (n, K).
        mixed: Whether it may run under autocast and take channels last, which unknown code may not
            tolerate: it calls `view`.
        about: What tells its function apart from that of other code with the same weights.

    Attributes:
        classifies: Whether `classify` gives the logits, not the module itself.
        layer: The name of the linear layer that gives the logits, or None; `probe` finds it.
    """

    def __init__(self, module: nn.Module, mixed: bool = False, about: str = "") -> None:
        super().__init__()
        self.module = module
        self.mixed_precision = mixed
        self.about = about
        self.classifies = has_classify(module)
        self.layer: str | None = None
        if mixed:
            _keep_pixels(module)
        else:
            self.memory_format = torch.contiguous_format

    def features(self, x: Tensor) -> Tensor:
        return self.call(x)

    def head(self, features: Tensor) -> Tensor:
        return features

    def call(self, x: Tensor) -> Tensor:
        """Return what the module returns; JEM's `squeeze` loses the batch of one image."""
        called: Callable[[Tensor], Tensor] = self.module
        if self.classifies:
            called = getattr(self.module, "classify", called)
        logits = called(x)
        lost = len(x) == 1 and isinstance(logits, Tensor) and logits.ndim == 1
        return logits[None] if lost else logits

    @torch.no_grad()
    def constant(self, x: Tensor) -> Tensor | None:
        """Return the logits of normalised images, None if they are others each time."""
        logits = self.call(x.clone())
        return logits if torch.equal(logits, self.call(x.clone())) else None

    def penultimate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.layer is None:
            return super().penultimate(x)
        taken: list[Tensor] = []
        layer = self.module.get_submodule(self.layer)
        hook = layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            logits = self.call(x)
        finally:
            hook.remove()
        return taken[-1], logits

    @torch.no_grad()
    def probe(self, x: Tensor) -> Tensor:
        """Return the logits of normalised images, and find the linear layer that gives them."""
        ends: dict[str, tuple[tuple[Tensor, ...], Tensor]] = {}
        hooks = [
            layer.register_forward_hook(
                # Without inputs if it is called by the names of its arguments.
                lambda _, inputs, output, name=name: ends.update({name: (inputs, output)})
            )
            for name, layer in self.module.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        try:
            logits = self.call(x)
        finally:
            for hook in hooks:
                hook.remove()
        for name, (inputs, output) in ends.items():
            # The same numbers in another tensor, if the code reshapes them.
            if inputs and inputs[0].ndim == 2 and getattr(logits, "dtype", None) == output.dtype:
                self.layer = name if torch.equal(output, logits) else self.layer
        return logits


def noise(count: int, shape: Sequence[int]) -> Tensor:
    """Return normalised images of noise (n, C, H, W), the same each time, to try a module on."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def has_classify(module: nn.Module) -> bool:
    """Tell whether a module, or what a wrapper of torch's has inside, has a method `classify`."""
    found = getattr(module, "classify", None)
    return inspect.ismethod(found) or isinstance(found, torch.ScriptMethod)


class Program(nn.Module):
    """What `torch.export` made of a network in evaluation mode; perhaps not for a single image."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        for module in self.modules():
            module.training = False

    def forward(self, x: Tensor) -> Tensor:
        # `torch.export` takes a batch of one for another case than those of two and more.
        logits: Tensor = self.graph(x.repeat_interleave(2, 0) if len(x) == 1 else x)
        return logits[: len(x)] if isinstance(logits, Tensor) else logits  # which is refused

    def train(self, mode: bool = True) -> Program:
        """Stay in evaluation mode."""
        return self


def _keep_pixels(module: nn.Module) -> None:
    """Let the first convolution, which sees the pixels, compute in float32 under autocast."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d:
            layer.__class__ = PixelConv
            return
