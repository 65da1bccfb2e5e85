"""Which files `jeat sample` writes, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageProblem
from ..runtime.files import safe_name

FORMATS = {"grid": ".png", "png": "", "npz": ".npz"}


def check_pictures(
    layout: str, scale: int | None, trace: Path | None, preview: bool, best_of: int | None
) -> None:
    """Refuse pictures that there will not be.

    Raises:
        UsageProblem: Naming what stands in the way.
    """
    for name, value in {"scale": scale, "trace": trace, "preview": preview}.items():
        if value and layout != "grid":
            raise UsageProblem(
                f"`--{name}` goes with a grid, not `--format {layout}`",
                "leave one of the two out",
            )
    if trace and best_of not in (None, 1):
        raise UsageProblem(
            "`--trace` shows the way of an image, and `--best-of` draws several of each",
            "leave one of the two out",
        )


def name_for(settings: Mapping[str, Any]) -> str:
    """Return what the file is called if the user does not say."""
    if settings["interpolate"]:
        what = "-to-".join(settings["interpolate"])
    else:
        what = "-".join(settings["classes"])
    source = settings["image"] or settings["inpaint"]
    return safe_name(f"{f'{source.stem}-' if source else ''}{what}") + f"-seed{settings['seed']}"


def pictures_in(folder: Path) -> list[Path]:
    """Return the first picture that goes into a folder, and the numbered ones already there."""
    numbered = [path for path in folder.glob("*.png") if re.fullmatch("[0-9]+", path.stem)]
    return sorted({folder / "000000.png", *numbered})


def layout_of(out: Path | None) -> str:
    """Read off the ending of `out` what is wanted."""
    return "npz" if out is not None and out.suffix.lower() == ".npz" else "grid"


def destination(out: Path | None, layout: str, home: Path, name: str) -> Path:
    """Return the file or directory to write: `out`, something of that name in it, or in `home`.

    Raises:
        UsageProblem: If the ending of `out` is another format's.
    """
    ending = FORMATS[layout]
    if out is None:
        return home / f"{name}{ending}"
    if layout == "png":
        if out.suffix.lower() in (".png", ".npz") and not out.is_dir():
            raise UsageProblem(
                f"`--format png` writes a directory, not `{out}`", "name a directory with `-o`"
            )
        return out
    if out.is_dir() or not out.suffix:
        return out / f"{name}{ending}"
    if out.suffix.lower() != ending:
        raise UsageProblem(
            f"`--format {layout}` writes a {ending} file, not `{out}`",
            f"name a file that ends in {ending}",
        )
    return out
