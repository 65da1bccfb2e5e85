#!/usr/bin/env bash
# torch-fidelity 0.4.0: the spread of KID says nothing where a subset is the whole set. Subsets are
# drawn without replacement, so with kid_subset_size equal to the number of images every subset is
# the same set, and no warning is given. Where both sets are that small, the reported standard
# deviation is rounding (below 1e-5 here), as if the distance of 100 images were exact; with
# subsets of 50 the same two sets give a quarter of the mean. One would guess a refusal, a
# warning, or NaN.
# Output seen (Python 3.11.7, torch 2.14.1, Linux x86-64), the last digits may differ:
#   subsets of 50 out of 100: mean 1.09, std 2.6e-01
#   subsets of 100 out of 100: mean 1.06, std 4.8e-07
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 torch-fidelity==0.4.0 numpy==2.4.6
"$place/venv/bin/python" - <<'PY'
import sys
import warnings
from importlib.metadata import version

import torch
from torch_fidelity.metric_kid import kid_features_to_metric

print("torch-fidelity", version("torch-fidelity"), "torch", torch.__version__)
one = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
other = one + 0.5
spread = {}
with warnings.catch_warnings():
    warnings.simplefilter("error")
    for size in (50, 100):
        found = kid_features_to_metric(
            one,
            other,
            kid_subsets=50,
            kid_subset_size=size,
            kid_kernel="poly",
            kid_kernel_poly_degree=3,
            kid_kernel_poly_gamma=None,
            kid_kernel_poly_coef0=1,
            rng_seed=2020,
            verbose=False,
        )
        mean = found["kernel_inception_distance_mean"]
        spread[size] = found["kernel_inception_distance_std"]
        print(f"subsets of {size} out of 100: mean {mean:.2f}, std {spread[size]:.1e}")
sys.exit(not (spread[100] < 1e-5 < 1e-2 < spread[50]))
PY
