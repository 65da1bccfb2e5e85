#!/usr/bin/env bash
# safetensors 0.8.0: save_file fills a hidden file, `.tmp` and six letters or digits, beside the file
# that it was asked for, and renames it. A process that is killed meanwhile leaves the hidden file,
# as large as it had become, and nothing under the name that it was given: whoever looks for partial
# files by that name finds none, and nobody removes them. Up to 0.7.0 the named file was filled.
# Output seen (Python 3.11.7, Linux x86-64, numpy 2.4.6):
#   safetensors 0.7.0: killed while it saved, leaves the named file
#   safetensors 0.8.0: killed while it saved, leaves a hidden file
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
for version in 0.7.0 0.8.0; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/pip" install --quiet "safetensors==$version" numpy==2.4.6
done
cat > "$place/watch.py" <<'PY'
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

# 1 GB, so that there is time to kill.
SAVE = (
    "import sys, numpy, safetensors.numpy as s; a = numpy.zeros(2**28, numpy.float32)\n"
    "print(flush=True); s.save_file({'a': a}, sys.argv[1])"
)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "weights.safetensors")
    saving = subprocess.Popen([sys.executable, "-c", SAVE, path], stdout=subprocess.PIPE)
    saving.stdout.readline()
    while not (left := os.listdir(folder)) and saving.poll() is None:
        time.sleep(0.001)
    saving.send_signal(signal.SIGKILL)
    killed = saving.wait() == -signal.SIGKILL
    left = os.listdir(folder)
hidden = len(left) == 1 and re.fullmatch(r"\.tmp\w{6}", left[0])
what = "a hidden file" if hidden else "the named file" if left == ["weights.safetensors"] else left
print(f"safetensors {version('safetensors')}: killed while it saved, leaves {what}")
sys.exit(not killed or what != sys.argv[1])
PY
"$place/0.7.0/bin/python" "$place/watch.py" "the named file"
"$place/0.8.0/bin/python" "$place/watch.py" "a hidden file"
