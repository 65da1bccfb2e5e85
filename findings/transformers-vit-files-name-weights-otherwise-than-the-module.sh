#!/usr/bin/env bash
# transformers 5.24.0: what `save_pretrained` writes of a ViT does not fit the module that it was
# called on. The file keeps the names of version 4 (`vit.encoder.layer.0.attention.attention.query`),
# the module has others (`vit.layers.0.attention.q_proj`); `from_pretrained` renames them on the way
# in, and `save_pretrained` on the way out. One would guess that the file holds the `state_dict` of
# the module, as it did in version 4, and that `load_state_dict` takes it. To give the weights to
# other programs, save `from_pretrained(...).state_dict()`.
# Output seen (Python 3.11.7, torch 2.14.1, Linux x86-64):
#   of 24 weights 16 have another name in the file than in the module
#   vit.encoder.layer.0.attention.attention.query.weight is vit.layers.0.attention.q_proj.weight
#   load_state_dict misses 16
#   from_pretrained loads all of them
# Exits with 0 while that is so, with 1 once it has changed.
set -euo pipefail
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6
"$place/venv/bin/python" - "$place/model" <<'PY'
import sys
from importlib.metadata import version

import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTForImageClassification

print("transformers", version("transformers"), "torch", torch.__version__)
sizes = {"hidden_size": 16, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
config = ViTConfig(num_hidden_layers=1, num_attention_heads=2, num_labels=10, **sizes)
torch.manual_seed(0)
module = ViTForImageClassification(config)
module.save_pretrained(sys.argv[1])
saved, own = load_file(f"{sys.argv[1]}/model.safetensors"), module.state_dict()
renamed = [name for name in saved if name not in own]
print("of", len(own), "weights", len(renamed), "have another name in the file than in the module")
one = "vit.encoder.layer.0.attention.attention.query.weight"
same = [name for name, each in own.items() if one in saved and torch.equal(each, saved[one])]
print(one, "is", *same)
missing = module.load_state_dict(saved, strict=False).missing_keys
print("load_state_dict misses", len(missing))
again = ViTForImageClassification.from_pretrained(sys.argv[1]).state_dict()
whole = own.keys() == again.keys() and all(torch.equal(own[name], again[name]) for name in own)
print("from_pretrained loads", "all of them" if whole else "something else")
expected = (24, 16, ["vit.layers.0.attention.q_proj.weight"], 16, True)
sys.exit((len(own), len(renamed), same, len(missing), whole) != expected)
PY
