"""Checkpoints as others write them, made from networks of our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jeatcli.checkpoints import checkpoint
from jeatcli.checkpoints.model import Model
from jeatcli.checkpoints.settings import Foreign
from jeatcli.core.models import build
from jeatcli.core.models.layers import Shape

DIGITS = Shape((1, 8, 8), 10)
PLAIN = Foreign("wrn-10-1", "digits", (0.0,), (1.0,))
X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def net(arch: str = "wrn-10-1", shape: Shape = DIGITS) -> nn.Module:
    """Build a network with weights of its own, of which none is without effect on the logits."""
    torch.manual_seed(5)
    found = build(arch, shape).eval()
    for key, value in found.state_dict().items():
        if "running_mean" in key:
            value.normal_(0.0, 0.1)  # positive means alone would let no ReLU pass
        elif value.ndim == 1 and "bias" not in key:
            value.uniform_(0.5, 1.5)
    return found


def weights(arch: str = "wrn-10-1", prefix: str = "") -> dict[str, Tensor]:
    """Return the state dict of such a network, a prefix before every name."""
    return {prefix + key: value for key, value in net(arch).state_dict().items()}


def written(folder: Path, content: object, name: str = "theirs.pt") -> Path:
    """Write a file as `torch.save` does."""
    torch.save(content, folder / name)
    return folder / name


def renamed(found: Mapping[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    """Return a state dict with other names, of which there must be some."""
    assert any(old in key for key in found)
    return {key.replace(old, new): value for key, value in found.items()}


def load(path: Path, foreign: Foreign = PLAIN, **settings: Any) -> Model:
    """Load such a file, as which it is described."""
    return checkpoint.load(path, device="cpu", foreign=foreign, **settings)


def is_ours(model: Model, arch: str = "wrn-10-1", x: torch.Tensor = X) -> None:
    """Check that a model has the logits of `net`."""
    torch.testing.assert_close(model.classifier(X), net(arch)(x))
