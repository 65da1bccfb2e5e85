"""The 2015 Inception network, by whose features the published scores are taken."""

from io import BytesIO

import torch
from torch import nn
from torch_fidelity import FeatureExtractorInceptionV3

# The last pooling, and the logits without their bias, as the published scores take them.
LAYERS = ("2048", "logits_unbiased")


def build(content: bytes, published: bool) -> nn.Module:
    """Build the network from a file that holds weights and no code.

    torch-fidelity unpickles without restriction, so it gets the checked weights, and no path.
    """
    weights = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    checked = BytesIO()
    torch.save(weights, checked)
    checked.seek(0)
    net: nn.Module = FeatureExtractorInceptionV3(
        "inception", list(LAYERS), feature_extractor_weights_path=checked
    )
    return net
