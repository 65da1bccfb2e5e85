#!/usr/bin/env bash
# torch-fidelity 0.4.0: the Inception Score is NaN, without a warning, where the probability of a
# class is exactly 0 in every image of a split. Logits are taken in float64, in which a logit more
# than 745 below the largest has a probability of 0: then 0 log 0 is computed. One would guess the
# limit, 0, as scipy.special.rel_entr gives it: the class adds nothing. The published Inception
# network has no such logits; classifiers whose energies have diverged do.
# Output seen (Python 3.11.7, torch 2.14.1, Linux x86-64):
#   logits 700 below: 2.000
#   logits 800 below: nan
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 torch-fidelity==0.4.0 numpy==2.4.6
"$place/venv/bin/python" - <<'PY'
import math
import sys
import warnings
from importlib.metadata import version

import torch
from torch_fidelity.metric_isc import isc_features_to_metric

print("torch-fidelity", version("torch-fidelity"), "torch", torch.__version__)
found = {}
with warnings.catch_warnings():
    warnings.simplefilter("error")
    for gap in (700, 800):
        # Half of the images are of each of two classes, and none is of the third.
        logits = torch.full((20, 3), -float(gap))
        logits[::2, 0] = logits[1::2, 1] = 0.0
        scores = isc_features_to_metric(logits, splits=1, shuffle=False)
        found[gap] = scores["inception_score_mean"]
        print(f"logits {gap} below: {found[gap]:.3f}")
sys.exit(not (abs(found[700] - 2) < 1e-6 and math.isnan(found[800])))
PY
