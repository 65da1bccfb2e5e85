"""Networks that are not ours: of a library, of the user's own code, and what each must allow."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..core.models import build
from ..core.models.classifier import Network
from ..core.models.layers import Shape
from ..core.models.wrapped import Wrapped, noise
from ..core.rng import drawing_by
from ..errors import JeatError, UsageProblem, needs, unknown
from ..runtime.digests import digest
from ..runtime.files import expand
from ..runtime.usual_state import in_usual_state
from .naming import check_network, is_code, is_library

# Logits of an image alone and among others may differ so much by rounding, relative to the largest.
_PROBABLE = 1e-5
_ROUNDING = 1e-3
_IMPORTED = (
    "it must import on its own; name code of a package `PACKAGE.MODULE:FUNCTION`, from the "
    "directory that holds the package"
)
_ENDED = 'put what reads the command line, or ends the program, below `if __name__ == "__main__":`'


def make_network(arch: str, shape: Shape) -> Network:
    """Build the network that `--arch` names; weights of a library's are drawn, not loaded.

    Raises:
        JeatError: If a library is not installed, or the user's code fails.
        UsageProblem: If there is no such network, or it cannot be built as asked.
    """
    if not (is_library(arch) or is_code(arch)):
        check_network(arch)
        return build(arch, shape)
    if (shape.norm_layer, shape.activation) != ("batch", "relu"):
        raise UsageProblem(
            f"`{arch}` has its own layers and nonlinearities",
            "leave out `--norm-layer` and `--activation`",
        )
    if is_code(arch):
        return wrapped(run_code(arch))
    library, _, name = arch.partition(":")
    make = _timm if library == "timm" else _torchvision
    return Wrapped(make(name, shape), mixed=True)


def _timm(name: str, shape: Shape) -> nn.Module:
    with needs("timm", "timm", f"`timm:{name}`"):
        import timm
    if not timm.is_model(name):
        raise unknown("timm network", name, timm.list_models())
    make = partial(timm.create_model, name, num_classes=shape.classes, in_chans=shape.image[0])
    try:
        network: nn.Module = make(img_size=shape.image[1:])
    except TypeError:  # most networks take images of any size, and no such argument
        network = make()
    return network


def _torchvision(name: str, shape: Shape) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("network of torchvision", name, known)
    if shape.image[0] != 3:
        raise UsageProblem(
            f"torchvision's networks take 3 channels, not {shape.image[0]}",
            "use one from timm, or your own code",
        )
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=shape.classes, **options)
    return network


@in_usual_state  # code may change the default dtype, or whether there are gradients
def run_code(arch: str) -> nn.Module:
    """Call a function of the user's own, `FILE.py:FUNCTION` or `PACKAGE.MODULE:FUNCTION`.

    The name may also be that of a network that is made when the code is imported.
    """
    place, _, name = arch.rpartition(":")
    with _importable(place):
        with _explained(arch, _IMPORTED):
            found = getattr(_module(place), name, None)
        if not callable(found):
            raise UsageProblem(
                f"`{place}` has no function `{name}`", "name one that returns the network"
            )
        with _explained(arch, "it is called without arguments, and must return a torch.nn.Module"):
            made = found if isinstance(found, nn.Module) else found()
    if not isinstance(made, nn.Module):
        raise JeatError(
            f"`{arch}` returned {type(made).__name__}, not a torch.nn.Module",
            "return the network itself, without loading its weights",
        )
    return made


@contextmanager
def _explained(arch: str, hint: str) -> Iterator[None]:
    """Name the user's code where it fails, or ends the program, as `argparse` does."""
    try:
        yield
    except JeatError:
        raise
    except (Exception, SystemExit) as problem:
        if isinstance(problem, SystemExit):
            hint = _ENDED
        why = f"{type(problem).__name__}: {problem}".removesuffix(": ")
        raise JeatError(f"`{arch}` failed: {why}", hint) from problem


@contextmanager
def _importable(place: str) -> Iterator[None]:
    """Let code import what lies beside it, or in the working directory."""
    path = expand(place).absolute().parent if place.endswith(".py") else Path.cwd()
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(path))


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = expand(place)
    if not path.is_file():
        raise UsageProblem(f"there is no file `{path}`", "check the path in `--arch`")
    spec = importlib.util.spec_from_file_location(f"jeat_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look there
    spec.loader.exec_module(module)
    return module


def wrapped(module: nn.Module) -> Wrapped:
    """Return a module in the place of a network; refuse one with weights without content."""
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    for key, value in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value) or value.is_meta:
            raise JeatError(
                f"the weight `{key}` of `{type(module).__name__}` has no content",
                "load a state dict, or call a module with lazy layers on some images first",
            )
    about = ""  # as weights alone do not tell its function
    with suppress(OSError, TypeError):
        about = Path(inspect.getfile(type(module))).read_text(encoding="utf-8")
    return Wrapped(module.float(), about=digest(code=about + repr(module)))


