"""`jeat --info`: what a report of a bug needs to say of the machine."""

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from ..checkpoints.runs import size_of
from ..errors import JeatError
from ..runtime.files import cache_dir, data_dir, runs_dir
from . import output

_PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "matplotlib", "pillow", "safetensors"),
    *("torch-fidelity", "click", "rich"),
    *("timm", "onnx2torch", "huggingface_hub", "tensorboard", "wandb", "trackio"),
)
_ABSENT = "not installed"


def show(as_json: bool) -> None:
    """Print the versions, the device, the precision and why, the directories and their sizes."""
    about = collect()
    output.emit(output.document("info", about), as_json, lambda: report(about))


def version(distribution: str) -> str:
    """Return the version of an installed package, or that it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return _ABSENT


def collect() -> dict[str, Any]:
    """Return what there is to say of this machine, ready for JSON."""
    import torch

    from ..runtime import devices

    try:
        device = devices.pick(os.environ.get("JEAT_DEVICE", "auto"))
    except JeatError as problem:
        where: dict[str, Any] = {"device": problem.message, "precision": None, "why": None}
    else:
        precision = devices.precision_name(devices.autocast_type("auto", device))
        where = {"device": _device(device), "precision": precision, "why": _why(device)}
    places = {"runs": runs_dir(), "data": data_dir(), "cache": cache_dir()}
    caches = sorted(path for path in cache_dir().glob("*") if path.is_dir())
    return {
        "version": version("jeat-cli"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": devices.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **where,
        "compiler": os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++"),
        "directories": {name: _directory(path) for name, path in places.items()},
        "caches": {path.name: size_of(path) for path in caches},
        "packages": {name: version(name) for name in _PACKAGES},
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith("JEAT_") or name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        },
    }


def _device(device: Any) -> str:
    import torch

    if device.type != "cuda":
        return str(device)
    memory = torch.cuda.get_device_properties(device).total_memory
    return f"{device} ({torch.cuda.get_device_name(device)}, {output.size(memory)})"


def _why(device: Any) -> str:
    """Say why `--precision auto` takes what it takes on this device."""
    from ..runtime.devices import bf16_gain

    if device.type == "cpu":
        return f"{bf16_gain():.2g} times as fast in bf16 as in fp32, measured just now"
    return "the GPU has bf16" if device.type == "cuda" else "bf16 is not used there"


def _directory(path: Path) -> dict[str, Any]:
    """Return the path, the bytes in it, and those that are free on its disk."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return {"path": path, "bytes": size_of(path), "free": shutil.disk_usage(there).free}


def report(about: dict[str, Any]) -> str:
    """Write it as a table, to be pasted into a report."""
    versions = about["packages"].items()
    packages = [f"{name} {number}" for name, number in versions if number != _ABSENT]
    absent = [name for name, number in versions if number == _ABSENT]
    rows = [
        ("jeat", f"{about['version']}, Python {about['python']}"),
        ("platform", about["platform"]),
        ("processor", f"{about['processor']}, {about['cores']} logical CPUs"),
        ("device", about["device"]),
        ("precision", f"{about['precision']} ({about['why']})"),
        ("threads", f"{about['threads']}"),
        ("compiler", about["compiler"] or "none (`--compile` needs one)"),
    ]
    for name, place in about["directories"].items():
        used, free = output.size(place["bytes"]), output.size(place["free"])
        rows.append((name, f"{place['path']} ({used}, {free} free)"))
    rows += [(f"  {name}", output.size(count)) for name, count in about["caches"].items()]
    rows += [
        ("packages" if not k else "", ", ".join(packages[k : k + 3]))
        for k in range(0, len(packages), 3)
    ]
    rows += [(_ABSENT, ", ".join(absent))] if absent else []
    rows += [(name, value) for name, value in about["environment"].items()]
    return output.Section(rows, header=False).text()
