"""How many images fit on the device at once."""

from __future__ import annotations

import torch

from ..core.models.classifier import Classifier, frozen

USUAL = 256
_TRIED = 32
_LEAST, _MOST = 16, 4096
# Of the free memory; the rest is for what the attacks keep beside the network's activations.
_SHARE = 0.6


def fitting(classifier: Classifier, shape: tuple[int, int, int], device: torch.device) -> int:
    """Return a power of two of images that a forward and a backward pass have room for.

    Measured on CUDA, where it matters; elsewhere the usual 256.

    Args:
        classifier: On the device.
        shape: Channels, height, width of an image.
        device: Where it is.
    """
    if device.type != "cuda":
        return USUAL
    torch.cuda.synchronize(device)
    # What an earlier attack has left in torch's hands counts as taken otherwise.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with frozen(classifier):
        x = torch.zeros(_TRIED, *shape, device=device, requires_grad=True)
        torch.autograd.grad(classifier(x).sum(), x)
    each = (torch.cuda.max_memory_allocated(device) - before) / _TRIED
    room = _SHARE * torch.cuda.mem_get_info(device)[0] / max(each, 1.0)
    return max(_LEAST, min(_MOST, 1 << (max(int(room), 1).bit_length() - 1)))
