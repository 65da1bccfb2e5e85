"""Whether third-party weights more likely belong to another function: clean accuracy tells."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..checkpoints.header import Meta
from ..checkpoints.matching import guess, match
from ..checkpoints.model import Model, network
from ..core.models import ACTIVATIONS
from ..core.models.classifier import Classifier
from ..core.models.layers import standardised
from ..core.models.wrapped import Wrapped
from ..data.facts import dataset_facts
from ..runtime.words import counted

Statistics = tuple[Sequence[float], Sequence[float]]
# Networks are trained on pixels in [0, 1], [-1, 1], [-0.5, 0.5], [0, 255], or normalised by the
# statistics of their data set or of ImageNet.
PIXEL_RANGES: tuple[Statistics, ...] = (
    ((0.0,), (1.0,)),
    ((0.5,), (0.5,)),
    ((0.5,), (1.0,)),
    ((0.0,), (1 / 255,)),
)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Activations in place of ours, which weights do not tell; only the first two have an option.
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "SiLU": nn.SiLU,
    "LeakyReLU(0.1)": partial(nn.LeakyReLU, 0.1),
    "LeakyReLU(0.2)": partial(nn.LeakyReLU, 0.2),
    "GELU": nn.GELU,
    "ELU": nn.ELU,
    "Softplus": nn.Softplus,
    "Tanh": nn.Tanh,
}
_REPLACED = (nn.ReLU, nn.SiLU, nn.LeakyReLU)
Function = Callable[[Tensor], Tensor]
# Another function is likelier if it is better by this many standard errors and by at least this
# share of the images.
_ERRORS, _LEAST = 3, 0.03
# A clean accuracy this far below what the file says of it is not chance.
_BELOW = 0.05
# It takes this many images per class to tell the order of the classes.
_PER_CLASS = 5
# A function that is worse on the first images, this many, is not tried on the others.
_FIRST = 60


def low_accuracy(predicted: Tensor, y: Tensor, classes: int, stated: float | None) -> str | None:
    """Judge the clean accuracy by chance, and by what the file says of it."""
    n, clean = len(y), float((predicted == y).float().mean())
    sizes = y.bincount(minlength=classes)
    constant = float(sizes.max()) / n
    # Of one class alone nothing is known of a network that always predicts it.
    chance = constant if constant < 1 else 1 / classes
    stated_error = 3 * math.sqrt(0.25 / n) + _BELOW
    if clean < 1 and clean <= chance + 3 * math.sqrt(chance * (1 - chance) / n):
        beside = f"chance: {100 * chance:.0f} %"
    elif stated is not None and clean < stated - stated_error:
        beside = f"stated: {100 * stated:.1f} %"
    else:
        return None
    # What could be had if each predicted class were another one: the most common true one.
    pairs = (predicted * classes + y).bincount(minlength=classes * classes)
    renamed = float(pairs.view(classes, classes).amax(1).sum()) / n
    # With the most common class in place of all predictions, that many are right anyway.
    telling = renamed > max(0.6, 2 * clean, (1 + constant) / 2)
    cause = (
        f"{100 * renamed:.0f} % are right with the classes reordered: their order is not the "
        "network's"
        if n >= 5 * classes and telling
        else "the network is another one with the same shapes (`--arch`, `--activation`), the "
        "normalisation (`--mean`, `--std`) or the pixel range is wrong, or the classes are in "
        "another order"
    )
    return (
        f"the clean accuracy is {100 * clean:.0f} % on {counted(n, 'image')} ({beside}): either it "
        f"was trained badly, or {cause}"
    )


def described(mean: Sequence[float], std: Sequence[float]) -> str:
    """Write a normalisation as the options that describe it."""
    parts = [",".join(f"{value:.4g}" for value in values) for values in (mean, std)]
    return f"--mean {parts[0]} --std {parts[1]}"


@torch.no_grad()
def likelier(model: Model, predicted: Tensor, x: Tensor, y: Tensor, size: int) -> str | None:
    """Say which function of the same weights classifies images far better, None for none.

    `predicted` are the model's classes of the images x (n, C, H, W) in [0, 1], and y the true ones;
    `size` images are computed at a time.
    """
    right = predicted == y
    # What always predicts one class is no better, however many images are of it.
    constant = y == y.mode().values
    best, words = right, None
    # What an option describes goes before what takes code, and that before other classes: the
    # rarer one must be better than the one before by as much as that is better than the model.
    for others in (_by_options(model), _by_code(model)):
        found, name = _most_right(others, right, x, y, size)
        if _better(found, best) and _better(found, constant):
            best, words = found, f"with {name}"
    renamed, exchanged = _renamed(model, predicted, y)
    if _better(renamed, best) and _better(renamed, constant):
        best, words = renamed, f"with its classes in another order ({exchanged})"
    if words is None:
        return None
    shares = [f"{100 * float(each.float().mean()):.0f} %" for each in (right, best)]
    return (
        f"{shares[0]} of {len(y)} images are classified correctly, but {shares[1]} {words}: the "
        "network is described wrongly"
    )


def _better(found: Tensor, right: Tensor) -> bool:
    """Compare what is right of the same images, as McNemar does."""
    gained, lost = int((found & ~right).sum()), int((right & ~found).sum())
    least = max(_ERRORS * math.sqrt(gained + lost), _LEAST * len(right))
    return gained - lost > least


def _most_right(
    others: Iterator[tuple[str, Function]], right: Tensor, x: Tensor, y: Tensor, size: int
) -> tuple[Tensor, str]:
    """Return what the best of some functions gets right, and its name: `right` if none is."""
    best, best_name = right, ""
    for name, other in others:
        found = torch.zeros_like(right)
        found[:_FIRST] = _right(other, x[:_FIRST], y[:_FIRST], size)
        if found[:_FIRST].sum() < right[:_FIRST].sum():
            continue
        if len(x) > _FIRST:
            found[_FIRST:] = _right(other, x[_FIRST:], y[_FIRST:], size)
        if found.sum() > best.sum():
            best, best_name = found, name
    return best, best_name


def _right(classify: Function, x: Tensor, y: Tensor, size: int) -> Tensor:
    """Return which images are classified correctly."""
    parts = zip(x.split(size), y.split(size), strict=True)
    return torch.cat([classify(part).argmax(1) == labels for part, labels in parts])


def _by_options(model: Model) -> Iterator[tuple[str, Function]]:
    """Yield other functions of the same weights, and the options that describe them."""
    meta, ours = model.meta, model.classifier
    facts = dataset_facts(meta.dataset)
    own = ((facts.mean, facts.std),) if facts else ()
    for mean, std in (*PIXEL_RANGES, _IMAGENET, *own):
        if len(mean) in (1, meta.shape[0]) and (mean, std) != (meta.mean, meta.std):
            other = Classifier(ours.net, mean, std).to(model.device).eval()
            yield f"`{described(mean, std)}`", other
    if isinstance(ours.net, Wrapped):
        return
    for option in guess(ours.net.state_dict(), meta.shape, rare=True):
        arch = option.split()[1]
        if "--norm-layer" in option or arch == meta.arch:
            continue
        other = network(Meta.of(vars(meta) | {"arch": arch}))
        found = match(ours.net.state_dict(), other.net.state_dict())
        if found.fits:
            other.net.load_state_dict(found.weights, strict=False)
            yield f"`{option}`", other.to(model.device).eval()
    for name, other in _activations(model):
        if name.lower() in ACTIVATIONS:
            yield f"`--activation {name.lower()}`", other


def _by_code(model: Model) -> Iterator[tuple[str, Function]]:
    """Yield other functions of the same weights that no option describes, and their names."""
    meta, ours = model.meta, model.classifier
    if not isinstance(ours.net, Wrapped):
        for name, other in _activations(model):
            if name.lower() not in ACTIVATIONS:
                yield _own_code(f"{name} in its layers"), other
        for count in (1, 2, 4, 8, 16) if meta.norm_layer == "group" else ():
            words = _own_code(f"GroupNorm({count}) in its layers")
            yield words, _replaced(ours, (nn.GroupNorm,), partial(_regrouped, count))
    plain = Classifier(ours.net, (0.0,), (1.0,)).to(model.device).eval()
    yield _own_code("each image standardised by itself"), lambda x: plain(standardised(x))


def _activations(model: Model) -> Iterator[tuple[str, Classifier]]:
    """Yield the classifier with each activation that it has not."""
    kinds = {repr(each) for each in model.classifier.net.modules() if isinstance(each, _REPLACED)}
    for name, make in _ACTIVATIONS.items():
        if repr(make()) not in kinds:
            yield name, _replaced(model.classifier, _REPLACED, partial(_instead, make))


def _own_code(what: str) -> str:
    return f"{what} (write that into your code: `--arch FILE.py:FUNCTION`)"


def _instead(make: Callable[[], nn.Module], layer: nn.Module) -> nn.Module:
    return make()


def _regrouped(count: int, layer: nn.Module) -> nn.Module:
    """Return a group normalisation of another number of groups, if the channels allow it."""
    assert isinstance(layer, nn.GroupNorm)
    if layer.num_channels % count == 0:
        layer.num_groups = count
    return layer


def _replaced(
    classifier: Classifier,
    kinds: tuple[type[nn.Module], ...],
    make: Callable[[nn.Module], nn.Module],
) -> Classifier:
    """Return a copy of a classifier in which the layers of some kinds are others."""
    other = copy.deepcopy(classifier)
    for parent in [*other.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, kinds):
                setattr(parent, name, make(child))
    return other.eval()


def _renamed(model: Model, predicted: Tensor, y: Tensor) -> tuple[Tensor, str]:
    """Return what would be right if each predicted class were another one, and which ones."""
    names = model.meta.classes
    count = len(names)
    if len(y) < _PER_CLASS * count:
        return predicted == y, ""
    from scipy.optimize import linear_sum_assignment  # takes long, and training needs none of it

    pairs = (predicted * count + y).bincount(minlength=count * count).view(count, count)
    _, columns = linear_sum_assignment(pairs.cpu().numpy(), maximize=True)
    order = torch.from_numpy(columns).to(y.device)
    moved = [k for k in range(count) if columns[k] != k]
    listed = ", ".join(f"{names[k]} is {names[columns[k]]}" for k in moved[:4])
    return order[predicted] == y, listed + (", ..." if len(moved) > 4 else "")
