#!/usr/bin/env bash
# safetensors 0.8.0: save and save_file write the tensors in an order of their own, but the entries of
# `metadata` in one that changes from call to call, within a process, too. The same tensors with the
# same metadata of two entries or more are other bytes each time, so that a digest of the file says
# nothing about what is in it. With one entry, or none, the bytes are the same.
# Met with a digest as a second entry beside the description of a model: it went into the first one.
# Output seen (Python 3.11.7, Linux x86-64, numpy 2.4.6):
#   safetensors 0.8.0, 40 files of the same content
#   no metadata: 1 form
#   1 entry: 1 form
#   8 entries: 40 forms
# Exits with 0 while there is one form, one and several, with 1 once that has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
"$place/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from safetensors.numpy import save

TIMES = 40
tensors = {"b": np.arange(4.0), "a": np.zeros(3, np.float32)}
print(f"safetensors {version('safetensors')}, {TIMES} files of the same content")
forms = []
for count in (0, 1, 8):
    metadata = {f"key{k}": "value" for k in range(count)} or None
    forms.append(len({save(tensors, metadata) for _ in range(TIMES)}))
    entries = f"{count} entr{'y' if count == 1 else 'ies'}" if count else "no metadata"
    print(f"{entries}: {forms[-1]} form{'s' * (forms[-1] > 1)}")
sys.exit(not (forms[0] == forms[1] == 1 < forms[2]))
PY
