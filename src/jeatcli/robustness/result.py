"""What an evaluation under attack found, and the attacked images as a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoints.robustbench import Published
from ..core.threat import Threat
from ..data.facts import corruption
from ..errors import JeatError
from ..runtime.files import write_atomic


@dataclass(frozen=True)
class Robustness:
    """What `attack` found; accuracies are fractions of all n images.

    Args:
        run: The model's name.
        dataset: The data set whose test images were attacked.
        method: The method that trained the model, or `foreign`.
        attacks: As asked for; `fast` and `quick` are parts of AutoAttack, not AutoAttack.
        n: Number of images.
        clean: Share that is classified correctly.
        robust: Share that is classified correctly and that no attack broke.
        norm, eps: The threat model, in the [0, 1] pixel scale.
        target: The class that the attacks aim at, or None.
        transfer_from: The model that the attacks saw, or None for the model itself.
        only, indices: The class whose images alone were attacked, and the file that names the
            images, or None.
        search: What the attacks computed in, `bf16` or `fp32`; the verdict is always fp32.
        kernel, compiled: How they computed the network, as chosen or measured.
        per_attack: For each attack in turn: `robust` after it, `broken` images, the images that
            went `forward` and `backward` through the network, the gradients that were `nan`,
            `seconds`, and its options. An
            attack sees only the images that those before it left.
        warnings: Reasons to doubt the result: `name`, the section of docs/attacks.md, and `text`.
        seconds, device, seed, version: How long it took, and with what.
        key: A digest of the weights, the images and the settings.
        samples: Per image: `index` in the test set, `correct`, and `broken_by` with the attack's
            name or None.
        published: For an entry of RobustBench its `name`, its `clean` and `robust` accuracy, and
            how far the measured ones are above them; the latter is None under another threat model.
        purification: If images were purified before they were classified: `steps` of the chain,
            the `gradient` by which it was attacked, and over how many `draws` it was averaged.
        certificate: If the classifier was smoothed by noise (`clean` and `robust` are then those
            of the smoothed one): `sigma`, the draws `n0` and `n`, `alpha`, the `largest` radius
            that these can certify, how many images `abstained`, the share `certified` at `eps` and
            its `curve`, and how many images within their radius an attack `contradicted`.
            `samples` then has what was `predicted` and the `radius`, or None.
        minimum_norm: If the smallest radius was looked for: its `median` and quartiles over the
            images that are classified correctly, how many stayed `unbroken`, and the `curve` of
            robust accuracy over `eps` down to zero. `samples` then has the `distance` of each
            image, 0 if it is misclassified and infinite (null in JSON) if it stayed unbroken, and
            `per_attack` the median of each attack.
        corruption_errors: On `cifar10-c:all` the error under each corruption, and their `mean`: the
            mean corruption error; else None.
        epoch: The epoch of the weights, which training replaces; None if they are not a run's.
    """

    run: str
    dataset: str
    method: str
    attacks: tuple[str, ...]
    n: int
    clean: float
    robust: float
    norm: str
    eps: float
    target: str | None
    transfer_from: str | None
    search: str
    kernel: str
    compiled: bool
    per_attack: dict[str, dict[str, Any]]
    warnings: list[dict[str, str]]
    seconds: float
    device: str
    seed: int
    key: str
    version: str
    samples: dict[str, list[Any]]
    only: str | None = None
    indices: str | None = None
    published: dict[str, Any] | None = None
    minimum_norm: dict[str, Any] | None = None
    purification: dict[str, Any] | None = None
    certificate: dict[str, Any] | None = None
    corruption_errors: dict[str, float] | None = None
    epoch: int | None = None

    def __repr__(self) -> str:
        """Say what was found on one line, without the verdicts."""
        flags = f"; {len(self.warnings)} warnings" if self.warnings else ""
        which = "" if self.only is None else f" of class {self.only}"
        return (
            f"<Robustness of {self.run}: {100 * self.clean:.2f} % clean, "
            f"{100 * self.robust:.2f} % robust to "
            f"{', '.join(self.attacks)}, {Threat(self.norm, self.eps)}, n = {self.n}{which}{flags}>"
        )


def corruption_errors(
    dataset: str, samples: Mapping[str, Sequence[Any]]
) -> dict[str, float] | None:
    """Return the error under each corruption, and their mean, of `cifar10-c:all`; else None."""
    if "-c:" not in dataset:
        return None
    _, kinds, severities = corruption(dataset)
    right: dict[str, list[bool]] = {}
    for index, correct in zip(samples["index"], samples["correct"], strict=True):
        kind = kinds[index // len(severities) % len(kinds)]
        right.setdefault(kind, []).append(bool(correct))
    errors = {kind: 1 - sum(each) / len(each) for kind, each in right.items()}
    complete = len(kinds) > 1 and len(errors) == len(kinds)
    return {"mean": sum(errors.values()) / len(errors)} | errors if complete else None


def beside_published(
    entry: Published | None, threat: Threat, outcome: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Compare the accuracies with those that RobustBench has, as `Robustness.published`."""
    if entry is None:
        return None
    return {
        "name": entry.name,
        "clean": entry.clean,
        "robust": entry.robust,
        "clean_above": outcome["clean"] - entry.clean,
        "robust_above": outcome["robust"] - entry.robust if threat == entry.threat else None,
    }


def save_images(result: Robustness, images: Tensor, labels: Tensor, path: Path) -> JeatError | None:
    """Write the images as attacked: broken ones adversarial, the others as they are.

    Where that fails, return why: the result is still to be shown.

    Tensors: `images` (n, C, H, W) float32 in [0, 1], `labels`, `index` in the test set, and
    `broken`, 1 where an attack broke the image; in the header the result without its verdicts.
    """
    broken = [name is not None for name in result.samples["broken_by"]]
    tensors = {
        "images": images.contiguous(),
        "labels": labels.cpu(),
        "index": torch.tensor(result.samples["index"]),
        "broken": torch.tensor(broken, dtype=torch.uint8),
    }
    settings = {k: v for k, v in asdict(result).items() if k not in ("samples", "seconds")}
    header = {"jeat": json.dumps(settings)}
    try:
        write_atomic(path, lambda beside: save_file(tensors, beside, header))
    except JeatError as problem:
        return problem
    return None
