"""What names in a file tell of how its weights were saved where they do not fit their network."""

import re

from .key_match import KeyMatch

# Of names that the network does not know, what is wrong, and how the weights come out.
_SIGNS = (
    (
        # What torch's `parametrize`, `weight_norm` and `prune` compute weights from.
        r"(^|\.)(parametrizations\.|\w*(weight|bias)\w*_(g|v|orig|mask)$)",
        "weights are computed from others: call torch's `remove_weight_norm`, `prune.remove` or "
        "`parametrize.remove_parametrizations`, and save it again",
    ),
    (
        r"(^|\.)(zero_point|_packed_params)$|(^|\.)(weight_fake_quant|activation_post_process)\.",
        "its layers are quantised: save the weights as they were before",
    ),
    (
        r"(^|\.)lora_[AB](\.|$)",
        "it has adapters beside its weights: merge them, as by peft's `merge_and_unload()`, and "
        "save all weights",
    ),
    (
        r"(^|\.)_?flat_param(_\d+)?$",
        "FSDP has flattened its weights: save a full state dict, as by "
        "`StateDictType.FULL_STATE_DICT`",
    ),
)
# What batch norms measure in training; parameters alone, without them, fit group norms.
_MEASURED = r"(^|\.)running_(mean|var)$"
LACKS = (
    "it lacks the running statistics of batch norms: save `net.state_dict()`, not its parameters "
    "alone"
)


def lacks_statistics(keys: KeyMatch) -> bool:
    """Tell whether the running statistics are all that a file lacks."""
    return bool(keys.missing) and not keys.mismatched and all(map(_is_measured, keys.missing))


def _is_measured(name: str) -> bool:
    return re.search(_MEASURED, name) is not None


def told_by_names(keys: KeyMatch) -> str | None:
    """Return how the weights of a file that does not fit come out, if its names tell."""
    for sign, fix in _SIGNS:
        if any(re.search(sign, name) for name in keys.unexpected):
            return fix
    return LACKS if lacks_statistics(keys) else None
