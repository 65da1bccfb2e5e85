"""The average of the weights, which is what a run saves."""

import torch

from ..core.models.classifier import Classifier


class Average:
    """The exponential moving average of a model's weights, which is what a run saves.

    The decay is ramped up, min(decay, (1 + t) / (10 + t)), so that the first weights are soon
    forgotten. Running statistics are averaged like the weights that they belong to; counts are
    copied.
    """

    def __init__(self, model: Classifier, average: Classifier, decay: float) -> None:
        self.model = average.eval().requires_grad_(False)
        # It is what is evaluated and sampled from, and reported figures are float32's.
        self.model.autocast = None
        self.decay = decay
        ours, theirs = ((*net.parameters(), *net.buffers()) for net in (self.model, model))
        pairs = list(zip(ours, theirs, strict=True))
        self._pairs = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average toward the weights as they are after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for ours, theirs in self._counts:
            ours.copy_(theirs)
