"""The network that a run trains, before its first step."""

import copy

import torch

from ..checkpoints.header import Meta
from ..checkpoints.model import network
from ..checkpoints.networks import checked_logits
from ..core.models.classifier import Classifier, evaluating
from ..core.rng import mix
from ..data.images import to_unit_range
from ..data.loader import Loader
from ..errors import UsageProblem
from ..runtime import devices
from .settings import TrainConfig


def new_classifier(config: TrainConfig, meta: Meta, device: torch.device) -> Classifier:
    """Build the network of a run, its weights as drawn by the run's seed, and try it once.

    Raises:
        JeatError: If its logits, which may be those of a plugin's network, are not (n, K).
    """
    # Layers draw their first weights from torch's global generator of the CPU, which is restored;
    # `torch.manual_seed` would change those of the GPUs for good.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix(config.seed, 0))
        classifier = network(meta).to(device)
        with evaluating(classifier), torch.no_grad():
            returned: object = classifier(torch.zeros(2, *meta.shape, device=device))
    checked_logits(returned, 2, len(meta.classes), meta.arch)
    classifier.autocast = devices.autocast_type(config.precision, device)
    return classifier


def check_share(classifier: Classifier, loader: Loader) -> None:
    """Refuse batches of one image if the network's batch normalisation has no statistics of it.

    It has where the layer's input is larger than 1x1.
    """
    if loader.share > 1:
        return
    try:
        with torch.no_grad():
            copy.deepcopy(classifier).train()(to_unit_range(loader.images.x[:1]))
    except ValueError as problem:
        if "more than 1 value per channel" not in str(problem):
            raise
        each = " per process" if loader.parts > 1 else ""
        raise UsageProblem(
            f"batch normalisation cannot be trained on batches of one image{each}",
            "raise `--batch-size`, or choose another `--norm-layer`",
        ) from problem
