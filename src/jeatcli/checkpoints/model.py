"""A classifier and what is known of it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..core.class_gaussians import ClassGaussians
from ..core.models.classifier import Classifier, evaluating
from ..core.models.layers import Shape
from ..core.models.wrapped import Wrapped, noise
from ..data.facts import dataset_facts, own_path
from ..data.images import Images, load_images
from ..errors import JeatError, UsageProblem, unknown
from ..runtime import devices
from ..runtime.digests import digest
from ..runtime.progress import SILENT, Reporter
from ..runtime.usual_state import in_usual_state
from . import runs
from .header import FOREIGN, Meta, read_header
from .hub import is_downloaded
from .networks import checked_logits, doubtful_outputs, make_network
from .robustbench import Published

# As near to zero is E(x) of log-probabilities.
_ZERO = 1e-5


@dataclass(frozen=True)
class Model:
    """A trained classifier, ready to be used.

    Args:
        classifier: In eval mode, float32, its weights frozen.
        meta: What the checkpoint says of itself.
        statistics: Those of the training images, by class, on the classifier's device; None for
            third-party checkpoints, which have none.
        path: The file that it came from.
        stated_accuracy: The clean accuracy that the file says it has, or None.
        trained_on: The fingerprints of the training images that are not of a published data set,
            int64 (n,); None if they are not known.
        published: What RobustBench says of it, or None.
    """

    classifier: Classifier
    meta: Meta
    statistics: ClassGaussians | None
    path: Path
    stated_accuracy: float | None = None
    trained_on: torch.Tensor | None = None
    published: Published | None = None

    def __repr__(self) -> str:
        """Say what it is on one line, as a notebook shows it, without the weights."""
        meta = self.meta
        images = "x".join(map(str, meta.shape))
        return (
            f"<Model {self.name}: {meta.arch}, {meta.method}, {len(meta.classes)} classes of "
            f"{images} images, on {self.device}>"
        )

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.classifier.normalize.mean.device

    @property
    def name(self) -> str:
        """The run's name, `RUN/best` of another file of a run, or the file's."""
        run = self.path.resolve().parent
        whole = self.path.name in (runs.MODEL_FILE, *runs.FOLDER_FILES)
        if whole or is_downloaded(self.path):
            return run.name
        if self.foreign and not self.path.is_absolute():
            return str(self.path)  # of a network that was wrapped, in which a dot is a dot
        inside = not self.foreign and (run / runs.MODEL_FILE).is_file()
        return f"{run.name}/{self.path.stem}" if inside else self.path.stem

    @property
    def fingerprint(self) -> str:
        """A digest of the function that it computes: its weights, and what they do not tell."""
        meta, net = self.meta, self.classifier.net
        about = (meta.arch, meta.norm_layer, meta.activation, meta.mean, meta.std, meta.classes)
        # Of code that is not ours the weights and the name do not tell the function.
        code = (_behaviour(net, meta.shape, self.device),) if isinstance(net, Wrapped) else ()
        return digest(self.classifier, about=about + code)

    def autocast_type(self, precision: str) -> torch.dtype | None:
        """Return what it computes in on its device at a precision; None is float32."""
        allowed = getattr(self.classifier.net, "mixed_precision", True)
        return devices.autocast_type(precision if allowed else "fp32", self.device)

    def images_at_once(self, most: int = 256) -> int:
        """Return a default batch size for its images on its device, `most` at most."""
        return devices.images_at_once(self.meta.shape, self.device, most)

    @property
    def foreign(self) -> bool:
        """Whether it is a third-party checkpoint."""
        return self.meta.method == FOREIGN

    @property
    def epoch(self) -> int | None:
        """The epochs that its weights have behind them; None if `jeat train` did not make them."""
        return None if self.foreign else self.meta.epoch

    @property
    def unfinished(self) -> str:
        """A warning that the run of the last weights did not come to its end; else empty."""
        # Only the last weights of a run tell whether it did.
        if self.meta.finished or self.path.name != runs.MODEL_FILE:
            return ""
        return (
            f"`{self.name}` was stopped after {self.meta.epoch} of {self.meta.epochs} epochs: "
            "`jeat train` with the same options finishes it"
        )

    def warn_of_doubts(self, reporter: Reporter) -> None:
        """Say that a run did not come to its end, or that its outputs are no logits.

        Attacks look closer, and say both themselves.
        """
        outputs = doubtful_outputs(self.classifier, self.meta.shape, self.name, self.device)
        for doubt in filter(None, (self.unfinished, outputs)):
            reporter.warn(doubt)

    def accepts(
        self, images: Images, reporter: Reporter = SILENT, *, any_classes: bool = False
    ) -> None:
        """Refuse images of another shape or, unless `any_classes`, of other classes.

        The reporter is warned of images that the model was trained on.
        """
        ours, theirs = ("x".join(map(str, shape)) for shape in (self.meta.shape, images.shape))
        if ours != theirs:
            (channels, height, width), name = self.meta.shape, images.name
            hint = f"name a data set of {ours} images, or a run for {theirs}"
            if name.startswith("folder:") and height == width and channels == images.shape[0]:
                hint = f"`folder:{own_path(name)}@{height}` resizes them"
            raise UsageProblem(
                f"`{self.name}` takes {ours} images, but those of {name} are {theirs}", hint
            )
        if any_classes:
            return
        # The classes of a folder are named by its directories.
        named = dataset_facts(images.name) is None
        known, present = self.meta.classes, images.classes
        if len(known) != len(present) or (named and known != present):
            raise UsageProblem(
                f"`{self.name}` was trained on the {len(known)} classes {_listed(known)}, but "
                f"{images.name} has the {len(present)} classes {_listed(present)}",
                "the data set on disk is not the one of the run",
            )
        if self.trained_on is not None or (
            named and not self.foreign and images.name == self.meta.dataset
        ):
            self._warn_of_training_images(images, reporter)

    def test_images(
        self, on: str | None, data_dir: Path | None, reporter: Reporter = SILENT
    ) -> Images:
        """Read the test images of the data set `on`, or of its own; refuse what does not fit."""
        images = load_images(on or self.meta.dataset, "test", data_dir=data_dir, reporter=reporter)
        known, present = self.meta.classes, images.classes
        if on and present == tuple(map(str, range(len(present)))) and len(present) <= len(known):
            images = replace(images, classes=known)  # an archive may have numbers for names
        elif on and present != known:
            raise UsageProblem(
                f"`{self.name}` knows {_listed(known)}, but {on} has {_listed(present)}",
                "name a data set of the same classes by `--on`",
            )
        self.accepts(images, reporter)
        return images

    def _warn_of_training_images(self, images: Images, reporter: Reporter) -> None:
        if self.trained_on is None:
            reporter.warn(
                f"`{self.name}` does not record its training pictures of {images.name}: it was "
                "written by a version that split folders by file names, so training images may be "
                "among the test images; train it again"
            )
            return
        count = int(torch.isin(images.fingerprints, self.trained_on).sum())
        if count:
            reporter.warn(
                f"`{self.name}` was trained on {count:,} of the {len(images):,} test images of "
                f"{images.name}: results on them are too optimistic"
            )


@in_usual_state
def _behaviour(net: Wrapped, shape: Sequence[int], device: torch.device) -> str:
    """Return a digest of what a network that is not ours computes, besides its weights.

    Numbers in attributes, buffers that are not saved and hooks are in neither its text nor its
    weights, and may be changed between two calls: it is computed anew each time.
    """
    try:
        with evaluating(net):
            logits = net.constant(noise(3, shape)[:2].to(device))
    except RuntimeError:  # it is not in float32, and nothing is computed with it as it is
        logits = None
    if logits is None:
        return net.about
    # Processors differ in the last digits.
    rounded = [f"{value:.2e}" for value in logits.flatten().tolist()]
    return digest(code=net.about, logits=rounded)


def difference(first: Model, second: Model) -> str:
    """Say in what the images or classes of two models differ; empty if in nothing."""
    ours, theirs = first.meta, second.meta
    named = f"`{first.name}`", f"`{second.name}`"
    if ours.shape != theirs.shape:
        what, shown = "images", ["x".join(map(str, meta.shape)) for meta in (ours, theirs)]
    elif ours.classes != theirs.classes:
        what, shown = "classes", [_listed(meta.classes) for meta in (ours, theirs)]
    else:
        return ""
    return f"their {what} differ: {named[0]} has {shown[0]}, {named[1]} {shown[1]}"


def _listed(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def ready(model: Model, reporter: Reporter = SILENT) -> Model:
    """Return a model as every verb uses it: in evaluation mode, in float32, of finite logits.

    One that is not is copied, so that it stays as it is.

    Raises:
        JeatError: If its weights, or its logits of a grey image and of noise, are not finite, or
            they are not one for each class.
    """
    training = any(module.training for module in model.classifier.modules())
    types = {each.dtype for each in (*model.classifier.parameters(), *model.classifier.buffers())}
    if training or any(each.is_floating_point for each in types - {torch.float32}):
        odd = ("in training mode", "evaluation mode") if training else ("not in float32", "float32")
        reporter.warn(f"`{model.name}` is {odd[0]}: a copy in {odd[1]} is used")
        classifier = copy.deepcopy(model.classifier).eval().float().requires_grad_(False)
        model = replace(model, classifier=classifier)
    probe = torch.rand(2, *model.meta.shape, generator=torch.Generator().manual_seed(0))
    probe[0] = 0.5
    with torch.no_grad():
        returned: object = model.classifier(probe.to(model.device))
    logits = checked_logits(returned, 2, len(model.meta.classes), model.name)
    if not logits.isfinite().all():
        if logits[1].isfinite().all():
            raise JeatError(
                f"`{model.name}` gives logits that are NaN or infinite for a grey image",
                "it may divide by the deviation of an image, which is 0 there: add a small number",
            )
        raise JeatError(
            f"`{model.name}` gives logits that are NaN or infinite",
            "the run may have diverged: use an earlier one, or check the checkpoint",
        )
    if (logits.logsumexp(1).abs() < _ZERO).all():
        reporter.warn(
            f"the outputs of `{model.name}` are log-probabilities, not logits: E(x) is zero "
            "everywhere, and so is its gradient; remove the log-softmax from the network"
        )
    return model


def network(meta: Meta) -> Classifier:
    """Build the classifier that a header describes, its weights not yet loaded."""
    shape = Shape(meta.shape, len(meta.classes), meta.norm_layer, meta.activation)
    net = Classifier(make_network(meta.arch, shape), meta.mean, meta.std)
    return net.to(memory_format=net.net.memory_format)


def class_index(name: str | int, classes: Sequence[str]) -> int:
    """Return the index of a class given by name or index; a number of Python's is an index.

    A text is never an index where some classes are named by numbers: it could mean another class.
    If there is none, the error has the nearest name.
    """
    text = str(name)
    if isinstance(name, str) and text in classes:
        return list(classes).index(text)
    numbered = any(each.isdecimal() for each in classes)
    by_name = isinstance(name, str) and numbered
    if not by_name and text.isdecimal() and len(text) < 10 and int(text) < len(classes):
        return int(text)
    by_index = [] if numbered else [f"0..{len(classes) - 1}"]
    problem = unknown("class", text, [*classes, *by_index])
    parts = text.split(",")
    if all(part in classes for part in parts):
        each = " ".join(f"--class {part}" for part in parts)
        raise UsageProblem(problem.message, f"repeat the option for each class: `{each}`")
    if text in read_header(runs.PRETRAINED)["classes"]:
        hint = f"{problem.hint}; name a RUN that has it, such as `{runs.PRETRAINED.stem}`"
        raise UsageProblem(problem.message, hint)
    raise problem
