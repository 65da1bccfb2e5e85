#!/usr/bin/env bash
# torch 2.14.1, CPU: where torch.compile freezes the weights (torch._inductor.config.freezing), it
# computes a ReLU in oneDNN's pass of the convolution before, which makes 0 of NaN; so does
# TorchScript's optimize_for_inference. Eager torch, and torch.compile without freezing, return NaN.
# A network with NaN in a weight or an image thus returns finite numbers, without a warning.
# Met in convolutions fused by torch.ops.mkldnn._convolution_pointwise.
# Output seen (Python 3.11.7, Linux x86-64, g++ 12.2):
#   NaN in the output: 144 eager, 144 compiled, 0 compiled with freezing, 0 TorchScript
# Exits with 0 while that is so, with 1 once it has changed. Needs a C++ compiler.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
TORCHINDUCTOR_CACHE_DIR="$place/cache" "$place/venv/bin/python" -W ignore - <<'PY'
import sys

import torch
import torch._inductor.config
from torch import nn

print("torch", torch.__version__)
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()).append(
    nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
)
net.eval()
x = torch.rand(2, 3, 8, 8)
x[0, 0, 0, 0] = float("nan")


def missing(function) -> int:
    with torch.no_grad():
        return int(function(x).isnan().sum())


eager, compiled = missing(net), missing(torch.compile(net))
torch._dynamo.reset()
torch._inductor.config.freezing = True
frozen = missing(torch.compile(net))
with torch.no_grad():
    script = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(net)))
scripted = missing(script)
print(
    f"NaN in the output: {eager} eager, {compiled} compiled, {frozen} compiled with freezing, "
    f"{scripted} TorchScript"
)
sys.exit(not (eager == compiled > 0 == frozen == scripted))
PY
