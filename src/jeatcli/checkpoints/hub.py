"""Models of the Hugging Face hub, `hf-hub:OWNER/NAME`, by the extra `hub`."""

import os
from pathlib import Path

from ..errors import JeatError, UsageProblem, needs
from ..runtime.files import cache_dir, link_or_copy, replacing, safe_name
from ..runtime.progress import SILENT, Reporter

PREFIX = "hf-hub:"
_MODEL = "model.safetensors"


def is_hub(run: object) -> bool:
    """Tell whether a RUN is a model of the hub."""
    return isinstance(run, str) and run.startswith(PREFIX)


def is_downloaded(path: Path) -> bool:
    """Tell whether a file is a model that came from the hub."""
    return path.is_relative_to(cache_dir() / "hub")


def download(run: str, reporter: Reporter = SILENT) -> Path:
    """Return the file of `hf-hub:OWNER/NAME[/FILE][@REVISION]`, downloaded once.

    It is called `NAME.safetensors`, by which tables name it, and lies in the cache, which no
    command writes results into.

    Raises:
        UsageProblem: If the name is none.
        JeatError: If the extra is missing, the hub cannot be reached, or there is no such model.
    """
    name, _, revision = run.removeprefix(PREFIX).partition("@")
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not (owner and repository):
        raise UsageProblem(
            f"`{run}` is not the name of a model on the hub", f"write `{PREFIX}OWNER/NAME`"
        )
    with needs("huggingface_hub", "hub", f"`{run}`"):
        from huggingface_hub import hf_hub_download
    model, wanted = f"{owner}/{repository}", file or _MODEL
    reporter.say(f"fetching `{model}` from the hub")
    try:
        found = Path(hf_hub_download(model, wanted, revision=revision or None))
    except Exception as problem:
        reason, hint = _REASONS.get(type(problem).__name__, _NO_NETWORK)
        words = {"run": run, "file": wanted}
        raise JeatError(
            f"cannot fetch `{run}`: {reason.format(**words)}", hint.format(**words)
        ) from problem
    label = safe_name("-".join(part for part in (repository, Path(file).stem, revision) if part))
    place = cache_dir() / "hub" / safe_name(owner) / f"{label}{Path(wanted).suffix}"
    if not (place.is_file() and os.path.samefile(place, found)):
        with replacing(place) as beside:
            link_or_copy(found.resolve(), beside)
    return place


# What the errors of huggingface_hub mean, and what helps; `{run}` and `{file}` are filled in.
_NOT_THERE = ("it has no file `{file}`", "name one: `{run}/FILE`")
_REASONS = {
    "RepositoryNotFoundError": (
        "there is no such model",
        "check the name; if it is private, `hf auth login`",
    ),
    "GatedRepoError": (
        "its owner restricts who may download it",
        "ask for access on the model's page, then `hf auth login`",
    ),
    "RevisionNotFoundError": ("there is no such revision", "leave out what follows `@`"),
    "EntryNotFoundError": _NOT_THERE,
    "RemoteEntryNotFoundError": _NOT_THERE,
    "HFValidationError": ("that is not the name of a model", "write `hf-hub:OWNER/NAME`"),
}
_NO_NETWORK = (
    "the hub cannot be reached, and the model is not in its cache",
    "check the network, or download the model's file elsewhere and name its path",
)
