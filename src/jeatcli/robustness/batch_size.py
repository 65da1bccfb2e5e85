"""How many images fit on the device at once."""

import torch

from ..core.models.classifier import Classifier, frozen
from ..runtime.devices import images_at_once

_TRIED = 32
_LEAST, _MOST = 16, 4096
# Of the free memory; the rest is for what the attacks keep beside the network's activations.
_SHARE = 0.6


def fitting(classifier: Classifier, shape: tuple[int, int, int], device: torch.device) -> int:
    """Return how many images fit into a forward and a backward pass, as a power of two.

    Measured on CUDA; elsewhere by the size of an image.
    """
    if device.type != "cuda":
        return images_at_once(shape, device)
    torch.cuda.synchronize(device)
    # Otherwise the memory that torch keeps from an earlier attack counts as used.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with frozen(classifier):
        x = torch.zeros(_TRIED, *shape, device=device, requires_grad=True)
        torch.autograd.grad(classifier(x).sum(), x)
    per_image = (torch.cuda.max_memory_allocated(device) - before) / _TRIED
    room = _SHARE * torch.cuda.mem_get_info(device)[0] / max(per_image, 1.0)
    return max(_LEAST, min(_MOST, 1 << (max(int(room), 1).bit_length() - 1)))
