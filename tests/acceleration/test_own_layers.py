"""Networks that somebody brings, whose layers the rewriting has to leave as they are."""

from __future__ import annotations

import pytest
import torch
from helpers.convolutions import both
from torch import Tensor, nn

from jeatcli.acceleration.twins import accelerate, attach_twin
from jeatcli.acceleration.ways import KERNELS, Way
from jeatcli.core.models.classifier import Classifier, Network, frozen
from jeatcli.errors import UsageProblem


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Squared(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class Leaky(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(x)


class OwnLayers(Network):
    """A network that somebody brings, with layers in a way of their own."""

    foldable = True

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            Doubled(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Doubled(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            Doubled(16, 16, 1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            Squared(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            Leaky(),
            Squared(16),
            nn.ReLU(),
        )

    def features(self, x: Tensor) -> Tensor:
        return self.convs(x).mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        return features


class Normed(OwnLayers):
    """One whose hooks make the weights anew at each pass."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.spectral_norm
        self.convs = nn.Sequential(
            norm(nn.Conv2d(3, 16, 3, padding=1)),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            norm(nn.Conv2d(16, 16, 3, padding=1)),
            nn.ReLU(),
            norm(nn.Conv2d(16, 16, 1)),
            nn.BatchNorm2d(16),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.Conv2d(16, 16, 1),
        )
        for layer in (self.convs[2], self.convs[6]):
            layer.register_forward_hook(lambda module, given, out: 3 * out)
        self.convs[7].register_full_backward_hook(lambda module, by, given: (2 * by[0],))
        self.convs[8].forward = lambda x: x.square()


class OwnNorm(nn.Module):
    """A normalisation of their own, which torch traces through."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("var", torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.var + 0.1).rsqrt()[:, None, None]


class Sums(OwnLayers):
    """Sums of which the convolution is the smaller part, and statistics of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pooled = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.own, self.relu = OwnNorm(), nn.ReLU()
        self.last = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16, track_running_stats=False)

    def features(self, x: Tensor) -> Tensor:
        h = self.own(self.conv(x))
        h = self.relu(self.pooled(h.mean((2, 3), keepdim=True)) + h)
        h = self.pooled(h) + h.shape[2]
        return self.norm(self.last(h)).mean((2, 3))


class Views(OwnLayers):
    """ReLUs in place of what others read too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(inplace=True)
        self.drop = nn.Dropout3d()

    def features(self, x: Tensor) -> Tensor:
        h, g, k = (self.conv(x + step) for step in range(3))
        self.relu(torch.narrow(h, 1, 0, 8))
        self.relu(nn.functional.dropout(g, training=False))
        self.relu(self.drop(k))
        return (h + 2 * g + 3 * k).mean((2, 3))


@pytest.mark.parametrize("kind", [OwnLayers, Normed, Sums, Views])
@pytest.mark.parametrize("name", KERNELS)
def test_layers_with_a_way_of_their_own_stay_as_they_are(kind: type[Network], name: str) -> None:
    torch.manual_seed(0)
    model = Classifier(kind(), [0.5] * 3, [0.25] * 3).eval()
    model.load_state_dict(Classifier(kind(), [0.5] * 3, [0.25] * 3).state_dict())
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
    x = torch.rand(2, 3, 9, 9)
    for one, other in zip(both(accelerate(model, None, Way(name)), x), both(model, x), strict=True):
        torch.testing.assert_close(one, other)


class Choosy(OwnLayers):
    def features(self, x: Tensor) -> Tensor:
        return super().features(x if x.mean() > 0 else -x)


@pytest.mark.parametrize("name", KERNELS)
def test_a_twin_follows_the_statistics_of_layers_of_their_own(name: str) -> None:
    model = Classifier(Sums(), [0.5] * 3, [0.25] * 3)
    attach_twin(model, Way(name))
    x = torch.rand(2, 3, 9, 9)
    for scale in (1.0, 4.0):
        model.net.own.var.mul_(scale)
        with frozen(model) as still:
            torch.testing.assert_close(still(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_network_whose_layers_depend_on_the_image_is_refused() -> None:
    model = Classifier(Choosy(), [0.5] * 3, [0.25] * 3).eval()
    with pytest.raises(UsageProblem, match="`Choosy` is `foldable`, but which layers it runs"):
        accelerate(model)
