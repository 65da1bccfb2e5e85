#!/usr/bin/env bash
# foolbox 3.3.4: the Fast Minimum-Norm attack under l2 does not project to its radius. `project`
# scales by min(1, norms / norms), which is 1, so the radius that FMN adapts has no effect: on a
# linear model, whose nearest boundary is known, the first step's length of 1 is what comes out,
# whatever the number of steps. DDN of the same library finds the boundary, as does FMN under linf
# (100 steps each). One would guess the l2 attack to be as near as these.
# Output seen (Python 3.11.7, torch 2.14.1, Linux x86-64), in units of the exact distance:
#   linf fmn 1.00, l2 ddn 1.00, l2 fmn 20.00
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 foolbox==3.3.4 numpy==2.4.6
"$place/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import foolbox
import torch

print("foolbox", version("foolbox"), "torch", torch.__version__)
torch.manual_seed(0)
weight = torch.randn(100)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(100, 2, bias=False))
with torch.no_grad():
    net[1].weight.copy_(torch.stack([weight, -weight]))
x = 0.4 + 0.2 * torch.rand(20, 1, 10, 10)
# Every image is moved to an l2 distance of 0.05 from the boundary.
unit = weight / weight.norm()
flat = x.flatten(1)
x = (flat + (0.05 - flat @ unit)[:, None] * unit).view_as(x).clamp(0, 1)
y = net(x).argmax(1)
gap = (x.flatten(1) @ weight).abs()
exact = {"linf": gap / weight.abs().sum(), "l2": gap / weight.norm()}
model = foolbox.PyTorchModel(net.eval(), bounds=(0, 1), device="cpu")
kinds = {
    ("linf", "fmn"): foolbox.attacks.LInfFMNAttack,
    ("l2", "ddn"): foolbox.attacks.DDNAttack,
    ("l2", "fmn"): foolbox.attacks.L2FMNAttack,
}
ratios = {}
for (norm, name), kind in kinds.items():
    criterion = foolbox.criteria.Misclassification(y)
    moved, _, broken = kind(steps=100)(model, x, criterion, epsilons=None)
    offset = (moved - x).flatten(1)
    distance = offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)
    ratios[norm, name] = (distance / exact[norm])[broken].median().item()
    print(f"{norm} {name} {ratios[norm, name]:.2f}, {int(broken.sum())} of 20 broken")
sys.exit(not (ratios["linf", "fmn"] < 1.1 > ratios["l2", "ddn"] and ratios["l2", "fmn"] > 5))
PY
