"""Public networks, written as functions of their weights: what their classes compute, by name.

Each takes `Weights`, which makes a weight when it is first asked for, so that a call with new
ones leaves a state dict of the published names and shapes behind, and its logits beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Network = Callable[["Weights", Tensor], Tensor]


class Weights(dict[str, Tensor]):
    """A state dict that grows by what a network asks of it."""

    def make(self, name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        if name not in self:
            self[name] = torch.empty(shape).uniform_(low, high)
        return self[name]

    def conv(
        self, name: str, x: Tensor, out: int, size: int, stride: int = 1, **more: bool
    ) -> Tensor:
        """Convolve with zeros at the borders, `same=True` as TensorFlow does with stride 2."""
        scale = (3 / (x.shape[1] * size * size)) ** 0.5
        weight = self.make(f"{name}.weight", out, x.shape[1], size, size, low=-scale, high=scale)
        bias = self.make(f"{name}.bias", out) if more.get("bias") else None
        if more.get("same") and stride == 2 and size == 3:
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride)
        return F.conv2d(x, weight, bias, stride, size // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = self.make(f"{name}.weight", channels, low=0.5, high=1.5)
        bias = self.make(f"{name}.bias", channels, low=-0.3, high=0.3)
        mean = self.make(f"{name}.running_mean", channels, low=-0.3, high=0.3)
        var = self.make(f"{name}.running_var", channels, low=0.5, high=1.5)
        self.setdefault(f"{name}.num_batches_tracked", torch.tensor(9))
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, name: str, x: Tensor, out: int) -> Tensor:
        scale = (3 / x.shape[1]) ** 0.5
        weight = self.make(f"{name}.weight", out, x.shape[1], low=-scale, high=scale)
        return F.linear(x, weight, self.make(f"{name}.bias", out))


def mean_over_places(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def preact_resnet(
    w: Weights, x: Tensor, shortcut_of_activated: bool, last_norm: bool, classes: int = 10
) -> Tensor:
    """Compute PreActResNet-18 of pytorch-cifar's kind, in its four combinations."""
    x = w.conv("conv1", x, 64, 3)
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.relu(w.norm(f"{name}.bn1", x))
            side = x
            if stride == 2:
                side = w.conv(
                    f"{name}.shortcut.0", out if shortcut_of_activated else x, width, 1, 2
                )
            out = w.conv(f"{name}.conv1", out, width, 3, stride)
            x = w.conv(f"{name}.conv2", F.relu(w.norm(f"{name}.bn2", out)), width, 3) + side
    if last_norm:
        x = F.relu(w.norm("bn", x))
    return w.linear("linear", mean_over_places(x), classes)


def resnet(
    w: Weights,
    x: Tensor,
    counts: tuple[int, ...] = (2, 2, 2, 2),
    bottleneck: bool = False,
    pool: bool = False,
    names: tuple[str, str] = ("shortcut", "linear"),
    widths: tuple[int, ...] = (64, 128, 256, 512),
    padded: bool = False,
) -> Tensor:
    """Compute a ResNet with a 3x3 stem, and projections or padded shortcuts."""
    side_name, head = names
    x = F.relu(w.norm("bn1", w.conv("conv1", x, widths[0], 3)))
    x = F.max_pool2d(x, 3, 2, 1) if pool else x
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True), 1):
        for block in range(count):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            outputs = 4 * width if bottleneck else width
            side = x
            if padded and stride == 2:
                side = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width // 4, width // 4))
            elif stride == 2 or x.shape[1] != outputs:
                side = w.conv(f"{name}.{side_name}.0", x, outputs, 1, stride)
                side = w.norm(f"{name}.{side_name}.1", side)
            if bottleneck:
                out = F.relu(w.norm(f"{name}.bn1", w.conv(f"{name}.conv1", x, width, 1)))
                out = F.relu(w.norm(f"{name}.bn2", w.conv(f"{name}.conv2", out, width, 3, stride)))
                out = w.norm(f"{name}.bn3", w.conv(f"{name}.conv3", out, outputs, 1))
            else:
                out = F.relu(w.norm(f"{name}.bn1", w.conv(f"{name}.conv1", x, width, 3, stride)))
                out = w.norm(f"{name}.bn2", w.conv(f"{name}.conv2", out, width, 3))
            x = F.relu(out + side)
    return w.linear(head, mean_over_places(x), 10)


