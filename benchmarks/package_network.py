"""Make the package's network of a run: half precision, the directions that a start needs, a header.

    python benchmarks/package_network.py RUN about.json pretrained.safetensors

Weights of convolutions and class statistics are rounded to float16, which is as small as bfloat16
and has three bits more; scales, shifts and running statistics stay float32. Of each class the
leading directions that `pca` starts from are kept, and the variance of the others goes to `ridge`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from jeatcli.checkpoints.checkpoint import load, write_tensors
from jeatcli.core.class_gaussians import PCA_COMPONENTS, ClassGaussians


def shortened(gaussians: ClassGaussians, rank: int) -> ClassGaussians:
    """Return the statistics with fewer directions, their variance spread over all that are left."""
    factor, size = gaussians.factor, gaussians.mean[0].numel()
    left_out = factor[:, rank:].square().flatten(1).sum(1)
    known = (gaussians.ridge - 1e-4) * (size - factor.shape[1])
    return ClassGaussians(
        gaussians.mean, factor[:, :rank], (known + left_out) / (size - rank) + 1e-4
    )


def rounded(tensor: Tensor) -> Tensor:
    """Return a tensor of several dimensions in float16, another one as it is."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def main() -> None:
    """Write the file, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="a run, or its model.safetensors")
    parser.add_argument("about", type=Path, help="licence, commands and figures, as JSON")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    model = load(given.run, device="cpu")
    assert model.statistics is not None
    kept = shortened(model.statistics, PCA_COMPONENTS)
    tensors = {
        f"classifier.{key}": rounded(value) for key, value in model.classifier.state_dict().items()
    }
    tensors |= {f"statistics.{key}": rounded(value) for key, value in vars(kept).items()}
    meta = replace(model.meta, about=json.loads(given.about.read_text()))
    write_tensors(given.out, tensors, asdict(meta))
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
