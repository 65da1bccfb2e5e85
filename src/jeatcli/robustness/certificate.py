"""Randomised smoothing: radii within which a noisy classifier's prediction is certain (l2).

g(x) is the class that a network predicts most often under Gaussian noise of deviation sigma. If it
does so with probability p > 1/2, g is constant within sigma * Phi^-1(p) (Cohen et al. 2019). A
lower bound of p holds with probability 1 - alpha; where it is not above 1/2, g abstains.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..acceleration.twins import accelerate
from ..core.models.classifier import Classifier
from ..core.rng import ImageRng, mix
from ..data.images import to_unit_range
from ..errors import JeatError
from ..runtime.digests import digest
from ..runtime.distributed import current
from ..runtime.files import write_atomic
from ..runtime.progress import Reporter
from .attacks.batch import predictions
from .evaluation import Evaluation
from .evaluator import Evaluator
from .purification import Randomised, bare
from .settings import Certification
from .state import StateFiles

# The draws that select the class whose probability is then bounded (Cohen et al. 2019).
SELECTION = 100
# The draws by which an attack sees the smoothed classifier: in a gradient, and in its verdict,
# which the full number confirms.
_GRADIENT, _VERDICT = 8, 100
_POINTS = 41
_SELECT, _BOUND, _CONFIRM, _ATTACK, _JUDGE = range(1, 6)
_FILE = "certificate.json"


def lower_bound(hits: int, draws: int, alpha: float) -> float:
    """Return the one-sided bound of Clopper and Pearson (1934) on a probability."""
    from scipy.stats import beta  # takes a second, and other attacks have no use for it

    return float(beta.ppf(alpha, hits, draws - hits + 1)) if hits else 0.0


def radius(hits: int, draws: int, alpha: float, sigma: float) -> float | None:
    """Return the certified radius, or None for an abstention."""
    from scipy.stats import norm

    bound = lower_bound(hits, draws, alpha)
    return sigma * float(norm.ppf(bound)) if bound > 0.5 else None


@dataclass(frozen=True)
class Sampler:
    """A base classifier and its noise."""

    classifier: Classifier
    sigma: float
    seed: int
    batch_size: int

    @torch.no_grad()
    def counts(self, x: Tensor, draws: int, *purpose: int) -> Tensor:
        """Return how often each class is predicted for one image x (C, H, W) under noise, (K + 1,).

        The last number is of the draws whose logits are NaN, which are no prediction.
        """
        seeds = [mix(self.seed, *purpose, draw) for draw in range(draws)]
        found = []
        for first in range(0, draws, self.batch_size):
            rng = ImageRng(seeds[first : first + self.batch_size])
            noise = rng.normal(x.expand(len(rng.generators), *x.shape))
            logits = self.classifier(x + self.sigma * noise)
            classes = logits.shape[1]
            predicted = predictions(logits) % (classes + 1)  # -1 is NaN
            found.append(predicted.bincount(minlength=classes + 1).cpu())
        return torch.stack(found).sum(0)


def certified(
    evaluation: Evaluation, sampler: Sampler, files: StateFiles | None, reporter: Reporter
) -> list[tuple[int, int]]:
    """Return for each image the class that was selected, and how often it was then predicted.

    What is known is kept in `files`, so that a killed certification goes on.
    """
    draws = evaluation.settings.certification.n
    images, path = evaluation.images, files and files.folder / _FILE
    rows: list[tuple[int, int]] = []
    if path and path.is_file():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["digest"] != digest(rows=kept["rows"]):
                raise ValueError
            rows = [(top, hits) for top, hits in kept["rows"]]
        except (OSError, ValueError, TypeError, KeyError):
            reporter.warn(f"the saved state `{path}` is damaged: starting over")
    with reporter.track("certificate", len(images), done=len(rows)) as bar:
        for k in range(len(rows), len(images)):
            x, index = to_unit_range(images.x[k]), int(evaluation.indices[k])
            top = int(sampler.counts(x, SELECTION, _SELECT, index)[:-1].argmax())
            rows.append((top, int(sampler.counts(x, draws, _BOUND, index)[top])))
            bar(1)
            if path and (len(rows) % 16 == 0 or len(rows) == len(images)):
                text = json.dumps({"rows": rows, "digest": digest(rows=rows)})
                try:
                    write_atomic(path, partial(Path.write_text, data=text, encoding="utf-8"))
                except JeatError as problem:
                    reporter.warn(f"{problem.message}; the certificate cannot be resumed")
                    path = None
    return rows


class Smoothed(Randomised):
    """The log of the mean probabilities, or the shares of the votes, under noise."""

    def __init__(self, sampler: Sampler, draws: int, purpose: int, votes: bool) -> None:
        super().__init__(sampler.classifier, mix(sampler.seed, purpose), draws)
        self.sigma, self.votes = sampler.sigma, votes

    def drawn(self, x: Tensor, seeds: list[int]) -> Tensor:
        logits: Tensor = self.classifier(x + self.sigma * ImageRng(seeds).normal(x))
        if not self.votes:
            return logits
        classes = torch.arange(logits.shape[1], device=x.device)
        # NaN is a vote for none.
        return (predictions(logits)[:, None] == classes).float().clamp_min(1e-12).log()


def base_classifier(evaluation: Evaluation) -> Sampler:
    """Return the classifier that is to be smoothed, and its noise."""
    settings, model = evaluation.settings, evaluation.model
    size = settings.batch_size or model.images_at_once(500)
    sigma = settings.smoothing(model.meta.options)
    return Sampler(accelerate(model.classifier), sigma, settings.seed, size)


def smoothed(sampler: Sampler) -> tuple[Classifier, Classifier]:
    """Return the smoothed classifier, and what an attack sees in its place."""
    victim = bare(Smoothed(sampler, _VERDICT, _JUDGE, votes=True))
    return victim, bare(Smoothed(sampler, _GRADIENT, _ATTACK, votes=False))


@dataclass(frozen=True)
class Radii:
    """What is certified of each image."""

    predicted: list[int | None]  # the class of the smoothed classifier, None for an abstention
    radii: list[float | None]  # within which it is certain
    right: list[bool]  # whether it is the label

    @classmethod
    def of(
        cls, votes: Sequence[tuple[int, int]], y: Sequence[int], how: Certification, sigma: float
    ) -> Self:
        """Return the radii of the images with these votes and labels."""
        radii = [radius(hits, how.n, how.alpha, sigma) for _, hits in votes]
        predicted = [None if r is None else top for (top, _), r in zip(votes, radii, strict=True)]
        right = [top == label for top, label in zip(predicted, y, strict=True)]
        return cls(predicted, radii, right)

    def curve(self, eps: float) -> dict[str, list[float]]:
        """Return the certified accuracy from radius 0 to the largest, or to `eps` if it is more."""
        grid = torch.linspace(0, max([*self.sure, eps]), _POINTS).tolist()
        return {"eps": grid, "certified": [self.accuracy(at) for at in grid]}

    def accuracy(self, eps: float) -> float:
        """Return the share of the images that are certified to be right within `eps`."""
        return sum(r >= eps for r in self.sure) / len(self.sure)

    @cached_property
    def sure(self) -> list[float]:
        """The radii within which an image is certainly right, -1 where it is wrong."""
        pairs = zip(self.radii, self.right, strict=True)
        return [(r or 0.0) if good else -1.0 for r, good in pairs]


def measure(
    evaluation: Evaluation,
    evaluator: Evaluator,
    sampler: Sampler,
    files: StateFiles | None,
    reporter: Reporter,
) -> tuple[dict[str, Any], Tensor | None]:
    """Certify, attack the smoothed classifier, and return the fields of the result that follow."""
    how, eps = evaluation.settings.certification, evaluation.options.threat.eps
    if not evaluation.votes:
        evaluation.votes.extend(
            current().from_main(lambda: certified(evaluation, sampler, files, reporter))
        )
    known = Radii.of(evaluation.votes, evaluation.images.y.tolist(), how, sampler.sigma)
    # The hundred draws of the attack's verdict would call some of these wrong and not attack them.
    evaluator.known = known.right
    outcome = evaluator.run()
    broken = _confirmed(evaluation, evaluator, sampler, outcome["samples"]["broken_by"])
    _correct(outcome, known, broken)
    outcome["certificate"] = {
        "sigma": sampler.sigma,
        "n0": SELECTION,
        "n": how.n,
        "alpha": how.alpha,
        "largest": radius(how.n, how.n, how.alpha, sampler.sigma),
        "abstained": known.radii.count(None),
        "certified": known.accuracy(eps),
        # At most a share alpha of the images is expected here.
        "contradicted": sum(bad and r >= eps for bad, r in zip(broken, known.sure, strict=True)),
        "curve": known.curve(eps),
    }
    # An image whose break was not confirmed is kept as it is.
    broken_by = outcome["samples"]["broken_by"]
    confirmed = torch.tensor([name is not None for name in broken_by]).view(-1, 1, 1, 1)
    assert evaluator.attacked is not None
    return outcome, torch.where(confirmed, evaluator.attacked, evaluator.clean())


def _correct(outcome: dict[str, Any], known: Radii, broken: Sequence[bool]) -> None:
    """Put the verdicts of all draws in place of those that the attack's few draws gave."""
    named = zip(outcome["samples"]["broken_by"], known.right, broken, strict=True)
    broken_by = [name if good and bad else None for name, good, bad in named]
    outcome["samples"] |= {
        "correct": known.right,
        "broken_by": broken_by,
        "predicted": known.predicted,
        "radius": known.radii,
    }
    n = len(broken_by)
    left = sum(known.right)
    outcome["clean"] = left / n
    for name, counts in outcome["per_attack"].items():
        left -= broken_by.count(name)
        counts |= {"robust": left / n, "broken": broken_by.count(name)}
    outcome["robust"] = left / n


def _confirmed(
    evaluation: Evaluation,
    evaluator: Evaluator,
    sampler: Sampler,
    broken_by: Sequence[str | None],
) -> list[bool]:
    """Return which images the smoothed classifier, by all draws, assigns another class for sure."""
    from scipy.stats import binomtest

    how = evaluation.settings.certification
    attacked, images = evaluator.attacked, evaluation.images
    assert attacked is not None

    def surely(k: int) -> bool:
        x, index = attacked[k].to(images.x.device), int(evaluation.indices[k])
        votes, classes = sampler.counts(x, how.n, _CONFIRM, index).topk(2)
        first, second = votes.tolist()
        chance = float(binomtest(first, first + second, 0.5).pvalue)
        return int(classes[0]) != int(images.y[k]) and chance <= how.alpha

    return [name is not None and surely(k) for k, name in enumerate(broken_by)]
