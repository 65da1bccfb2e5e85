"""What the errors of huggingface_hub mean, and what helps."""

import errno
import os
from collections.abc import Sequence

from ..errors import JeatError
from ..runtime.files import FULL

# `{model}`, `{plain}`, `{files}` are filled in: the RUN of a file, the model, what was asked for.
_NOT_THERE = ("it has no file {files}", "name one: `{model}`")
_LATER = "try again later; files that are complete are kept"
_BROKEN = ("the download broke off", _LATER)
# By the names of their classes.
_REASONS = {
    "GatedRepoError": (
        "its owner restricts who may download it",
        "ask for access on the model's page, then `hf auth login`",
    ),
    "RepositoryNotFoundError": (
        "there is no such model",
        "check the name; if it is private, `hf auth login`",
    ),
    "DisabledRepoError": ("the hub has disabled it", "name another model, or the path of a copy"),
    "RevisionNotFoundError": ("there is no such revision", "leave out what follows `@`"),
    "HFValidationError": ("that is not the name of a model", "write `hf-hub:OWNER/NAME`"),
    "OfflineModeIsEnabled": (
        "`HF_HUB_OFFLINE` is set, and {files} is not in the hub's cache",
        "download it where there is a network: `hf download {plain}`",
    ),
    "RemoteProtocolError": _BROKEN,
    "ReadError": _BROKEN,
    "ReadTimeout": _BROKEN,
}
_STATUSES = {
    401: (
        "the hub asks for a login, or does not accept your token",
        "`hf auth login`; a token in `HF_TOKEN` comes before it",
    ),
    403: ("your token does not allow it", "`hf auth login` with a token that may read it"),
    429: ("the hub refuses more requests for now (HTTP 429)", f"{_LATER}, or `hf auth login`"),
}
_NO_NETWORK = (
    "the hub cannot be reached, and {files} is not in its cache",
    "check the network, or download the model's file elsewhere and name its path",
)


def is_no_such_file(problem: Exception) -> bool:
    """Tell whether the hub says that a model has no such file."""
    names = _names(problem)
    return "EntryNotFoundError" in names and "LocalEntryNotFoundError" not in names


def explained(
    run: str, files: Sequence[str], problem: Exception, there: Sequence[str] = ("FILE",)
) -> JeatError:
    """Return the error that says why one of some files of a RUN was not downloaded.

    `there` are files that the model has, as far as that is known.
    """
    plain, at, revision = run.removeprefix("hf-hub:").partition("@")
    plain = "/".join(plain.split("/")[:2])
    words = {
        "{model}": "` or `".join(f"hf-hub:{plain}/{file}{at}{revision}" for file in there),
        "{plain}": plain + (f" --revision {revision}" if at else ""),
        "{files}": " or ".join(f"`{file}`" for file in files),
    }
    reason, hint = _meaning(problem)
    for name, word in words.items():
        reason, hint = reason.replace(name, word), hint.replace(name, word)
    return JeatError(f"cannot fetch `{run}`: {reason}", hint)


def _meaning(problem: Exception) -> tuple[str, str]:
    """Return what an error means, or else the one that caused it, and what helps."""
    if is_no_such_file(problem):
        return _NOT_THERE
    each: BaseException | None = problem
    while each is not None:
        for name in _names(each):
            if name in _REASONS:
                return _REASONS[name]
        status = getattr(getattr(each, "response", None), "status_code", 0)
        if status:
            return _STATUSES.get(status, (f"the hub answers HTTP {status}", _LATER))
        if isinstance(each, OSError) and (each.errno in FULL or each.filename):
            where = os.path.dirname(os.fspath(each.filename)) if each.filename else ""
            place = f" `{where}`" if where else ""
            return (
                f"cannot write into the hub's cache{place}: {os.strerror(each.errno or errno.EIO)}",
                "free some space, or name another place by `HF_HOME`",
            )
        each = each.__cause__ or each.__context__
    if "Consistency check" in str(problem):
        return _BROKEN
    return _NO_NETWORK


def _names(problem: BaseException) -> list[str]:
    return [kind.__name__ for kind in type(problem).__mro__]