def wide_resnet(w: Weights, x: Tensor, depth: int, width: int) -> Tensor:
    """Compute the wide network of TRADES and RobustBench."""
    x = w.conv("conv1", x, 16, 3)
    for stage in (1, 2, 3):
        outputs = 16 * 2 ** (stage - 1) * width
        for block in range((depth - 4) // 6):
            name, stride = f"block{stage}.layer.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.relu(w.norm(f"{name}.bn1", x))
            side = x
            if x.shape[1] != outputs:
                side = w.conv(f"{name}.convShortcut", out, outputs, 1, stride)
            out = F.relu(w.norm(f"{name}.bn2", w.conv(f"{name}.conv1", out, outputs, 3, stride)))
            x = w.conv(f"{name}.conv2", out, outputs, 3) + side
    return w.linear("fc", mean_over_places(F.relu(w.norm("bn1", x))), 10)


def standardised_wide_resnet(w: Weights, x: Tensor, depth: int, width: int) -> Tensor:
    """Compute the wide network of Ding et al. (2020)."""
    mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
    return wide_resnet(w, (x - mean) / std.clamp_min(x[0].numel() ** -0.5), depth, width)


def deepmind_wide_resnet(
    w: Weights, x: Tensor, depth: int, width: int, act: Callable[[Tensor], Tensor] = F.relu
) -> Tensor:
    """Compute DMWideResNet: the second half of a SAME padding where it halves the size."""
    x = w.conv("init_conv", x, 16, 3)
    for stage in range(3):
        outputs = 16 * 2**stage * width
        for block in range((depth - 4) // 6):
            name, stride = f"layer.{stage}.block.{block}", 2 if stage and block == 0 else 1
            out = act(w.norm(f"{name}.batchnorm_0", x))
            if x.shape[1] != outputs:
                x = w.conv(f"{name}.shortcut", out, outputs, 1, stride)
            out = w.conv(f"{name}.conv_0", out, outputs, 3, stride, same=True)
            x = x + w.conv(f"{name}.conv_1", act(w.norm(f"{name}.batchnorm_1", out)), outputs, 3)
    return w.linear("logits", mean_over_places(act(w.norm("batchnorm", x))), 10)


def deepmind_preact_resnet(
    w: Weights, x: Tensor, act: Callable[[Tensor], Tensor] = F.relu
) -> Tensor:
    """Compute DMPreActResNet-18, whose projections are 3x3 and take the input as it is."""
    x = w.conv("conv_2d", x, 64, 3)
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            name, stride = f"layer_{stage}.{block}", 2 if stage and block == 0 else 1
            side = w.conv(f"{name}.shortcut", x, width, 3, 2, same=True) if stride == 2 else x
            out = act(w.norm(f"{name}.batchnorm_0", x))
            out = act(
                w.norm(
                    f"{name}.batchnorm_1",
                    w.conv(f"{name}.conv_2d_1", out, width, 3, stride, same=True),
                )
            )
            x = w.conv(f"{name}.conv_2d_2", out, width, 3) + side
    return w.linear("logits", mean_over_places(act(w.norm("batchnorm", x))), 10)


def jem(w: Weights, x: Tensor, depth: int, width: int, norm: bool) -> Tensor:
    """Compute JEM's classifier: its heads of the energy have weights that are not used here."""

    def normed(name: str, x: Tensor) -> Tensor:
        return F.leaky_relu(w.norm(name, x) if norm else x, 0.2)

    x = w.conv("f.conv1", x, 16, 3, bias=True)
    for stage in (1, 2, 3):
        outputs = 16 * 2 ** (stage - 1) * width
        for block in range((depth - 4) // 6):
            name, stride = f"f.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = w.conv(f"{name}.conv1", normed(f"{name}.bn1", x), outputs, 3, bias=True)
            out = w.conv(f"{name}.conv2", normed(f"{name}.bn2", out), outputs, 3, stride, bias=True)
            if x.shape[1] != outputs:
                x = w.conv(f"{name}.shortcut.0", x, outputs, 1, stride, bias=True)
            x = out + x
    features = mean_over_places(normed("f.bn1", x))
    w.linear("f.linear", features, 10)
    w.linear("energy_output", features, 1)
    return w.linear("class_output", features, 10)


# What `--arch` stands for, as the public classes compute it; wide networks by narrow ones.
PUBLIC: dict[str, tuple[str, Network]] = {
    "pytorch-cifar PreActResNet18": (
        "resnet-18-kuangliu",
        partial(preact_resnet, shortcut_of_activated=True, last_norm=False),
    ),
    "Rice2020Overfitting, CIFAR-10 l2 and CIFAR-100": (
        "resnet-18",
        partial(preact_resnet, shortcut_of_activated=True, last_norm=True),
    ),
    "fast_adversarial PreActResNet18": (
        "resnet-18-raw",
        partial(preact_resnet, shortcut_of_activated=False, last_norm=True),
    ),
    "Wong2020Fast, Andriushchenko2020Understanding": (
        "resnet-18-wong",
        partial(preact_resnet, shortcut_of_activated=False, last_norm=False),
    ),
    "pytorch-cifar ResNet18, Addepalli2021Towards_RN18": ("resnet-18-v1", resnet),
    "pytorch-cifar ResNet34": ("resnet-34-v1", partial(resnet, counts=(3, 4, 6, 3))),
    "Engstrom2019Robustness, Augustin2020Adversarial": (
        "resnet-50-v1",
        partial(resnet, counts=(3, 4, 6, 3), bottleneck=True),
    ),
    "PyTorch_CIFAR10 resnet18": (
        "resnet-18-v1-pool",
        partial(resnet, pool=True, names=("downsample", "fc")),
    ),
    "PyTorch_CIFAR10 resnet50": (
        "resnet-50-v1-pool",
        partial(
            resnet, counts=(3, 4, 6, 3), bottleneck=True, pool=True, names=("downsample", "fc")
        ),
    ),
    "pytorch-cifar-models resnet20": (
        "cifar-resnet-b-20",
        partial(resnet, counts=(3, 3, 3), names=("downsample", "fc"), widths=(16, 32, 64)),
    ),
    "Idelbayev's ResNet-20": (
        "cifar-resnet-20",
        partial(resnet, counts=(3, 3, 3), widths=(16, 32, 64), padded=True),
    ),
    "Carmon2019Unlabeled, Hendrycks2019Using": (
        "wrn-28-2",
        partial(wide_resnet, depth=28, width=2),
    ),
    "Zhang2019Theoretically, Rice2020Overfitting": (
        "wrn-34-1",
        partial(wide_resnet, depth=34, width=1),
    ),
    "Ding2020MMA": ("mma-wrn-10-2", partial(standardised_wide_resnet, depth=10, width=2)),
    "Gowal2020Uncovering": ("dm-wrn-28-2", partial(deepmind_wide_resnet, depth=28, width=2)),
    "Rade2021Helper": ("dm-resnet-18", deepmind_preact_resnet),
    "JEM": ("jem-wrn-10-2 none", partial(jem, depth=10, width=2, norm=False)),
    "JEM++": ("jem-wrn-10-2", partial(jem, depth=10, width=2, norm=True)),
}
