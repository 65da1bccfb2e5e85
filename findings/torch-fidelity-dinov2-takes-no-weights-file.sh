#!/usr/bin/env bash
# torch-fidelity 0.4.0: the DINOv2 extractors do not take a weights file. The command line, the
# Python API and the class all document feature_extractor_weights_path, and the extractors of
# CLIP, VGG and Inception read such a file; those of DINOv2 raise a NotImplementedError without a
# message before they look at it, for each of the four sizes. One would guess that a score in these
# features can be computed offline from a file, as with the others. It needs torch.hub, and with it
# the network, or a hub cache that was filled before.
# Output seen (Python 3.11.7, torch 2.14.1, Linux x86-64):
#   dinov2-vit-s-14: NotImplementedError()
#   dinov2-vit-b-14: NotImplementedError()
#   dinov2-vit-l-14: NotImplementedError()
#   dinov2-vit-g-14: NotImplementedError()
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 torch-fidelity==0.4.0 numpy==2.4.6
"$place/venv/bin/python" - "$place/weights.pth" <<'PY'
import sys
from importlib.metadata import version

import torch
from torch_fidelity.feature_extractor_dinov2 import MODEL_METADATA, FeatureExtractorDinoV2

print("torch-fidelity", version("torch-fidelity"), "torch", torch.__version__)
path = sys.argv[1]
torch.save({"cls_token": torch.zeros(1, 1, 384)}, path)
refused = 0
for name in MODEL_METADATA:
    try:
        FeatureExtractorDinoV2(name, ["dinov2"], feature_extractor_weights_path=path)
    except Exception as problem:
        refused += isinstance(problem, NotImplementedError) and not str(problem)
        print(f"{name}: {problem!r}")
sys.exit(refused != 4)
PY
