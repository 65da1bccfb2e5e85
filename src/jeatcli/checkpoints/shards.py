"""Checkpoints of several files, which an index beside them lists: `model.safetensors.index.json`.

The Hugging Face libraries write them. Index and files are read as data, and each file is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import JeatError
from .header import NotOurs, read_header
from .index import AGAIN, weight_map
from .key_match import list_names


def read_shards(index: Path, read: Callable[[Path], Any]) -> dict[str, Tensor]:
    """Return the tensors of all files of an index, each file read by `read`.

    Raises:
        JeatError: If the index or a file is damaged, a file is missing, or holds other names than
            the index says.
    """
    places = weight_map(index)
    files = dict.fromkeys(places.values())
    if missing := [name for name in files if not (index.parent / name).is_file()]:
        raise JeatError(
            f"`{index}` names files that are not beside it: {list_names(missing)}",
            "copy or download all files of the checkpoint into one directory",
        )
    found: dict[str, Tensor] = {}
    for name in files:
        path = index.parent / name
        with suppress(NotOurs):  # what else it says of a file, such as that it is cut short
            read_header(path)
        content = read(path)
        held = content if isinstance(content, Mapping) else {}
        wanted = {key for key, file in places.items() if file == name}
        for names, problem in (
            ([key for key in wanted if not isinstance(held.get(key), Tensor)], "lacks"),
            ([str(key) for key in held if key not in wanted], "has besides"),
        ):
            if names:
                said = f"`{path}` {problem} what `{index.name}` says: {list_names(sorted(names))}"
                raise JeatError(said, AGAIN)
        found |= held
    return {key: found[key] for key in places}
