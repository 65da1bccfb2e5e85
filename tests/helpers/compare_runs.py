"""Two runs compared: every tensor of their checkpoints and every line of their logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from jeatcli.checkpoints import runs


def tensors(folder: Path | str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name in (runs.MODEL_FILE, runs.STATE_FILE, runs.BEST_FILE):
        if not (Path(folder) / name).exists():
            continue
        found |= {f"{name}:{key}": value for key, value in load_file(Path(folder) / name).items()}
    return found


def lines(folder: Path | str) -> list[dict[str, Any]]:
    text = (Path(folder) / "metrics.jsonl").read_text()
    timed = ("seconds", "images_per_second")
    loaded = [json.loads(line) for line in text.splitlines()]
    return [{key: each[key] for key in each if key not in timed} for each in loaded]


def same(left: Path | str, right: Path | str) -> None:
    ours, theirs = tensors(left), tensors(right)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key
    assert lines(left) == lines(right)
