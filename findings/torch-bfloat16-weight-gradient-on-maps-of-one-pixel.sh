#!/usr/bin/env bash
# torch 2.14.1, CPU, bfloat16 under autocast: the weight gradient of a 3x3 convolution of stride 2
# and padding 1 on maps of one pixel holds NaN in about half of the calls, if freed memory held NaN
# before; the output and the gradient of the input are right, and so is float32, and bfloat16 on
# maps of 2x2. Eight of the nine weights never touch a pixel there, and their gradient should be 0.
# Met in training a ResNet-18 with a 7x7 stem on images of 8x8: "loss nan" after a few steps.
# Output seen (Python 3.11.7, Linux x86-64, AMD EPYC with AVX512-BF16):
#   bfloat16, map of 1x1: 12 of 24 calls    bfloat16, 2x2: 0    float32, 1x1: 0
# Exits with 0 while that is so, with 1 once it has changed (or on a processor that does it right).
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
"$place/venv/bin/python" -W ignore - <<'PY'
import sys

import torch
import torch.nn.functional as F

print("torch", torch.__version__)
torch.manual_seed(0)


def calls_with_nan(enabled: bool, size: int) -> int:
    count = 0
    for _ in range(24):
        freed = [torch.full((k,), float("nan"), dtype=torch.bfloat16) for k in (10**6, 5 * 10**6, 3 * 10**5)]
        del freed
        weight = torch.nn.Parameter(0.01 * torch.randn(512, 256, 3, 3))
        x = torch.randn(64, 256, size, size, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = F.conv2d(x, weight, None, stride=2, padding=1)
        out.float().square().sum().backward()
        assert out.isfinite().all()
        assert x.grad.isfinite().all()
        count += not weight.grad.isfinite().all()
    return count


seen = {case: calls_with_nan(*case) for case in ((True, 1), (True, 2), (False, 1))}
for (enabled, size), count in seen.items():
    print(f"{'bfloat16' if enabled else 'float32'}, map of {size}x{size}: {count} of 24 calls")
sys.exit(not (seen[True, 1] > 0 == seen[True, 2] == seen[False, 1]))
PY