def check(net: Wrapped, shape: Shape, name: str, device: torch.device) -> None:
    """Refuse a network, frozen and in evaluation mode, without what attacks and chains need."""
    like = noise(3, shape.image).to(device)
    if net.classifies and _is_sound(net.module, like[:2], shape):
        net.classifies = False
    logits = _logits(net, like[:2], shape, name)
    if not logits.isfinite().all():
        raise JeatError(
            f"`{name}` gives logits that are NaN or infinite on images of noise",
            "check its weights, and divisions, roots and logarithms in its layers",
        )
    # Each image alone, as what depends on others of its batch may not do so for every image.
    for first, part in ((0, like), (0, like[:1]), (1, like[1:2])):
        count = len(part)
        try:
            again = _logits(net, part, shape, name)
        except JeatError as problem:
            raise JeatError(
                f"`{name}` takes a batch of 2 images, but not one of {count}: {problem.message}",
                "leave the size of batches open: in code `x.size(0)`, in `torch.export.export(net, "
                "(x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))`, in ONNX `dynamic_axes`",
            ) from problem
        size = 1 + logits.abs().max()
        moved = (again[:2] - logits[first : first + count]).abs() > _ROUNDING * size
        if moved.any() and _is_constant(net, like):
            raise JeatError(
                f"the logits of `{name}` for an image depend on the other images of its batch",
                "it is in training mode, so call `net.eval()` before exporting or returning it, or "
                "its normalisation has no running statistics, or is over the whole batch",
            )
    images = like[:2].clone().requires_grad_(True)
    try:
        # A copy, as the code may change its input in place.
        (gradient,) = torch.autograd.grad(net.call(images.clone()).sum(), images)
    except RuntimeError as problem:
        raise JeatError(
            f"the logits of `{name}` have no gradient with respect to the images: {problem}",
            "remove `no_grad`, `inference_mode`, `detach`, `numpy`, `argmax` and quantised layers, "
            "and let its logits depend on the images: attacks and chains need the gradient",
        ) from problem
    if not gradient.isfinite().all():
        raise JeatError(f"the gradient of `{name}` is NaN or infinite", "check its layers")


@torch.no_grad()
def _is_sound(module: nn.Module, x: Tensor, shape: Shape) -> bool:
    """Tell whether a module gives logits: JEM's gives energies, and others probabilities."""
    try:
        logits = module(x.clone())
    except Exception:  # whatever the user's code raises; `classify` is left
        return False
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        return False
    if logits.shape != (len(x), shape.classes) or not logits.isfinite().all():
        return False
    return bool((logits < 0).any() or ((logits.sum(1) - 1).abs() > _ROUNDING).any())


@torch.no_grad()
def _is_constant(net: Wrapped, x: Tensor) -> bool:
    """Tell whether logits are the same each time; of a randomised network an attack warns."""
    return net.constant(x[:2]) is not None


def _logits(net: Wrapped, x: Tensor, shape: Shape, name: str) -> Tensor:
    size = "x".join(map(str, x.shape))
    try:
        logits: object = net.probe(x.clone())
    except Exception as problem:
        first = str(problem).strip().partition("\n")[0][:200]
        raise JeatError(
            f"`{name}` fails on images {size}: {type(problem).__name__}: {first}",
            "it must take one argument: normalised images (n, C, H, W) in float32, of the size of "
            "its data set or, in Python, of `wrap(..., shape=(C, H, W))`",
        ) from problem
    return checked_logits(logits, len(x), shape.classes, name)


def checked_logits(logits: object, images: int, classes: int, name: str) -> Tensor:
    """Return the logits of so many images, (n, K); refuse anything else that a network returned."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = f"tensor of {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise JeatError(
            f"`{name}` returns a {kind}, not logits",
            "return one tensor of floating-point logits (n, K), or give the module a method "
            "`classify` that does",
        )
    if logits.shape != (images, classes):
        given = "x".join(map(str, logits.shape))
        raise JeatError(
            f"`{name}` returns {given} for {images} images, not {images}x{classes}",
            _reshaped(logits, images, classes),
        )
    return logits


def probabilities(logits: Tensor) -> str | None:
    """Return the last layer of a network whose outputs (n, K) are probabilities, else None."""
    if logits.min() < -_PROBABLE or logits.max() > 1 + _PROBABLE:
        return None
    return "softmax" if (logits.sum(1) - 1).abs().max() <= _PROBABLE else "sigmoid"


@torch.no_grad()
def doubtful_outputs(
    classifier: nn.Module, shape: Sequence[int], name: str, device: torch.device
) -> str | None:
    """Say that a classifier of images of a shape ends in a softmax, else None."""
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with drawing_by(0, device):  # what is computed next draws as without this
        outputs = classifier(images.to(device))
    if probabilities(outputs) != "softmax":
        return None
    return (
        f"the outputs of `{name}` are probabilities, not logits, so energies and confidences are "
        "wrong; remove the softmax from the network"
    )


def _reshaped(logits: Tensor, count: int, classes: int) -> str:
    """Say how logits of another shape become those of the classes."""
    if classes == 2 and logits.numel() == count:
        return "of one logit z make two, which are 0 and z: `torch.stack([0 * z, z], 1)`"
    if len(logits) == count and logits.numel() == count * classes:
        return "return `logits.flatten(1)`"
    return f"it must have the {classes} classes of the data set, or of `wrap(..., classes=K)`"
