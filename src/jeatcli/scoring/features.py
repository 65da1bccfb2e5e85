"""What the judge of images sees of them: features and logits, those of a data set kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..checkpoints.model import Model
from ..data.images import Images, to_unit_range
from ..errors import JeatError
from ..runtime.digests import checksum, digest, tensor_digest
from ..runtime.distributed import current
from ..runtime.files import cache_dir, write_atomic
from ..runtime.progress import SILENT, Bar, Reporter

# Of the 2015 Inception network: the last pooling, and the logits without their bias, as the
# published scores take them.
INCEPTION_LAYERS = ("2048", "logits_unbiased")
# Of fewer images the features are there sooner than a file is read.
WORTH_KEEPING = 5000

Judge = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Features:
    """What a network sees of n images, on the CPU.

    Args:
        values: (n, d), by which images are compared.
        logits: (n, K), by which they are told apart.
    """

    values: Tensor
    logits: Tensor


def extract(
    images: Tensor,
    extractor: Model | Path,
    batch_size: int,
    device: torch.device,
    reporter: Reporter = SILENT,
) -> Features:
    """Return the features of uint8 images (n, C, H, W).

    Where several processes have joined, each takes those of a part, and all get them all.

    Args:
        images: On any device.
        extractor: A classifier, whose penultimate features are taken, or the file of the 2015
            Inception network's weights.
        batch_size: Images at a time.
        device: Where Inception computes; a classifier does where it is.
        reporter: Listens to the progress.
    """
    judge = (
        _classifier(extractor) if isinstance(extractor, Model) else _inception(extractor, device)
    )
    ranks = current()
    own = ranks.share(images)
    with reporter.track("features", len(own)) as bar, torch.no_grad():
        # Of nothing at all torch makes one empty part.
        parts = [_seen(judge, part, bar) for part in torch.split(own, batch_size) if len(part)]
    shares = [part for share in ranks.collect(parts) for part in share]
    values, logits = (torch.cat(each) for each in zip(*shares, strict=True))
    return Features(values, logits)


def of_reference(
    reference: Images,
    split: str,
    extractor: Model | Path,
    batch_size: int,
    device: torch.device,
    reporter: Reporter = SILENT,
) -> Features:
    """Return the features of a data set, from the cache where they were taken once.

    The file's name is a digest of all that they depend on, pixels and weights among them.
    """
    if len(reference) < WORTH_KEEPING:
        return extract(reference.x, extractor, batch_size, device, reporter)
    key = _key(reference.x, extractor, device)
    name = reference.name.replace("/", "-").replace(":", "-")
    path = cache_dir() / "features" / f"{name}-{split}-{key}.safetensors"
    ranks = current()
    if stored := ranks.from_main(lambda: _stored(path)):
        return stored
    found = extract(reference.x, extractor, batch_size, device, reporter)
    if ranks.is_main:
        try:
            write_atomic(path, lambda beside: save_file(vars(found), beside))
        except JeatError as problem:
            reporter.warn(f"the features of {reference.name} are not kept: {problem.message}")
    return found


def _stored(path: Path) -> Features | None:
    try:
        found = load_file(path)
        return Features(found["values"], found["logits"])
    except (OSError, SafetensorError, KeyError):
        return None


def _key(pixels: Tensor, extractor: Model | Path, device: torch.device) -> str:
    about = {"images": tensor_digest(pixels), "device": device.type}
    if isinstance(extractor, Model):
        return digest(model=extractor.fingerprint, **about)
    library = version("torch-fidelity")
    return digest(weights=checksum(extractor), library=library, layers=INCEPTION_LAYERS, **about)


def _seen(judge: Judge, images: Tensor, bar: Bar) -> tuple[Tensor, Tensor]:
    values, logits = judge(images)
    bar(len(images))
    return values.cpu(), logits.cpu()


def _classifier(model: Model) -> Judge:
    head: Any = model.classifier.net.head

    def judge(images: Tensor) -> tuple[Tensor, Tensor]:
        values = model.classifier.features(to_unit_range(images.to(model.device)))
        # Means in float64: the library averages in the features' own type. On the CPU, for
        # Apple's devices have no float64.
        return values.cpu().double(), head(values).cpu().double()

    return judge


def _inception(weights: Path, device: torch.device) -> Judge:
    from torch_fidelity import FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3(
        "inception", list(INCEPTION_LAYERS), feature_extractor_weights_path=str(weights)
    )
    net = net.to(device).eval().requires_grad_(False)

    def judge(images: Tensor) -> tuple[Tensor, Tensor]:
        values, logits = net(coloured(images).to(device))
        return values, logits

    return judge


def coloured(images: Tensor) -> Tensor:
    """Repeat grey images in three channels, which is all that Inception reads."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
