#!/usr/bin/env bash
# torch 2.14.1: constructing an optimiser imports torch's compiler, although nothing is compiled:
# torch.optim.SGD([parameter], 0.1) brings in torch._dynamo and sympy, which takes longer than many
# a small training. `import torch` itself does not. One would guess that plain SGD needs neither.
# Output seen (Python 3.11.7, Linux x86-64, 2 cores; the seconds vary):
#   after `import torch`: no torch._dynamo
#   after torch.optim.SGD: torch._dynamo True, sympy True, 3.6 s
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
"$place/venv/bin/python" - <<'PY'
import sys
import time

import torch

before = "torch._dynamo" in sys.modules
print("torch", torch.__version__)
print("after `import torch`:", "torch._dynamo" if before else "no torch._dynamo")
began = time.perf_counter()
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
seconds = time.perf_counter() - began
dynamo, sympy = "torch._dynamo" in sys.modules, "sympy" in sys.modules
print(f"after torch.optim.SGD: torch._dynamo {dynamo}, sympy {sympy}, {seconds:.1f} s")
sys.exit(before or not (dynamo and sympy))
PY
