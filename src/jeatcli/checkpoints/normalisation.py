"""The normalisation of a checkpoint of others: what is said, what its file holds, or none."""

from collections.abc import Sequence
from pathlib import Path

from ..data.facts import dataset_facts
from ..errors import UsageProblem
from ..runtime.progress import Reporter
from .settings import Foreign, check_normalisation
from .state_dict import StateDict

Normalisation = tuple[Sequence[float], Sequence[float]]


def chosen(
    path: Path, foreign: Foreign, found: StateDict, reporter: Reporter
) -> Normalisation | None:
    """Return mean and std: what is said, else what the file holds; None if neither is there."""
    own = None if found.mean is None or found.std is None else (found.mean, found.std)
    if foreign.mean is not None and foreign.std is not None:
        if own and found.applied and not _near(own, (foreign.mean, foreign.std)):
            reporter.say(
                f"`{path.name}` contains the normalisation {_words(*own)}; the given one is used"
            )
        return foreign.mean, foreign.std
    if own is None:
        return None
    if not found.applied:
        words = _words(*own) if own[0] else "as NumPy arrays or words"
        where = path.with_name(found.where)
        raise UsageProblem(
            f"`{where}` records a normalisation, {words}, which its network may not apply",
            "give `--mean` and `--std`: these, or 0 and 1",
        )
    try:
        check_normalisation(*own)
    except UsageProblem as problem:
        hint = "give `--mean` and `--std`, of pixels in [0, 1]"
        raise UsageProblem(f"`{path}`: {problem.message}", hint) from problem
    reporter.say(f"normalisation of `{path.name}`: {_words(*own)}")
    return own


def customary(path: Path, dataset: str | None, reporter: Reporter) -> Normalisation:
    """Return the data set's mean and std, for a network that is known to have none inside."""
    facts = dataset_facts(str(dataset))
    if facts is None:
        return stated(path, None, None)
    reporter.say(
        f"`{path.name}` contains no normalisation, so that of {dataset} is used: "
        f"{_words(facts.mean, facts.std)}"
    )
    return facts.mean, facts.std


def stated(path: Path, mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation:
    """Return a normalisation; it is asked for where a network may have one inside, or not."""
    if mean is None or std is None:
        raise UsageProblem(
            f"the normalisation of `{path}` is unknown",
            "give `--mean` and `--std`; 0 and 1 if the network does so itself",
        )
    return mean, std


def _near(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    """Compare two normalisations, of which a single number is for all channels."""
    return all(
        abs(a - b) < 0.002
        for ours, theirs in zip(one, other, strict=True)
        for a, b in zip(ours, [*theirs] * (len(ours) if len(theirs) == 1 else 1), strict=False)
    )


def _words(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    listed = [",".join(f"{value:.4g}" for value in values) for values in (mean, std)]
    return f"`--mean {listed[0]} --std {listed[1]}`"
