"""Networks wired in every way that a rewritten one must bear, and how their passes are compared."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.convolutions import both
from helpers.networks import classifier
from jeatcli.core.models.classifier import Classifier, Network

HALF = torch.bfloat16


def randomise(net: nn.Module) -> None:
    """Give the weights and the normalisations values that training might, negative ones too."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
            module.weight.data[::5] = 0
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.kaiming_normal_(module.weight)


def network(arch: str, norm: str = "batch", activation: str = "relu", side: int = 13) -> Classifier:
    model = classifier(arch, norm, (3, side, side + 2), activation)
    randomise(model)
    return model.eval().requires_grad_(False)


def exact(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return both(copy.deepcopy(module).double(), x.double())


def check(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], most: float) -> None:
    """Compare outputs and gradients by the root mean square of their errors."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        error = (ours.double() - theirs).square().mean().sqrt()
        assert error <= most * theirs.square().mean().sqrt()


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 13, 15, generator=torch.Generator().manual_seed(0))


class Wired(Network):
    """A few layers in any order."""

    foldable = True

    def __init__(
        self, wire: Wire, channels: int = 16, activation: type[nn.ReLU | nn.SiLU] = nn.ReLU
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(3))
        self.down = nn.Conv2d(channels, channels, 3, 2, 1, bias=False)
        self.one = nn.Conv2d(channels, channels, 1)
        self.norm, self.other = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.plain = nn.BatchNorm2d(channels, affine=False)
        self.act, self.act_ = activation(), activation(inplace=True)
        self.leaky, self.nothing = nn.LeakyReLU(0.2), nn.Identity()
        self.gain = nn.Parameter(torch.tensor(2.0))
        for norm in (self.norm, self.other):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            norm.weight.data[:3] = 0
        for norm in (self.norm, self.other, self.plain):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
        self.wire = wire

    def features(self, x: Tensor) -> Tensor:
        return self.wire(self, x)

    def head(self, features: Tensor) -> Tensor:
        return features


Wire = Callable[[Wired, Tensor], Tensor]


def two_convolutions(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.act(net.one(h)) * net.c(h)


def convolution_and_residual(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.c(net.act(net.b(h) + h))


def convolutions_alone(net: Wired, x: Tensor) -> Tensor:
    return net.c(net.b(net.a(x)))


def residual_first(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    y = net.act(net.b(x) + h)
    return net.c(h) + y


def its_own_residual(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    twice = h + h
    return net.act(net.b(twice) + twice)


def residual_of_images(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.act(net.a(x) + x)) + x


def activation_twice(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(net.act(h)) + net.act(h) * net.c(net.act(h))


def two_normalisations_of_one(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(net.act(net.norm(h))) + net.c(net.act(net.other(h)))


def normalised_and_not(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.c(net.act(net.norm(net.b(net.act(net.other(h))) + h))) + h


def input_used_between(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    normed = net.act(net.norm(h))
    between = h * 3
    return net.b(normed) + between.sin() + h.cos() + net.c(normed)


def normalised_alone(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.norm(net.act(net.a(x))))


def pre_activation(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.norm(x))
    h = net.b(net.act(net.plain(net.a(h)))) + net.one(h)
    return net.down(net.act(net.other(h)))


def activation_of_a_sum(net: Wired, x: Tensor) -> Tensor:
    total = net.a(x) + net.b(x)
    return net.c(net.act(total)) + total.sigmoid()


def result_is_activation(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.norm(net.a(x)))


def result_is_cut_convolution(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.a(x))


def result_used_again(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    net.b(h)
    return h


def result_used_by_another(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    h.sin()
    return h


def result_is_normalised_and_used(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.norm(x))
    net.a(h)
    return h * 1


def nothing_of_a_convolution(net: Wired, x: Tensor) -> Tensor:
    return net.nothing(net.a(net.nothing(x)))


def dead_first_user(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    net.act(net.b(h))
    return net.c(h)


def first_user_without_gradient(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    normed = net.act(net.norm(x))
    return net.b(h).detach() + net.c(h) * net.c(normed).detach() + net.b(normed)


def dead_normalisation(net: Wired, x: Tensor) -> Tensor:
    h = net.a(x)
    net.act(net.norm(h))
    return net.b(net.act(net.other(h)))


def images_used_later(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.act(net.a(x))) * x.sigmoid() + x[:, :1]


def activated(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.norm(net.leaky(net.a(x))))


def strides(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.down(net.act(net.a(x))))
    return net.one(net.act(net.one(h)) + h) + net.down(x)


def smooth(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.leaky(net.norm(net.a(net.leaky(x)))))


def residual_of_one_pixel(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x) + x.mean((2, 3), keepdim=True))
    return net.act(net.one(h) + h[:, :1]) + net.gain


def residual_is_a_number(net: Wired, x: Tensor) -> Tensor:
    return net.act(net.down(net.act(net.a(x) + net.gain)) + net.gain)


def chunks(net: Wired, x: Tensor) -> Tensor:
    first, second = torch.chunk(net.act(net.a(x)), 2, 1)
    return net.b(torch.cat([second, first.sin()], 1))


def gains(net: Wired, x: Tensor) -> Tensor:
    return net.b(net.a(x) * net.gain.view(1, 1, 1)) * net.gain + net.gain.detach().exp()


def sizes(net: Wired, x: Tensor) -> Tensor:
    h = net.act(net.a(x))
    return net.b(h).reshape(h.size(0), -1) / h.shape[1]


def in_place(net: Wired, x: Tensor) -> Tensor:
    h = 2 * net.leaky(net.a(x))
    net.c(h).sin()
    h.add_(x)
    return net.b(h) * h


def activation_in_place(net: Wired, x: Tensor) -> Tensor:
    h = net.norm(net.act_(net.a(x)) + x * 2)
    net.act_(h)
    return net.b(h) + h


GRAPHS = [
    two_convolutions,
    convolution_and_residual,
    convolutions_alone,
    residual_first,
    its_own_residual,
    residual_of_images,
    activation_twice,
    two_normalisations_of_one,
    normalised_and_not,
    input_used_between,
    normalised_alone,
    pre_activation,
    activation_of_a_sum,
    result_is_activation,
    result_is_cut_convolution,
    result_used_again,
    result_used_by_another,
    result_is_normalised_and_used,
    nothing_of_a_convolution,
    dead_first_user,
    first_user_without_gradient,
    dead_normalisation,
    images_used_later,
    activated,
    strides,
    smooth,
    residual_of_one_pixel,
    residual_is_a_number,
    gains,
    sizes,
]
UNSUITED = [chunks, in_place, activation_in_place]
