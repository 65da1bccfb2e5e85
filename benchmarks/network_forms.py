"""One network in five forms: the same verdicts for every image, and the seconds of each.

    pip install -e ".[onnx]"
    python benchmarks/network_forms.py resnet20-12fca82f.th [-n 500]

The file is Idelbayev's ResNet-20 for CIFAR-10. It is attacked by its name here, as code of the
user's own (`FILE.py:FUNCTION`), as a module (`wrap`), as a program of `torch.export` and as one of
ONNX. All search in float32. A line for each attack and form: clean and robust accuracy, on how many
images the verdict differs from the first form's, and the seconds of the clock and the processor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from jeatcli import Foreign, attack, load, wrap
from jeatcli.checkpoints.model import Model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CODE = Path(__file__).parents[1] / "tests" / "helpers" / "own_network.py"


def forms(path: Path, folder: Path) -> Iterator[tuple[str, Model]]:
    """Yield the network in each form."""
    yield (
        "cifar-resnet-20",
        load(path, device="cpu", foreign=Foreign("cifar-resnet-20", "cifar10", MEAN, STD)),
    )
    code = Foreign(f"{CODE}:resnet20", "cifar10", MEAN, STD)
    yield "file.py:function", load(path, device="cpu", foreign=code)
    sys.path.insert(0, str(CODE.parent))
    from own_network import resnet20

    net = resnet20()
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("module."): value for key, value in content.items()})
    yield "wrap", wrap(net.eval(), dataset="cifar10", mean=MEAN, std=STD)
    x = (torch.rand(2, 3, 32, 32),)
    brought = Foreign(None, "cifar10", MEAN, STD)
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, x, dynamic_shapes=sizes), folder / "net.pt2")
    yield "net.pt2", load(folder / "net.pt2", device="cpu", foreign=brought)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            x,
            folder / "net.onnx",
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
            opset_version=13,
        )
    yield "net.onnx", load(folder / "net.onnx", device="cpu", foreign=brought)


def main() -> None:
    """Attack each form, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path, metavar="FILE")
    parser.add_argument("-n", type=int, default=500, help="number of test images")
    parser.add_argument("--eps", type=float, default=1 / 255, help="linf radius")
    parser.add_argument("--data-dir", type=Path)
    parsed = parser.parse_args()
    settings = {"eps": parsed.eps, "num": parsed.n, "data_dir": parsed.data_dir, "exact": True}
    first: dict[str, list[tuple[object, ...]]] = {}
    names = ("clean", "robust", "differ", "seconds", "processor")
    print(f"{'attack':<10} {'form':<17}" + "".join(f"{name:>10}" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        for form, model in forms(parsed.path, Path(folder)):
            for name in ("pgd", "apgd-ce"):
                began = time.perf_counter(), time.process_time()
                found = attack(model, attacks=(name,), device="cpu", **settings)
                seconds = time.perf_counter() - began[0], time.process_time() - began[1]
                verdicts = [*zip(*found.samples.values(), strict=True)]
                expected = first.setdefault(name, verdicts)
                differ = sum(a != b for a, b in zip(expected, verdicts, strict=True))
                print(
                    f"{name:<10} {form:<17}{found.clean:>10.3f}{found.robust:>10.3f}"
                    f"{differ:>10}{seconds[0]:>10.1f}{seconds[1]:>10.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
