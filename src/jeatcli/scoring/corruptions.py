"""Accuracy on corrupted images (Hendrycks and Dietterich 2019)."""

from dataclasses import dataclass
from itertools import product

from ..checkpoints.model import Model
from ..data.facts import CORRUPTIONS
from ..data.images import load_images
from ..errors import UsageProblem
from ..runtime.progress import Reporter
from .ood import classify
from .settings import ClassifierSettings

# The other four are for validation.
KINDS = CORRUPTIONS[:15]
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corrupted:
    """The accuracy on the fifteen corruptions."""

    n: int  # images of each corruption and severity
    accuracy: dict[str, list[float]]  # by corruption, at severities 1 to 5
    # Of all corruptions and severities, not divided by another network's.
    mean_error: float


def corrupted_accuracy(model: Model, settings: ClassifierSettings, reporter: Reporter) -> Corrupted:
    """Classify the first images of each corruption and severity.

    Raises:
        JeatError: If a file is absent, with the place where it belongs.
        UsageProblem: If the model is not one of CIFAR.
    """
    dataset, num, root = model.meta.dataset, settings.num, settings.data_dir
    if dataset not in ("cifar10", "cifar100"):
        raise UsageProblem(
            f"corrupted images are published for cifar10 and cifar100, and `{model.name}` is a "
            f"network for {dataset}",
            "leave out `--corruptions`",
        )
    size = settings.batch_size or model.images_at_once()
    accuracy: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with reporter.track("corruptions", len(KINDS) * len(SEVERITIES), "set") as bar:
        for kind, severity in product(KINDS, SEVERITIES):
            name = f"{dataset}-c:{kind}:{severity}"
            images = load_images(name, "test", data_dir=root, limit=num, reporter=reporter)
            right = classify(model, images, size).argmax(1) == images.y.cpu()
            accuracy[kind].append(right.double().mean().item())
            bar(1)
    values = [value for row in accuracy.values() for value in row]
    return Corrupted(len(images), accuracy, 1 - sum(values) / len(values))
