"""The identities of the energies, and their gradients by finite differences."""

from __future__ import annotations

import torch

from jeatcli.core import energy
from jeatcli.core.models import build
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.models.layers import Shape


def logits_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(50, 7, generator=generator, dtype=torch.float64)
    return logits, torch.randint(7, (50,), generator=generator)


def test_joint_energy_is_minus_the_logit() -> None:
    logits, y = logits_and_labels()
    assert torch.equal(
        energy.joint(logits, y), torch.stack([-z[k] for z, k in zip(logits, y, strict=True)])
    )


def test_summing_the_joint_density_over_y_gives_the_marginal() -> None:
    logits, _ = logits_and_labels()
    each = [energy.joint(logits, torch.full((50,), k)) for k in range(7)]
    summed = torch.stack(each).neg().exp().sum(0)
    torch.testing.assert_close(summed, energy.marginal(logits).neg().exp())


def test_cross_entropy_is_the_difference_of_the_energies() -> None:
    logits, y = logits_and_labels()
    gap = energy.joint(logits, y) - energy.marginal(logits)
    torch.testing.assert_close(energy.cross_entropy(logits, y), gap)
    log_p = energy.class_probabilities(logits).log()
    torch.testing.assert_close(gap, -log_p.gather(1, y[:, None]).squeeze(1))


def test_energies_shift_with_the_logits_and_the_cross_entropy_does_not() -> None:
    logits, y = logits_and_labels()
    torch.testing.assert_close(energy.joint(logits + 3, y), energy.joint(logits, y) - 3)
    torch.testing.assert_close(energy.marginal(logits + 3), energy.marginal(logits) - 3)
    torch.testing.assert_close(energy.cross_entropy(logits + 3, y), energy.cross_entropy(logits, y))


def test_gradients_in_x_match_finite_differences() -> None:
    torch.manual_seed(0)
    net = build("small", Shape((1, 8, 8), 5, "none", "silu"))
    model = Classifier(net, [0.3], [0.4]).double()
    y = torch.tensor([2])
    # The classifier answers in float32, so the network is taken without its cast.
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: energy.joint(model.net(model.normalize(x)), y).sum(), x
    )
    assert torch.autograd.gradcheck(
        lambda x: energy.marginal(model.net(model.normalize(x))).sum(), x
    )


def test_smoothed_labels_are_spread_over_all_classes() -> None:
    logits, y = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 4
    every = torch.stack([energy.cross_entropy(logits, torch.full_like(y, k)) for k in range(4)])
    expected = 0.7 * energy.cross_entropy(logits, y) + 0.3 * every.mean(0)
    torch.testing.assert_close(energy.cross_entropy(logits, y, 0.3), expected)
