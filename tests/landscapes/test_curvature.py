"""The largest eigenvalue of the Hessian of each image, against torch's of the whole matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from jeatcli.core import energy
from jeatcli.core.rng import ImageRng
from jeatcli.landscapes.curvature import top_eigenvalue


@pytest.mark.parametrize("spectrum", [(3.0, 1.0, -1.0, 0.5), (1.0, -4.0, 0.2, -0.1)])
def test_of_quadratics(spectrum: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    matrices = []
    for scale in (1.0, 2.0, 0.1):
        basis = torch.linalg.qr(torch.randn(4, 4)).Q
        matrices.append(scale * basis @ torch.diag(torch.tensor(spectrum)) @ basis.T)
    hessian = torch.stack(matrices)

    def value(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return torch.einsum("ni,nij,nj->n", flat, hessian, flat) / 2

    found = top_eigenvalue(value, torch.randn(3, 1, 2, 2), ImageRng([1, 2, 3]))
    torch.testing.assert_close(found, torch.linalg.eigvalsh(hessian)[:, -1])


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_of_eigenvalues_close_together(scale: float) -> None:
    """Where power iteration is hardly faster than the change that it stops at."""
    torch.manual_seed(0)
    spectrum = scale * torch.cat([1 + torch.arange(20) / 100, torch.rand(44)])

    def value(x: Tensor) -> Tensor:
        return (x.flatten(1).square() * spectrum).sum(1) / 2

    found = top_eigenvalue(value, torch.randn(9, 1, 8, 8), ImageRng([*range(9)]))
    torch.testing.assert_close(found, spectrum.max().expand(9), rtol=2e-3, atol=2e-3)


def test_of_a_network() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.SiLU(), nn.Linear(40, 10)).double()
    x, y = torch.rand(12, 1, 8, 8, dtype=torch.float64), torch.arange(12) % 10

    def value(images: Tensor) -> Tensor:
        return energy.joint(4 * net(images), y[: len(images)])

    found = top_eigenvalue(value, x, ImageRng([*range(12)]))
    for image, label, each in zip(x, y, found, strict=True):
        hessian = torch.autograd.functional.hessian(
            lambda one, label=label: energy.joint(4 * net(one[None]), label[None]).sum(), image
        )
        exact = torch.linalg.eigvalsh(hessian.view(64, 64))[-1]
        torch.testing.assert_close(each, exact, rtol=1e-4, atol=0)


def test_an_image_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 1, 4, 4)

    def value(images: Tensor) -> Tensor:
        return (6 * images).sin().flatten(1).sum(1) + images.flatten(1).norm(dim=1)

    together = top_eigenvalue(value, x, ImageRng([*range(6)]))
    alone = [top_eigenvalue(value, x[k : k + 1], ImageRng([k])) for k in range(6)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=0)


def test_of_what_is_linear_it_is_zero() -> None:
    x = torch.randn(2, 1, 2, 2)
    assert top_eigenvalue(lambda x: x.flatten(1).sum(1), x, ImageRng([0, 1])).eq(0).all()
    assert top_eigenvalue(lambda x: x.relu().flatten(1).sum(1), x, ImageRng([0, 1])).eq(0).all()


def test_what_is_no_number_stays_none() -> None:
    x = torch.ones(2, 1, 2, 2)
    x[1] = torch.nan
    found = top_eigenvalue(lambda x: x.square().flatten(1).sum(1).square(), x, ImageRng([0, 1]))
    assert found[0] == pytest.approx(48)
    assert found[1].isnan()
