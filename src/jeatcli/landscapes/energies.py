"""The energy of single images, as numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model
from ..checkpoints.settings import Foreign
from ..core import energy as energies
from ..data.facts import TENSORS
from ..data.images import Images, batches
from ..data.tensors import Own, Pixels, own_images, own_pixels
from ..errors import UsageProblem
from ..runtime.progress import SILENT
from ..runtime.usual_state import in_usual_state


@in_usual_state
def energy(
    run: str | Path | Model | None,
    images: Own,
    labels: Pixels | Sequence[int] | None = None,
    *,
    marginal: bool = False,
    batch_size: int | None = None,
    device: str | torch.device = "auto",
    foreign: Foreign | None = None,
) -> Tensor:
    """Return the energy of images, (n,): E(x,y) where there are labels, else E(x).

    E(x,y) = -f(x)[y] and E(x) = -logsumexp f(x), of the logits f(x) in float32.

    Args:
        run: A run's name, path or loaded model; None is the latest finished run.
        images: (n, C, H, W) in [0, 1] or uint8, or a DataLoader of them and their labels.
        labels: Indices of the classes (n,), unless a DataLoader has them.
        marginal: Whether to return E(x) even where there are labels.
        batch_size: Images at once; by default as many as suit the device.
        device: Where a model that is not loaded yet computes.
        foreign: Describes the model, if `jeat train` did not write it.

    Raises:
        JeatError: If the run is at fault.
        UsageProblem: If the images do not fit it.

    Examples:
        >>> import torch
        >>> from jeatcli import energy, wrap
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> model = wrap(net, classes=3, shape=(1, 8, 8), mean=0, std=1)
        >>> x, y = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
        >>> ce = torch.nn.functional.cross_entropy(net(x), y, reduction="none")
        >>> torch.allclose(energy(model, x, y) - energy(model, x), ce, atol=1e-5)
        True
    """
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise UsageProblem(f"`batch_size` must be a whole number from 1, not {batch_size!r}")
    (model,) = load_each([run], device=device, foreign=foreign)
    model.warn_of_doubts(SILENT)
    if isinstance(images, Tensor | np.ndarray) and labels is None:
        x, _ = own_pixels(images)
        given = Images(TENSORS, x, torch.zeros(len(x), dtype=torch.int64), model.meta.classes)
        marginal = True
    else:
        given = own_images(images, labels, model.meta.classes)
    model.accepts(given)
    parts = []
    with torch.no_grad():
        for x, y in batches(given, batch_size or model.images_at_once(512)):
            logits = model.classifier(x.to(model.device)).cpu()
            parts.append(energies.marginal(logits) if marginal else energies.joint(logits, y))
    return torch.cat(parts)
