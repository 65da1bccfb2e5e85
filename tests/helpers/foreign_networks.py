"""Networks that are none of ours, in the layouts of public code: `foreign_networks.py:NAME`.

`NETWORKS` maps each name to what makes it and to the image that it takes. Some are written here;
the rest are those of torchvision and timm that public code copies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)


def mnist_sequential() -> nn.Module:
    """Build the network of fast_adversarial for MNIST."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(32 * 7 * 7, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


class SmallCNN(nn.Module):
    """The network of TRADES for MNIST, whose layers have names."""

    def __init__(self) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inside = 1
        for k, outside in enumerate((32, 32, 64, 64), 1):
            layers[f"conv{k}"] = nn.Conv2d(inside, outside, 3)
            layers[f"relu{k}"] = nn.ReLU()
            if k % 2 == 0:
                layers[f"maxpool{k // 2}"] = nn.MaxPool2d(2)
            inside = outside
        self.feature_extractor = nn.Sequential(layers)
        self.classifier = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(64 * 4 * 4, 200),
                relu1=nn.ReLU(),
                drop=nn.Dropout(0.5),
                fc2=nn.Linear(200, 200),
                relu2=nn.ReLU(),
                fc3=nn.Linear(200, 10),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.feature_extractor(x).view(-1, 64 * 4 * 4))


class LeNet(nn.Module):
    """Two convolutions and linear layers, with pooling by functions."""

    def __init__(self, channels: int, widths: tuple[int, int], size: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], size, padding=size // 2)
        self.conv2 = nn.Conv2d(widths[0], widths[1], size, padding=size // 2)
        side = (28 if channels == 1 else 32) // 4
        self.fc1 = nn.Linear(widths[1] * side * side, hidden)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.view(x.size(0), -1))))


class Stem(nn.Module):
    """Residual branches and shortcuts as sequences (weiaicunzai): `residual_function.0`."""

    def __init__(self, width: int = 16, pre: bool = False) -> None:
        super().__init__()
        self.first = "pre" if pre else "conv1"
        self.add_module(
            self.first,
            nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1, bias=pre), nn.BatchNorm2d(width), nn.ReLU(True)
            ),
        )
        self.conv2_x = Unit(width, width, 1)
        self.conv3_x = Unit(width, 2 * width, 2)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3_x(self.conv2_x(self.get_submodule(self.first)(x)))
        return self.fc(x.mean((2, 3)))


class Unit(nn.Module):
    """A block of `Stem`."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.residual_function = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual_function(x) + self.shortcut(x), inplace=True)


class Wide(nn.Module):
    """A small wide network; its layers and its end are chosen by arguments."""

    def __init__(
        self,
        act: Callable[..., nn.Module] = nn.ReLU,
        end: str = "fc",
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = norm(16)
        self.conv2 = nn.Conv2d(16, 32, 3, 2, 1, bias=False)
        self.bn2 = norm(32)
        self.act = act(inplace=True) if act is nn.ReLU else act()
        self.end = end
        self.fc = nn.Linear(32, 10, bias=end != "cosine")
        if end == "weight norm":
            self.fc = nn.utils.parametrizations.weight_norm(self.fc)
        if end == "temperature":
            self.temperature = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        if self.end == "standardised":
            x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x))).mean((2, 3))
        if self.end == "cosine":
            return 10 * F.linear(F.normalize(x), F.normalize(self.fc.weight))
        logits: Tensor = self.fc(x)
        return logits / self.temperature if self.end == "temperature" else logits


class Slope(nn.Module):
    """An activation with a weight, shared by all layers (Dai et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.3))
        self.alpha = nn.Parameter(torch.tensor(0.2))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) * (1 + 1e-4 - self.alpha) / (1 + torch.exp(-self.beta * x))


class Normalised(nn.Module):
    """A network behind a normalisation with its numbers inside, under the given names."""

    def __init__(self, names: tuple[str, str], inner: Callable[[], nn.Module] = Wide) -> None:
        super().__init__()
        self.names = names
        self.register_buffer(names[0], torch.tensor([0.49, 0.48, 0.45]).view(1, 3, 1, 1))
        self.register_buffer(names[1], torch.tensor([0.25, 0.24, 0.26]).view(1, 3, 1, 1))
        self.model = inner()

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (getattr(self, name) for name in self.names)
        return self.model((x - mean) / std)


