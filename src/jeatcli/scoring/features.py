"""The features and logits of images; those of a data set are kept on disk."""

from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..checkpoints.model import Model
from ..core.rng import drawing_by
from ..data.images import Images, to_unit_range
from ..errors import JeatError
from ..runtime.digests import digest, tensor_digest
from ..runtime.distributed import current
from ..runtime.files import cache_dir, safe_name, write_atomic
from ..runtime.progress import SILENT, Reporter
from .extractors import Extractor

# The features of fewer images are computed sooner than a file is read.
WORTH_KEEPING = 5000
# Images on which kept features are tried, and how far rounding moves them in batches of other
# sizes, relative to the largest.
_TRIED, _ROUNDING = 4, 1e-3

# Features that differ by less, relative to the largest, are the same.
_SAME = 1e-6

# What turns images into features: a classifier or a published network.
Judge = Model | Extractor


@dataclass(frozen=True)
class Features:
    """Features (n, d) of n images, which comparisons use, and logits (n, K), on the CPU.

    K is 0 for a network without classes.
    """

    values: Tensor
    logits: Tensor


def extract(
    images: Tensor,
    judge: Judge,
    batch_size: int,
    reporter: Reporter = SILENT,
    label: str = "image features",
) -> Features:
    """Return the features of uint8 images (n, C, H, W), of a classifier the penultimate ones.

    Where several processes have joined, each takes those of a part of every batch, and all get
    them all.

    Raises:
        JeatError: If a feature is not finite.
    """
    group = current()
    parts: list[tuple[Tensor, Tensor]] = []
    with reporter.track(label, len(images)) as bar, torch.no_grad():
        for batch in torch.split(images, batch_size * group.size):
            own = group.share(batch)
            shares = group.collect(_outputs(judge, own) if len(own) else None)
            parts += [share for share in shares if share is not None]
            bar(len(batch))
    values, logits = (torch.cat(rows) for rows in zip(*parts, strict=True))
    if not (values.isfinite().all() and logits.isfinite().all()):
        raise JeatError(
            f"the features of the images from `{_named(judge)}` are not finite",
            "the classifier of `--features` may have diverged",
        )
    return Features(values, logits)


def of_reference(
    reference: Images, split: str, judge: Judge, batch_size: int, reporter: Reporter = SILENT
) -> Features:
    """Return the features of a data set, from the cache where they were taken once.

    Raises:
        JeatError: If one is not finite, or all images have the same, as of a network that has
            collapsed: any images would score as perfect.
    """
    features = _kept(reference, split, judge, batch_size, reporter)
    values = features.values
    if (values - values[0]).abs().max() <= _SAME * values.abs().max():
        raise JeatError(
            f"`{_named(judge)}` gives all {len(values):,} images of {reference.name} the same "
            "features",
            "it tells no images apart: give `--features` another network, or other real images",
        )
    return features


def _kept(
    reference: Images, split: str, judge: Judge, batch_size: int, reporter: Reporter
) -> Features:
    """Return the features of a data set, of a file whose name is a digest of all that decides them.

    Pixels and weights are among that.
    """
    compute = partial(extract, reference.x, judge, batch_size, reporter, "reference features")
    if len(reference) < WORTH_KEEPING:
        return compute()
    about = {"images": tensor_digest(reference.x), "device": judge.device.type}
    if isinstance(judge, Model):
        key = digest(model=judge.fingerprint, **about)
    else:
        library = version("torch-fidelity")
        key = digest(weights=judge.sha256, library=library, layers=judge.layers, **about)
    name = safe_name(f"{reference.name}-{split}".replace(":", "-").replace("/", "-"))
    path = cache_dir() / "features" / f"{name}-{key}.safetensors"
    group = current()
    if stored := group.from_main(lambda: _stored(path, reference.x, judge)):
        return stored
    features = compute()
    if group.is_main:
        try:
            write_atomic(path, lambda beside: save_file(vars(features), beside))
        except JeatError as problem:
            reporter.warn(f"the features of {reference.name} are not kept: {problem.message}")
    return features


def _stored(path: Path, images: Tensor, judge: Judge) -> Features | None:
    """Return the features that are kept, None if there are none, or the judge has others now."""
    try:
        tensors = load_file(path)
        features = Features(tensors["values"], tensors["logits"])
    except (OSError, SafetensorError, KeyError):
        return None
    return features if _are_of(judge, features, images) else None


@torch.no_grad()
def _are_of(judge: Judge, features: Features, images: Tensor) -> bool:
    """Try a classifier on a few of the images: hooks of the user's are not in its fingerprint."""
    if isinstance(judge, Extractor):
        return True
    few = torch.linspace(0, len(images) - 1, _TRIED).long()
    with drawing_by(0, judge.device):  # what is computed next draws as without this
        outputs = _outputs(judge, images[few])
    return all(
        len(kept) == len(images)
        and kept[few].shape == now.shape
        and bool((kept[few] - now).abs().max() <= _ROUNDING * now.abs().max())
        for kept, now in zip(vars(features).values(), outputs, strict=True)
    )


def _outputs(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and logits of a batch, on the CPU."""
    if isinstance(judge, Extractor):
        parts = [part.cpu() for part in judge.net(coloured(images).to(judge.device))]
        return parts[0], parts[1] if len(parts) > 1 else parts[0][:, :0]
    values, logits = judge.classifier.penultimate(to_unit_range(images.to(judge.device)))
    # Means in float64: the library averages in the features' own type. On the CPU, for
    # Apple's devices have no float64.
    return values.cpu().double(), logits.cpu().double()


def coloured(images: Tensor) -> Tensor:
    """Repeat grey images in three channels, which is all that published networks read."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _named(judge: Judge) -> str:
    return judge.name if isinstance(judge, Model) else str(judge.path)
