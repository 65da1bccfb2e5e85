"""Models of the Hugging Face hub, `hf-hub:OWNER/NAME`, by the extra `hub`."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import JeatError, UsageProblem, needs
from ..runtime.files import cache_dir, link_or_copy, replacing, safe_name
from ..runtime.progress import SILENT, Reporter
from .header import (
    CONFIG_FILES,
    FOLDER_FILES,
    INDEX_ENDING,
    MODEL_FILE,
    WEIGHT_ENDINGS,
    NotOurs,
    read_header,
)
from .hub_errors import explained, is_no_such_file
from .index import weight_map

PREFIX = "hf-hub:"
_LISTED = 5  # of the files that a model has where the one is missing that is asked for
_ENDINGS = (".safetensors", ".bin", ".tar", *WEIGHT_ENDINGS)
_Fetch = Callable[..., Path]


def is_hub(run: object) -> bool:
    """Tell whether a RUN is a model of the hub."""
    return isinstance(run, str) and run.startswith(PREFIX)


def is_downloaded(path: Path) -> bool:
    """Tell whether a file is of a model that came from the hub, after which its folder is named."""
    return path.is_relative_to(cache_dir() / "hub")


def download(run: str, reporter: Reporter = SILENT) -> Path:
    """Return the weights of `hf-hub:OWNER/NAME[/FILE][@REVISION]`, each file downloaded once.

    Without a FILE they are the first of those that directories are searched for. What belongs to
    them lies beside them, all of one revision: the files of an index, and the configuration of
    third-party weights. Their directory is called NAME, by which tables name the model, and is in
    the cache, which no command writes results into.

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

    def fetch(file: str, revision: str, local: bool = False) -> Path:
        found = hf_hub_download(
            f"{owner}/{repository}", file, revision=revision or None, local_files_only=local
        )
        return Path(found)

    reporter.say(f"fetching `{owner}/{repository}` from the hub")
    weights = _weights(run, fetch, [file] if file else [MODEL_FILE, *FOLDER_FILES], revision)
    depth = file.count("/")
    folder, commit = file.rpartition("/")[0], weights.parents[depth].name
    stem = Path(file.removesuffix(INDEX_ENDING)).stem
    label = safe_name("-".join(filter(None, (repository, stem, revision))))
    place = cache_dir().joinpath(
        "hub", safe_name(owner), commit, *map(safe_name, folder.split("/")[:depth]), label
    )
    for found in _companions(run, fetch, weights, folder, commit, reporter):
        _put(found, place / found.name)
    # Of another name than in a run, which results are written into.
    name = weights.name if _is_index(weights) else f"{label}{weights.suffix}"
    return _put(weights, place / name)


def _weights(run: str, fetch: _Fetch, files: Sequence[str], revision: str) -> Path:
    """Return the first file that there is; without a network, that is in the hub's cache."""
    missing: list[Exception] = []
    failures: list[Exception] = []
    for file in files:
        try:
            return fetch(file, revision, local=bool(failures))
        except Exception as problem:
            (missing if is_no_such_file(problem) else failures).append(problem)
    there = [] if failures else _files(run, revision)
    reason = (failures or missing)[0]
    raise explained(run, files, reason, there or ["FILE"]) from reason


def _files(run: str, revision: str) -> list[str]:
    """Return the first files of a model that may be weights, if the hub lists them."""
    from huggingface_hub import list_repo_files

    with suppress(Exception):
        files = list_repo_files(_model(run), revision=revision or None)
        return [file for file in files if file.lower().endswith(_ENDINGS)][:_LISTED]
    return []


def _model(run: str) -> str:
    """Return the OWNER/NAME of a RUN."""
    return "/".join(run.removeprefix(PREFIX).partition("@")[0].split("/")[:2])


def _companions(
    run: str, fetch: _Fetch, weights: Path, folder: str, commit: str, reporter: Reporter
) -> list[Path]:
    """Return what belongs to weights: the files of an index, and of others their configuration."""
    beside = f"{folder}/" if folder else ""
    found = []
    shards = [*dict.fromkeys(weight_map(weights).values())] if _is_index(weights) else []
    for number, file in enumerate(shards):
        if number:
            reporter.say(f"fetching file {number + 1} of {len(shards)}")
        try:
            found.append(fetch(beside + file, commit))
        except Exception as problem:
            raise explained(run, [beside + file], problem) from problem
    for file in CONFIG_FILES if _is_foreign(weights) else ():
        try:
            found.append(fetch(beside + file, commit))
        except Exception as problem:
            if not (is_no_such_file(problem) or _is_known_to_lack(run, beside + file, commit)):
                why = explained(run, [beside + file], problem).message
                reporter.warn(f"{why}; a normalisation in `{file}` would not be noticed")
    return found


def _is_index(path: Path) -> bool:
    return path.name.endswith(INDEX_ENDING)


def _is_foreign(path: Path) -> bool:
    """Tell whether a file is somebody else's; the one who reads it says what is wrong with it."""
    try:
        read_header(path)
    except NotOurs:
        return True
    except JeatError:
        return False
    return False


def _is_known_to_lack(run: str, file: str, commit: str) -> bool:
    """Tell whether the hub said earlier that there is no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return try_to_load_from_cache(_model(run), file, revision=commit) is _CACHED_NO_EXIST


def _put(found: Path, place: Path) -> Path:
    """Give a file of the hub's cache its place in ours, and return that."""
    if not (place.is_file() and os.path.samefile(place, found)):
        with replacing(place) as beside:
            link_or_copy(found.resolve(), beside)
    return place