class Energy(nn.Module):
    """As JEM's: the module gives an energy, its method `classify` the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.f = Wide(partial(nn.LeakyReLU, 0.2))
        self.f.fc = nn.Identity()
        self.energy_output = nn.Linear(32, 1)
        self.class_output = nn.Linear(32, 10)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits = self.classify(x)
        return logits.logsumexp(1) if y is None else logits.gather(1, y[:, None])

    def classify(self, x: Tensor) -> Tensor:
        return self.class_output(self.f(x)).squeeze()


class RepBranches(nn.Module):
    """Parallel branches, as RepVGG trains them."""

    def __init__(self) -> None:
        super().__init__()
        self.rbr_dense = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(3, 16, 3, 2, 1, bias=False), bn=nn.BatchNorm2d(16))
        )
        self.rbr_1x1 = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(3, 16, 1, 2, bias=False), bn=nn.BatchNorm2d(16))
        )
        self.linear = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.rbr_dense(x) + self.rbr_1x1(x)).mean((2, 3)))


class Vgg(nn.Module):
    """Convolutions in a sequence, and linear layers behind them."""

    def __init__(self, norm: bool = True, hidden: int = 0, head: str = "classifier") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for outside in (16, 32, 32, 64):
            layers += [nn.Conv2d(inside, outside, 3, padding=1)]
            layers += [nn.BatchNorm2d(outside)] * norm + [nn.ReLU(True), nn.MaxPool2d(2)]
            inside = outside
        self.features = nn.Sequential(*layers)
        behind = [nn.Linear(256, hidden), nn.ReLU(True), nn.Dropout()] if hidden else []
        last = nn.Linear(hidden or 256, 10)
        self.head = head
        self.add_module(head, nn.Sequential(*behind, last) if hidden else last)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(self.head)(self.features(x).flatten(1))


def _torchvision(name: str, change: str = "", **options: Any) -> nn.Module:
    from torchvision import models

    net = models.get_model(name, num_classes=10, **options)
    if change:
        net.conv1 = nn.Conv2d(3, net.bn1.num_features, 3, 1, 1, bias=False)
    if change == "no pool":
        net.maxpool = nn.Identity()
    return net


def of_timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=10, **options)


def _bottleneck_resnet(**options: Any) -> nn.Module:
    from torchvision.models.resnet import Bottleneck, ResNet

    net = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, **options)
    net.conv1 = nn.Conv2d(3, 64, 1, bias=False)
    return net


Made = tuple[Callable[[], nn.Module], tuple[int, int, int]]
NETWORKS: dict[str, Made] = {
    "fast_adversarial_mnist": (mnist_sequential, MNIST),
    "trades_small_cnn": (SmallCNN, MNIST),
    "advertorch_lenet5": (partial(LeNet, 1, (32, 64), 3, 200), MNIST),
    "kuangliu_lenet": (partial(LeNet, 3, (6, 16), 5, 120), CIFAR),
    "kuangliu_vgg": (Vgg, CIFAR),
    "kuangliu_mobilenetv2": (partial(_torchvision, "mobilenet_v2"), CIFAR),
    "kuangliu_densenet121": (partial(_torchvision, "densenet121"), CIFAR),
    "kuangliu_resnext29": (partial(_bottleneck_resnet, groups=4, width_per_group=16), CIFAR),
    "kuangliu_regnetx": (partial(_torchvision, "regnet_x_400mf"), CIFAR),
    "kuangliu_senet18": (partial(of_timm, "seresnet18"), CIFAR),
    "kuangliu_simpledla": (partial(of_timm, "dla46_c"), CIFAR),
    "weiai_resnet18": (Stem, CIFAR),
    "weiai_preactresnet18": (partial(Stem, pre=True), CIFAR),
    "weiai_wideresnet": (partial(Stem, width=32, pre=True), CIFAR),
    "weiai_vgg16_bn": (partial(Vgg, hidden=64), CIFAR),
    "huyvnphan_vgg11_bn": (partial(Vgg, hidden=128), CIFAR),
    "huyvnphan_mobilenet_v2": (partial(_torchvision, "mobilenet_v3_small"), CIFAR),
    "huyvnphan_densenet121": (partial(_torchvision, "densenet121", memory_efficient=False), CIFAR),
    "chenyaofo_vgg16_bn": (partial(Vgg, norm=False, head="linear"), CIFAR),
    "chenyaofo_repvgg_a0": (RepBranches, CIFAR),
    "chenyaofo_shufflenet": (partial(_torchvision, "shufflenet_v2_x0_5"), CIFAR),
    "torchvision_resnet18_stem0": (partial(_torchvision, "resnet18"), CIFAR),
    "timm_resnet18_224stem": (partial(of_timm, "resnet18"), CIFAR),
    "rb_pang2020": (partial(Wide, end="cosine"), CIFAR),
    "rb_chen2020": (partial(_bottleneck_resnet, width_per_group=32), CIFAR),
    "rb_huang2021": (partial(Wide, nn.SiLU, norm=partial(nn.GroupNorm, 4)), CIFAR),
    "rb_dai2021": (partial(Wide, Slope), CIFAR),
    "rb_diffenderfer_lrr": (
        partial(_torchvision, "resnet18", "no pool", width_per_group=64),
        CIFAR,
    ),
    "rb_diffenderfer_binary": (partial(Stem, width=48, pre=True), CIFAR),
    "rb_xcit": (partial(of_timm, "xcit_nano_12_p16_224", img_size=32, patch_size=16), CIFAR),
    "rb_ding2020": (partial(Wide, end="standardised"), CIFAR),
    "jem_energy": (Energy, CIFAR),
    "normalised_mu_sigma": (partial(Normalised, ("mu", "sigma")), CIFAR),
    "normalised_mean_std": (partial(Normalised, ("mean", "std")), CIFAR),
    "normalised_means_sds": (partial(Normalised, ("means", "sds")), CIFAR),
    "weight_norm": (partial(Wide, end="weight norm"), CIFAR),
    "temperature": (partial(Wide, end="temperature"), CIFAR),
    "timm_vit": (
        partial(of_timm, "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2),
        CIFAR,
    ),
    "timm_convnext": (partial(of_timm, "convnext_atto"), CIFAR),
}


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """Let `foreign_networks.py:NAME` name each of them."""
    if name in NETWORKS:
        return NETWORKS[name][0]
    raise AttributeError(name)
