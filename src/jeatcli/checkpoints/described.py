"""What a `config.json` beside weights of others says of their network: in words, and in doubt."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..runtime.plain import parsed
from ..runtime.progress import Reporter
from .header import CONFIG_FILES, Meta

_LARGEST = 1 << 24  # bytes of a configuration that is read
# What CIFAR-10's classes are called, too.
_OTHER_NAMES = {"plane": "airplane", "car": "automobile"}


def configurations(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the configurations of the Hugging Face libraries beside weights, by their names."""
    for name in CONFIG_FILES:
        place = path.parent / name
        if place.is_file() and place.stat().st_size < _LARGEST:
            yield name, parsed(place.read_bytes())


def architecture(path: Path) -> str:
    """Return which network the configuration of weights names, in words; empty if it names none."""
    for name, content in configurations(path):
        timm, transformers = content.get("architecture"), content.get("architectures")
        if isinstance(timm, str) and re.fullmatch(r"\w+", timm):
            return f"`{name}` names `--arch timm:{timm}`{_options(content)}"
        theirs = str(transformers[0]) if isinstance(transformers, list) and transformers else ""
        if re.fullmatch(r"\w+", theirs):
            return (
                f"`{name}` names `{theirs}`; if transformers has it, its files may name weights "
                "otherwise: save the `state_dict()` of what its `from_pretrained` returns"
            )
    return ""


def warn_of_contradictions(path: Path, meta: Meta, reporter: Reporter) -> None:
    """Say where the configuration of weights has other images or classes than the description."""
    size = "x".join(map(str, meta.shape[1:]))
    sizes: list[str] = []
    for name, content in configurations(path):
        # The last one is of the preprocessor, which knows it better.
        sizes = ["x".join(map(str, each)) for each in _sizes(content)] or sizes
        theirs, ours = _class_names(content), [*map(_plain, meta.classes)]
        if theirs != ours and sorted(theirs) == sorted(ours):
            reporter.warn(
                f"`{name}` of `{path.parent.name}` has the classes in another order than "
                f"{meta.dataset}, {', '.join(theirs[:4])} ..., so labels may not mean the same"
            )
    if sizes and size not in sizes:
        reporter.warn(
            f"the configuration of `{path.parent.name}` records images of "
            f"{' or '.join(dict.fromkeys(sizes))}, but those of {meta.dataset} are {size}, and are "
            "not resized: the network may have been trained on others"
        )


def _sizes(content: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield the heights and widths of images that a configuration records."""
    inside = content.get("pretrained_cfg")
    timm = inside.get("input_size") if isinstance(inside, dict) else content.get("input_size")
    if isinstance(timm, list) and len(timm) == 3:
        timm = timm[1:]
    # Of two sizes a preprocessor resizes to the first, and crops the second out of that.
    crop = content.get("crop_size") if content.get("do_center_crop") else None
    resized = content.get("size") if content.get("do_resize", True) else None
    for value in (timm, content.get("image_size"), crop or resized):
        given = value
        if isinstance(given, dict):
            short = given.get("shortest_edge")
            given = [given.get("height", short), given.get("width", short)]
        if isinstance(given, int):
            given = [given, given]
        if isinstance(given, list) and len(given) == 2 and all(map(_is_count, given)):
            yield given[0], given[1]


def _class_names(content: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes in the order of the logits, if they are recorded."""
    names = content.get("id2label") or content.get("label_names")
    if isinstance(names, dict) and sorted(names) == sorted(map(str, range(len(names)))):
        names = [names[str(number)] for number in range(len(names))]
    return [_plain(name) for name in names] if isinstance(names, list) else []


def _plain(name: object) -> str:
    word = str(name).strip().lower()
    return _OTHER_NAMES.get(word, word)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _options(content: Mapping[str, Any]) -> str:
    """Return with which arguments of its own a network of timm was made, in words."""
    given = content.get("model_args")
    own = given.items() if isinstance(given, dict) else ()
    listed = [f"{key}={value!r}" for key, value in own if key not in ("num_classes", "in_chans")]
    return f", made with `{', '.join(listed)[:200]}`" if listed else ""
