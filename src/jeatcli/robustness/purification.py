"""Purification: Langevin steps on E(x) before classifying, and the gradients to attack it by.

The refinement of JEM (Grathwohl et al. 2020) and the defences of its kind. Gradients through the
whole chain are exact: of the chain every sqrt(K)-th image is kept, and the others are computed
again on the way back, so that memory hardly grows with the number of steps K.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.model import Model
from ..core import energy
from ..core.models.classifier import Classifier, Network
from ..core.rng import ImageRng, mix
from ..core.sgld import Chain, trained_chain

# The noise of the verdict is not that on which the gradients were taken.
_OF_VERDICT, _OF_GRADIENT = 1, 2


def defended(
    model: Model, steps: int, gradient: str, draws: int, seed: int
) -> tuple[Classifier, Classifier]:
    """Return the defended classifier, and what an attack sees in its place.

    The chain is that of the model's training, else JEM's. The gradient, averaged over `draws`
    chains, is `exact`, `straight-through` (the chain's is the identity; Athalye et al. 2018) or
    `none` (the attack knows nothing of the chain).
    """
    chain = trained_chain(model.meta.options, steps)
    victim = Purification(model.classifier, chain, mix(seed, _OF_VERDICT))
    if gradient == "none":
        return bare(victim), model.classifier
    own, exact = mix(seed, _OF_GRADIENT), gradient == "exact"
    return bare(victim), bare(Purification(model.classifier, chain, own, draws, exact))


def bare(net: Network) -> Classifier:
    """Return a classifier of pixels as they are, in eval mode."""
    return Classifier(net, (0.0,), (1.0,)).eval()


class Randomised(Network, ABC):
    """A randomised classifier; its logits are the log of the mean probabilities of some draws.

    The randomness depends on the seed and on the image's pixels: so it is as good as fresh at every
    step of an attack, and the same in any batch and after a resume.
    """

    mixed_precision = False

    def __init__(self, classifier: Classifier, seed: int, draws: int) -> None:
        super().__init__()
        self.classifier, self.seed, self.draws = classifier, seed, draws

    @abstractmethod
    def drawn(self, x: Tensor, seeds: list[int]) -> Tensor:
        """Return the logits of one draw, with a seed for each image."""

    def features(self, x: Tensor) -> Tensor:
        names = content(x)
        draws = ([mix(self.seed, draw, name) for name in names] for draw in range(self.draws))
        logits = [self.drawn(x, seeds) for seeds in draws]
        if self.draws == 1:
            return logits[0]
        return torch.stack(logits).log_softmax(2).logsumexp(0) - math.log(self.draws)

    def head(self, features: Tensor) -> Tensor:
        return features


class Purification(Randomised):
    """A classifier, in eval mode, behind a chain on its marginal energy.

    If `exact`, the gradient goes through the chain, else it takes the chain for the identity.
    """

    def __init__(
        self, classifier: Classifier, chain: Chain, seed: int, draws: int = 1, exact: bool = True
    ) -> None:
        super().__init__(classifier, seed, draws)
        self.chain, self.exact = chain, exact

    def drawn(self, x: Tensor, seeds: list[int]) -> Tensor:
        walk = Walk(self.classifier, self.chain, seeds)
        end = Through.apply(x, walk) if self.exact else x + (walk.run(x) - x).detach()
        logits: Tensor = self.classifier(end)
        return logits


@dataclass(frozen=True)
class Walk:
    """One chain of each image."""

    classifier: Classifier
    chain: Chain
    seeds: list[int]

    def run(self, x: Tensor, keep: Callable[[int, Tensor], None] | None = None) -> Tensor:
        """Return where the chains end, detached; `keep` sees each image before its step."""
        x = x.detach()
        for k in range(self.chain.steps):
            if keep:
                keep(k, x)
            x = self.step(x, k)
        return x

    def step(self, x: Tensor, k: int) -> Tensor:
        """Return the image after step k, detached."""
        with torch.enable_grad():
            return self._moved(x.detach().requires_grad_(True), k, graph=False).detach()

    def pulled_back(self, x: Tensor, k: int, slope: Tensor) -> Tensor:
        """Return the gradient before step k from that after it."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (before,) = torch.autograd.grad(self._moved(x, k, graph=True), x, slope)
        return before

    def _moved(self, x: Tensor, k: int, graph: bool) -> Tensor:
        chain = self.chain
        values = energy.marginal(self.classifier(x))
        (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=graph)
        if chain.clip:
            gradient = gradient.clamp(-chain.clip, chain.clip)
        moved = x - chain.step_size * gradient
        if chain.noise:
            noise = ImageRng([mix(seed, k) for seed in self.seeds]).normal(x)
            moved = moved + chain.noise * noise
        return moved.clamp(0, 1)


class Through(torch.autograd.Function):
    """A chain with its exact gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, walk: Walk) -> Tensor:  # noqa: ANN401  torch's own
        ctx.walk, ctx.stride = walk, math.isqrt(max(walk.chain.steps - 1, 0)) + 1
        ctx.kept = []
        return walk.run(x, lambda k, x: ctx.kept.append(x) if k % ctx.stride == 0 else None)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        walk, (slope,) = ctx.walk, slopes
        for first, x in reversed([(i * ctx.stride, x) for i, x in enumerate(ctx.kept)]):
            part = [x]
            for k in range(first, min(first + ctx.stride, walk.chain.steps) - 1):
                part.append(walk.step(part[-1], k))
            for k in reversed(range(len(part))):
                slope = walk.pulled_back(part.pop(), first + k, slope)
        return slope, None


def content(x: Tensor) -> list[int]:
    """Return a number of each image's pixels, the same in any batch, on any device."""
    # Whole numbers: a sum of floats depends on how threads share it. Adding 0 makes -0 a 0.
    bits = (x.detach().cpu().flatten(1).float() + 0.0).view(torch.int32).long()
    numbers: list[int] = (bits @ torch.arange(1, bits.shape[1] + 1)).tolist()
    return numbers
