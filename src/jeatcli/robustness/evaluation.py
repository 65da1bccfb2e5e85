"""What is evaluated: the model, the images and the attacks, read and checked."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self, cast

from torch import Tensor

from ..checkpoints.checkpoint import load_each
from ..checkpoints.model import Model, class_index, difference
from ..checkpoints.settings import Foreign
from ..core.threat import Threat
from ..data.facts import customary_eps
from ..data.images import Images
from ..data.stored import warn_of_sorted
from ..errors import JeatError, UsageProblem
from ..runtime.digests import digest, tensor_digest
from ..runtime.progress import SILENT, Reporter
from . import minimum_norm
from .attacks.attack import Attack, for_classes, resolve_attacks
from .attacks.batch import OPTIONS, AttackOptions
from .settings import AttackSettings
from .subset import CPU_IMAGES, subset


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is ready to run: everything is read and checked."""

    model: Model  # whose predictions count
    source: Model | None  # the model that the attacks see in its place, or None
    settings: AttackSettings  # as they were given
    options: AttackOptions  # the threat model, and the options of the attacks
    attacks: Sequence[Attack]  # in turn
    test_set: Images  # all test images
    images: Images  # those that are attacked, on the model's device; `indices` are theirs
    indices: Tensor
    target: int | None  # the class to reach, or None
    # Of a certificate, which holds for every radius: for each image the class, and how often it
    # was predicted.
    votes: list[tuple[int, int]] = field(default_factory=list)

    def at(self, norm: str | None, eps: float | None) -> Self:
        """Return the same evaluation under another threat; None is that of the settings."""
        threat = _threat(self.model, self.settings, norm, eps)
        for attack in self.attacks:
            attack.check(len(self.model.meta.classes), self.target is not None, threat.norm)
        return replace(self, options=replace(self.options, threat=threat))

    @property
    def key(self) -> str:
        """A digest of everything that the verdicts depend on, except rounding."""
        models = [self.model] if self.source is None else [self.model, self.source]
        return digest(
            models=[model.fingerprint for model in models],
            attacks=[(attack.name, attack.options) for attack in self.attacks],
            plan=asdict(self.options),
            images=tensor_digest(self.images.x, self.images.y, self.indices),
            aim=self.target,
            exact=self.settings.exact,
            compiled=bool(self.settings.compiled),
            **({"kernel": kernel} if (kernel := self.settings.kernel) != "auto" else {}),
            keep=self.settings.images_to is not None,
            device=self.images.x.device.type,
            **({"minimum_norm": True} if self.settings.minimum_norm else {}),
            **({"certify": asdict(self.settings.certification)} if self.settings.certify else {}),
            **({"purify": purified} if (purified := self.settings.purification) else {}),
        )


def load_models(
    runs: Sequence[str | Path | Model | None],
    settings: AttackSettings,
    foreign: Foreign | None,
    reporter: Reporter,
) -> tuple[list[Model], Model | None]:
    """Load the models to attack, and the one that the examples are crafted on, if any."""
    transfer_from = cast("str | Path | Model | None", settings.transfer_from)
    names = [*runs] if transfer_from is None else [*runs, transfer_from]
    models = load_each(names, device=settings.device, foreign=foreign, reporter=reporter)
    if transfer_from is None:
        return models, None
    *attacked, source = models
    _check_transfer(attacked, source, reporter)
    return attacked, source


def _check_transfer(attacked: Sequence[Model], source: Model, reporter: Reporter) -> None:
    """Refuse examples of the model's own as those of another; of several models, tell them."""
    own = [model.name for model in attacked if model.fingerprint == source.fingerprint]
    if own and len(attacked) == 1:
        raise UsageProblem(
            f"`--transfer-from {source.name}` has the weights of `{own[0]}` itself: the attack "
            "would see the network that it attacks",
            "name another run, or leave `--transfer-from` out",
        )
    if own:
        reporter.warn(
            f"`{own[0]}` has the weights of `--transfer-from {source.name}`: its robust accuracy "
            "is that under an attack that sees it, and no transfer"
        )


def prepare(
    model: Model,
    source: Model | None,
    settings: AttackSettings,
    reporter: Reporter = SILENT,
    test_set: Images | None = None,
) -> Evaluation:
    """Read the images, unless `test_set` has them, and check the settings.

    The predictions of `model` count; the attacks see `source` in its place, if there is one.
    """
    given = {name: getattr(settings, name) for name in (*OPTIONS, "seed")}
    options = AttackOptions(_threat(model, settings), **given)
    classes = model.meta.classes
    names = settings.attacks or (("fmn",) if settings.minimum_norm else ("pgd",))
    settings = replace(settings, attacks=for_classes(names, len(classes)))
    attacks = resolve_attacks(settings.attacks, options, len(classes), settings.target is not None)
    if settings.minimum_norm:
        attacks = minimum_norm.nearest_attacks(attacks, transferred=source is not None)
    if test_set is None:
        test_set = model.test_images(settings.on, settings.data_dir, reporter)
    else:
        model.accepts(test_set, reporter)
    if source is not None and (differing := difference(source, model)):
        raise JeatError(
            f"no images of `{source.name}` can be tried on `{model.name}`: {differing}",
            "give `--transfer-from` a network trained on the same data set",
        )
    target, only = (
        None if name is None else class_index(name, classes)
        for name in (settings.target, settings.only)
    )
    on_cpu = model.device.type == "cpu"
    indices = subset(test_set, settings, only, target, on_cpu)
    if (settings.indices, only, target) == (None, None, None):
        labels = test_set.y.cpu().numpy()
        warn_of_sorted(test_set.name, labels, labels[indices], reporter)
    if on_cpu and settings.num is None and CPU_IMAGES == len(indices) < len(test_set):
        reporter.say(f"using the first {CPU_IMAGES:,} of {len(test_set):,} test images, on a CPU")
    for attack in attacks:
        attack.check(len(classes), target is not None, options.threat.norm)
    images = test_set.take(indices).to(model.device)
    return Evaluation(model, source, settings, options, attacks, test_set, images, indices, target)


def _threat(
    model: Model, settings: AttackSettings, norm: str | None = None, eps: float | None = None
) -> Threat:
    """Return the threat model: what is given, else what the run was trained for."""
    trained = model.meta.threat
    norm = norm or settings.norm or ("l2" if settings.certify else trained.norm)
    eps = settings.eps if eps is None else eps
    if settings.certify and norm != "l2":
        raise UsageProblem("a certificate by Gaussian noise is for l2", "give `--norm l2`")
    if eps is not None:
        return Threat(norm, eps)
    if norm == trained.norm:
        return trained
    return Threat(norm, customary_eps(model.meta.dataset)[norm])
