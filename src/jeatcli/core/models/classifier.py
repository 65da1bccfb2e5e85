"""The wrapper of every network: pixel range, precision, and its mode in inner loops."""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """The base of all architectures.

    Attributes:
        foldable: Whether the modules run in the same order for every image, so that attacks and
            chains may use a copy with the batch normalisations folded.
        joinable: Whether that holds in train mode as well, where nothing is drawn or kept but by
            its layers, so that these may learn as one where they can. A class says it of itself
            alone: one made of it may do more.
        mixed_precision: Whether it may run under autocast.
        memory_format: Of the images that it takes: the fastest one.
    """

    foldable: ClassVar[bool] = False
    joinable: ClassVar[bool] = False
    mixed_precision: bool = True
    memory_format: torch.memory_format = torch.channels_last

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Return the penultimate features, (n, d)."""

    @abstractmethod
    def head(self, features: Tensor) -> Tensor:
        """Return the logits, (n, K), of penultimate features."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def penultimate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the penultimate features, (n, d), and the logits, (n, K)."""
        features = self.features(x)
        return features, self.head(features)


class Normalize(nn.Module):
    """Shift and scale each channel by its mean and standard deviation, pixels in [0, 1]."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class PixelConv(nn.Conv2d):
    """The convolution on the pixels, in float32 whatever the precision of the rest.

    bfloat16 has 8 bits: its steps at a normalised pixel are up to 1/255, as large as a small
    perturbation.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


class Classifier(nn.Module):
    """A network behind the normalisation by `mean` and `std`, a number each for a channel.

    Images (n, C, H, W) in [0, 1] go in, float32 logits (n, K) come out.
    The head is computed in float32 whatever the precision of the network, as are energies, losses
    and reported numbers: differences of logits are smaller than bfloat16's steps.
    """

    def __init__(self, net: Network, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.net = net
        self.autocast: torch.dtype | None = None
        # Returns a faster classifier of the same weights; set by the training's setup, as is
        # what computes the network's features faster in train mode.
        self.twin: Callable[[Classifier], Classifier] | None = None
        self.learner: Callable[[Tensor], Tensor] | None = None

    def compile(self, *args: object, **kwargs: object) -> None:
        """Let torch compile the forward pass (`torch.nn.Module.compile`)."""
        quieten()
        super().compile(*args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return self.net.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Return the float32 penultimate features, (n, d), of images (n, C, H, W) in [0, 1]."""
        dtype = self.autocast or torch.bfloat16
        enabled = self.autocast is not None and getattr(self.net, "mixed_precision", True)
        # The cache ends with the outermost autocast: in one of a caller's it would keep the weights
        # of the first step for all others.
        learner = self.learner if self.training else None
        features = learner or self.net.features
        with torch.autocast(x.device.type, dtype, enabled=enabled, cache_enabled=False):
            return features(self._normalized(x)).float()

    def penultimate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and logits that score images, in float32."""
        return self.net.penultimate(self._normalized(x))

    def _normalized(self, x: Tensor) -> Tensor:
        moved: Tensor = self.normalize(x)
        # The twin of an attack may be any module.
        form = getattr(self.net, "memory_format", torch.channels_last)
        return moved.contiguous(memory_format=form)


def quieten() -> None:
    """Silence torch's compiler about intended settings.

    Without CUDA it warns that there is none; with it, that float32 is not rounded to TF32's ten
    bits.
    """
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


@contextmanager
def frozen(model: Classifier, train: bool = False) -> Iterator[Classifier]:
    """Freeze the weights for an attack or a chain, then restore the model.

    Gradients then reach the input alone, which halves the cost of a step. The model is in eval
    mode (as in TRADES and JEM), or with `train` in train mode (as in Rice et al. 2020).

    Yields:
        The model; in eval mode its faster twin, if it has one.
    """
    needed = [weight for weight in model.parameters() if weight.requires_grad]
    with evaluating(model, train):
        for weight in needed:
            weight.requires_grad_(False)
        try:
            yield model if train or model.twin is None else model.twin(model)
        finally:
            for weight in needed:
                weight.requires_grad_(True)


@contextmanager
def evaluating(model: nn.Module, train: bool = False) -> Iterator[None]:
    """Put a model into eval mode, or train mode if `train`, then restore the modes that it had.

    Gradients of the weights are as they were: what is computed meanwhile can be learnt from, with
    batch statistics fixed.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train(train)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
