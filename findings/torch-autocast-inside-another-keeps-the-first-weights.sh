#!/usr/bin/env bash
# torch 2.14.1, CPU: autocast keeps the rounded copies of the weights until the outermost autocast
# ends, even if that one is disabled. A training loop whose autocast lies within another, such as
# that of a caller around the whole training, rounds the weights once: each step then computes with
# those of the first one, without a warning. `cache_enabled=False` on the inner autocast helps.
# Met in `jeatcli.train` called within `torch.autocast`: 58.9 % on the digits for 97.0 %.
# Output seen (Python 3.11.7, Linux x86-64):
#   last loss: 0.766 alone, 1.040 within a disabled autocast, 0.766 with cache_enabled=False
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
"$place/venv/bin/python" -W ignore - <<'PY'
import sys
from contextlib import nullcontext

import torch
from torch import nn

print("torch", torch.__version__)


def last_loss(around, **how) -> float:
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    with around:
        for _ in range(50):
            with torch.autocast("cpu", torch.bfloat16, **how):
                loss = (net(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


off = {"device_type": "cpu", "dtype": torch.bfloat16, "enabled": False}
alone = last_loss(nullcontext())
within = last_loss(torch.autocast(**off))
mended = last_loss(torch.autocast(**off), cache_enabled=False)
print(
    f"last loss: {alone:.3f} alone, {within:.3f} within a disabled autocast, "
    f"{mended:.3f} with cache_enabled=False"
)
sys.exit(not (within > alone + 0.1 and abs(mended - alone) < 1e-3))
PY
