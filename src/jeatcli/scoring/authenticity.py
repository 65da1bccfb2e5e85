"""AuthPct (Alaa et al. 2022): images that are no closer to a real one than its own neighbour."""

from .features import Features
from .intervals import Estimate, bootstrapped
from .neighbours import nearest


def authpct(images: Features, reference: Features) -> dict[str, Estimate]:
    """Return the percentage of images farther from their nearest real one than its neighbour is.

    The others are closer to a training image than training images are to each other, as copies
    are.
    """
    real = reference.values
    distance, index = nearest(images.values, real, 1)
    chosen, back = index[:, 0].unique(return_inverse=True)
    # The nearest of a real image is itself, or its copy.
    own = nearest(real[chosen], real, min(2, len(real)))[0][:, -1]
    authentic = distance[:, 0] > own[back]
    return {"authpct": bootstrapped(100 * authentic.double())}
