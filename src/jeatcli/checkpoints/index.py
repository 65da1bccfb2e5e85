"""The index of a checkpoint of several files, `model.safetensors.index.json`, without torch."""

from pathlib import Path

from ..errors import JeatError
from ..runtime.plain import parsed
from .header import INDEX_ENDING

AGAIN = "copy or download the index and its files again, from one save"


def weight_map(index: Path) -> dict[str, str]:
    """Return the file of each tensor, all of them in the directory of the index.

    Raises:
        JeatError: If the index is damaged, or names what is no file of its directory.
    """
    places = parsed(index.read_bytes()).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise JeatError(f"`{index}` is damaged: it has no `weight_map`", AGAIN)
    for name in places.values():
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or name.endswith(INDEX_ENDING)
            or "\\" in name
            or "\0" in name
        ):
            raise JeatError(
                f"`{index}` names `{str(name)[:80]}`, which is no file of its directory", AGAIN
            )
    return places
