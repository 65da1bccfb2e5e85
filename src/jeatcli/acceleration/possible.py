"""What a kernel comes to on a network here, and why it is not the one that was asked for."""

from __future__ import annotations

import torch

from ..core.models.classifier import Classifier
from ..errors import JeatError
from .fused import fuses_in, fusible
from .native import amx
from .native.convolution import FORWARD, fits
from .native.direct import direct
from .native.kernel import kernel as library_of_kernel
from .native.learning_tiles import fits_wgrad
from .native.norm import fits_norm
from .ways import KERNELS, Way, compilable

_NO_BF16 = "this processor has no instructions for bfloat16"


def computed(
    classifier: Classifier, dtype: torch.dtype | None, way: Way, learns: bool = False
) -> Way:
    """Return the way in which a network is computed if `way` is asked for.

    Args:
        classifier: The network; not changed.
        dtype: What it computes in; None is float32.
        way: The way that is asked for.
        learns: Whether its weights are updated in that way, too.
    """
    kernel = compilable(way.kernel) if way.compiled else way.kernel
    found, _ = swapped(classifier, dtype, Way(kernel, way.compiled), learns)
    return Way(kernel if kernel.startswith(found) else found, way.compiled)


def swapped(
    classifier: Classifier, dtype: torch.dtype | None, way: Way, learns: bool
) -> tuple[str, int]:
    """Return what computes convolutions of the network in that way, and how many.

    That is `library`, `fused`, `winograd`, `amx` or `amx-wgrad`: two of Winograd's are the same
    if they have as many.
    """
    (least, tiles, wgrad, fused), kind = KERNELS[way.kernel], dtype or torch.float32
    net, modules = classifier.net, [*classifier.modules()]
    foldable = getattr(net, "foldable", False)
    if classifier.normalize.mean.device.type != "cpu" or not (foldable or learns):
        return "library", 0
    if tiles:
        tiled = [module for module in modules if amx.fits_tiles(module, kind)]
        slopes = wgrad and learns and any(map(fits_wgrad, tiled))
        if tiled:
            return ("amx-wgrad" if slopes else "amx", len(tiled))
    if least is not None:
        try:
            count = sum(
                fits(module, kind, least) or (not way.compiled and direct(module, kind) is not None)
                for module in modules
            )
        except JeatError:  # `CXX` is no command
            count = 0
        if count:
            return "winograd", count
    if not fused or way.compiled:  # torch's compiler fuses by itself
        return "library", 0
    fuses = foldable and any(fusible(module, kind) for module in modules)
    joins = learns and vars(type(net)).get("joinable") and any(map(fits_norm, modules))
    return ("fused" if fuses or joins else "library", 0)


def why_not(classifier: Classifier, dtype: torch.dtype | None, way: Way, learns: bool) -> str:
    """Return why a network is not computed in a way that is asked for.

    Raises:
        UsageProblem: If the environment variable `CXX` is no command.
    """
    kernel, kind = KERNELS[way.kernel], dtype or torch.float32
    device = classifier.normalize.mean.device.type
    if device != "cpu":
        return f"the kernels are for CPUs, not for `{device}`"
    if not (learns or getattr(classifier.net, "foldable", False)):
        return "the network does not declare `foldable = True`"
    if way.compiled and kernel.winograd is None:
        return "torch's compiler fuses by itself"
    if kernel.amx and kind is not torch.bfloat16:
        return "its matrix tiles are for bfloat16, and this is float32"
    if kernel.amx or kernel.winograd is not None:
        library = library_of_kernel()
        if library is None:
            return "there is no C++ compiler that builds our kernel"
        if kernel.amx and not amx.has_tiles():
            return "this processor or its system has no matrix tiles"
        if not kernel.amx and not hasattr(library, FORWARD[kind][1]):
            return _NO_BF16
    elif not torch.backends.mkldnn.is_available():
        return "torch was built without oneDNN"
    elif kind is torch.bfloat16 and not fuses_in(kind):
        return _NO_BF16
    return "no convolution of the network fits"
