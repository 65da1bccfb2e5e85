"""Randomised smoothing: radii within which a noisy classifier's prediction is certain (l2).

g(x) is the class that a network predicts most often under Gaussian noise of deviation sigma. If it
does so with probability p > 1/2, g is constant within sigma * Phi^-1(p) (Cohen et al. 2019). A
lower bound of p holds with probability 1 - alpha; where it is not above 1/2, g abstains.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
from .evaluation import Evaluation
from .evaluator import Evaluator
from .purification import Randomised, bare
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
        """Return how often each class is predicted for one image x (C, H, W) under noise."""
        seeds = [mix(self.seed, *purpose, draw) for draw in range(draws)]
        found = []
        for first in range(0, draws, self.batch_size):
            rng = ImageRng(seeds[first : first + self.batch_size])
            noise = rng.normal(x.expand(len(rng.generators), *x.shape))
            logits = self.classifier(x + self.sigma * noise)
            found.append(logits.argmax(1).bincount(minlength=logits.shape[1]).cpu())
        return torch.stack(found).sum(0)


def certified(
    evaluation: Evaluation, sampler: Sampler, files: StateFiles | None, reporter: Reporter
) -> list[tuple[int, int]]:
    """Return for each image the class that was selected, and how often it was then predicted.

    What is known is kept in `files`, so that a killed certification goes on.
    """
    draws = evaluation.settings.certification["n"]
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
            top = int(sampler.counts(x, SELECTION, _SELECT, index).argmax())
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
        hard = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).float()
        return hard.clamp_min(1e-12).log()


def smoothed(evaluation: Evaluation) -> tuple[Sampler, Classifier, Classifier]:
    """Return the noisy base classifier, the smoothed one, and what an attack sees in its place."""
    settings, model = evaluation.settings, evaluation.model
    base = accelerate(model.classifier)
    size = settings.batch_size or model.images_at_once(500)
    sampler = Sampler(base, settings.smoothing(model.meta.options), settings.seed, size)
    victim = bare(Smoothed(sampler, _VERDICT, _JUDGE, votes=True))
    return sampler, victim, bare(Smoothed(sampler, _GRADIENT, _ATTACK, votes=False))


def measure(
    evaluation: Evaluation,
    evaluator: Evaluator,
    sampler: Sampler,
    files: StateFiles | None,
    reporter: Reporter,
) -> tuple[dict[str, Any], Tensor | None]:
    """Certify, attack the smoothed classifier, and return the fields of the result that follow."""
    settings, y = evaluation.settings, evaluation.images.y.tolist()
    _, draws, alpha = settings.certification.values()
    if "certificate" not in evaluation.kept:
        evaluation.kept["certificate"] = current().from_main(
            lambda: certified(evaluation, sampler, files, reporter)
        )
    rows: Sequence[tuple[int, int]] = evaluation.kept["certificate"]
    radii = [radius(hits, draws, alpha, sampler.sigma) for _, hits in rows]
    predicted = [None if r is None else top for (top, _), r in zip(rows, radii, strict=True)]
    right = [top == label for top, label in zip(predicted, y, strict=True)]
    # The hundred draws of the attack's verdict would call some of these wrong and not attack them.
    evaluator.known = right
    outcome = evaluator.run()
    broken = _confirmed(evaluation, evaluator, sampler, outcome["samples"]["broken_by"])
    named = zip(outcome["samples"]["broken_by"], right, broken, strict=True)
    broken_by = [name if good and bad else None for name, good, bad in named]
    eps = evaluation.options.threat.eps
    sure = [(r or 0.0) if good else -1.0 for r, good in zip(radii, right, strict=True)]
    grid = torch.linspace(0, max([*sure, eps]), _POINTS).tolist()
    n = len(y)
    outcome["samples"] |= {
        "correct": right,
        "broken_by": broken_by,
        "predicted": predicted,
        "radius": radii,
    }
    left = sum(right)
    for name, counts in outcome["per_attack"].items():
        left -= broken_by.count(name)
        counts |= {"robust": left / n, "broken": broken_by.count(name)}
    outcome |= {"clean": sum(right) / n, "robust": left / n}
    outcome["certificate"] = {
        "sigma": sampler.sigma,
        "n0": SELECTION,
        "n": draws,
        "alpha": alpha,
        "largest": radius(draws, draws, alpha, sampler.sigma),
        "abstained": radii.count(None),
        "certified": sum(r >= eps for r in sure) / n,
        # At most a share alpha of the images is expected here.
        "contradicted": sum(bad and r >= eps for bad, r in zip(broken, sure, strict=True)),
        "curve": {"eps": grid, "certified": [sum(r >= at for r in sure) / n for at in grid]},
    }
    # An image whose break was not confirmed is kept as it is.
    confirmed = torch.tensor([name is not None for name in broken_by]).view(-1, 1, 1, 1)
    assert evaluator.attacked is not None
    return outcome, torch.where(confirmed, evaluator.attacked, evaluator.clean())


def _confirmed(
    evaluation: Evaluation,
    evaluator: Evaluator,
    sampler: Sampler,
    broken_by: Sequence[str | None],
) -> list[bool]:
    """Return which images the smoothed classifier, by all draws, assigns another class for sure."""
    from scipy.stats import binomtest

    _, draws, alpha = evaluation.settings.certification.values()
    attacked, images = evaluator.attacked, evaluation.images
    assert attacked is not None

    def surely(k: int) -> bool:
        x, index = attacked[k].to(images.x.device), int(evaluation.indices[k])
        votes, classes = sampler.counts(x, draws, _CONFIRM, index).topk(2)
        first, second = votes.tolist()
        chance = float(binomtest(first, first + second, 0.5).pvalue)
        return int(classes[0]) != int(images.y[k]) and chance <= alpha

    return [name is not None and surely(k) for k, name in enumerate(broken_by)]
