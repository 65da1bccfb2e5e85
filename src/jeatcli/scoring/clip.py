"""The image encoders of CLIP (Radford et al. 2021), as torch-fidelity takes their features."""

import warnings
from io import BytesIO

import torch
from torch import nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP, build_model


class Clip(FeatureExtractorCLIP):  # type: ignore[misc]  # a library without types
    """torch-fidelity's extractor with given weights; their shapes say which network it is."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        FeatureExtractorBase.__init__(self, "clip", ["clip"])
        self.feature_extractor_internal_dtype = torch.float32
        self.model = build_model(dict(weights), torch.float32)
        self.resolution = self.model.visual.input_resolution


def build(content: bytes, published: bool) -> nn.Module:
    """Build the network from the published TorchScript file, or from a state dict."""
    with warnings.catch_warnings():
        # That TorchScript is deprecated: the published file is of 2021.
        warnings.simplefilter("ignore")
        if published:
            return Clip(torch.jit.load(BytesIO(content), map_location="cpu").state_dict())
        try:
            weights = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        except RuntimeError as problem:
            if "TorchScript" not in str(problem):
                raise
            raise ValueError("TorchScript is code, and this is not the published file") from None
    return Clip(weights)
