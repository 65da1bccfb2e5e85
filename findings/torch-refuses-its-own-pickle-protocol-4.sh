#!/usr/bin/env bash
# torch 2.14.1: a state dict of plain tensors that torch.save wrote with pickle_protocol=4 or 5
# cannot be read by torch.load's default, weights_only=True, in neither file format. Protocols 2
# and 3 load. One would guess that what torch.save may write, torch.load may read. The message
# advises weights_only=False, which would let the file run code.
# Output seen (Python 3.11.7, Linux x86-64):
#   zip, protocol 2: loads    zip, protocol 3: loads    zip, protocol 4: refused    zip, protocol 5: refused
#   legacy, protocol 2: loads    legacy, protocol 3: loads    legacy, protocol 4: refused    legacy, protocol 5: refused
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
"$place/venv/bin/python" -W ignore - <<'PY'
import io
import pickle
import sys

import torch

print("torch", torch.__version__)


def outcome(protocol: int, zipped: bool) -> str:
    file = io.BytesIO()
    weights = {"weight": torch.ones(2, 3)}
    torch.save(weights, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    file.seek(0)
    try:
        loaded = torch.load(file, weights_only=True)
    except pickle.UnpicklingError:
        return "refused"
    return "loads" if torch.equal(loaded["weight"], weights["weight"]) else "differs"


seen = {(zipped, protocol): outcome(protocol, zipped) for zipped in (True, False) for protocol in (2, 3, 4, 5)}
for (zipped, protocol), what in seen.items():
    print(f"{'zip' if zipped else 'legacy'}, protocol {protocol}: {what}")
expected = {key: "loads" if key[1] < 4 else "refused" for key in seen}
sys.exit(seen != expected)
PY
