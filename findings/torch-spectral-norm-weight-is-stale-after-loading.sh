#!/usr/bin/env bash
# torch 2.14.1: a layer under nn.utils.spectral_norm or nn.utils.weight_norm computes its `weight` in a
# hook before each forward pass. After load_state_dict, and after an optimiser's step, the attribute
# still has the weight of before, without a warning: what reads it (a norm, a folded batch
# normalisation, a conversion, a picture of the filters) takes weights that the network does not have.
# nn.utils.parametrizations.* compute the attribute when it is read.
# Met in copies of networks with their batch normalisations folded.
# Output seen (Python 3.11.7, Linux x86-64):
#   spectral_norm: stale after loading, stale after a step, right after a forward pass
#   weight_norm: stale after loading, stale after a step, right after a forward pass
#   parametrizations.spectral_norm: right after loading, right after a step, right after a forward pass
#   parametrizations.weight_norm: right after loading, right after a step, right after a forward pass
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
"$place/venv/bin/python" -W ignore - <<'PY'
import sys

import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

print("torch", torch.__version__)
x = torch.rand(2, 3, 8, 8)


def used(conv) -> torch.Tensor:
    """The weight with which the layer computes: its answers to single pixels."""
    probe = torch.zeros(27, 3, 3, 3)
    probe.view(27, 27).fill_diagonal_(1)
    with torch.no_grad():
        answers = conv(probe)[:, :, 0, 0] - conv.bias
    return answers.T.reshape(8, 3, 3, 3)


def is_right(make, change) -> bool:
    conv = make()
    change(conv)
    kept = conv.weight.detach().clone()
    return torch.allclose(kept, used(conv), atol=1e-5)


def cases(norm):
    def make():
        torch.manual_seed(0)
        return norm(nn.Conv2d(3, 8, 3)).eval()

    def load(conv) -> None:
        torch.manual_seed(1)
        other = norm(nn.Conv2d(3, 8, 3)).eval()
        conv.load_state_dict(other.state_dict())

    def step(conv) -> None:
        conv(x).square().sum().backward()
        torch.optim.SGD(conv.parameters(), 0.1).step()

    def forward(conv) -> None:
        load(conv)
        conv(x)

    return [is_right(make, change) for change in (load, step, forward)]


expected = {
    "spectral_norm": (spectral_norm, [False, False, True]),
    "weight_norm": (weight_norm, [False, False, True]),
    "parametrizations.spectral_norm": (parametrizations.spectral_norm, [True] * 3),
    "parametrizations.weight_norm": (parametrizations.weight_norm, [True] * 3),
}
same = True
for name, (norm, right) in expected.items():
    found = cases(norm)
    words = zip(found, ("loading", "a step", "a forward pass"))
    print(f"{name}:", ", ".join(f"{'right' if ok else 'stale'} after {when}" for ok, when in words))
    same = same and found == right
sys.exit(not same)
PY
