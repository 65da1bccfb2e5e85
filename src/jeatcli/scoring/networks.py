"""The networks by whose features images are scored, each built from the content of a file.

They are torch-fidelity's extractors with given weights. It would unpickle Inception's without
restriction, and load DINOv2 by running the latest code of its repository.
"""

import math
import warnings
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP, build_model
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ..errors import needs

# The last pooling, and the logits without their bias, as the published scores take them.
LAYERS = ("2048", "logits_unbiased")
_PATCH, _HEAD = 14, 64
# What the original code of DINOv2 adds to a side of the grid before it interpolates.
_OFFSET = 0.1


def inception(content: bytes, published: bool) -> nn.Module:
    """Build the 2015 Inception network, by whose features the published scores are taken."""
    checked = BytesIO()
    torch.save(_tensors(content), checked)
    checked.seek(0)
    net: nn.Module = FeatureExtractorInceptionV3(
        "inception", list(LAYERS), feature_extractor_weights_path=checked
    )
    return net


class Clip(FeatureExtractorCLIP):  # type: ignore[misc]  # a library without types
    """An image encoder of CLIP (Radford et al. 2021); the weights' shapes say which one it is."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        FeatureExtractorBase.__init__(self, "clip", ["clip"])
        self.feature_extractor_internal_dtype = torch.float32
        self.model = build_model(dict(weights), torch.float32)
        self.resolution = self.model.visual.input_resolution


def clip(content: bytes, published: bool) -> nn.Module:
    """Build CLIP from the published TorchScript file, or from a state dict."""
    with warnings.catch_warnings():
        # That TorchScript is deprecated: the published file is of 2021.
        warnings.simplefilter("ignore")
        if published:
            return Clip(torch.jit.load(BytesIO(content), map_location="cpu").state_dict())
        try:
            return Clip(_tensors(content))
        except RuntimeError as problem:
            if "TorchScript" not in str(problem):
                raise
            raise ValueError("TorchScript is code, and this is not the published file") from None


class Dino(FeatureExtractorDinoV2):  # type: ignore[misc]  # a library without types
    """DINOv2 (Oquab et al. 2023): torch-fidelity's preparation of images, timm's network."""

    def __init__(self, net: nn.Module) -> None:
        FeatureExtractorBase.__init__(self, "dinov2", ["dinov2"])
        self.feature_extractor_internal_dtype = torch.float32
        self.model = net


def dinov2(content: bytes, published: bool) -> nn.Module:
    """Build DINOv2 from a state dict, whose shapes say which of the four networks it is."""
    return Dino(_transformer(_tensors(content)))


def _tensors(content: bytes) -> dict[str, Tensor]:
    """Read a state dict from a file that holds no code."""
    weights: dict[str, Tensor] = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    return weights


def _transformer(weights: dict[str, Tensor]) -> nn.Module:
    """Return the network, whose output is the normalised class token."""
    with needs("timm", "timm", "DINOv2"):
        from timm.layers.mlp import SwiGLUPacked
        from timm.models.vision_transformer import VisionTransformer
    width = weights["cls_token"].shape[-1]
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    gated: dict[str, Any] = {}
    if "blocks.0.mlp.w12.weight" in weights:  # the largest network's
        hidden = len(weights["blocks.0.mlp.w12.weight"])
        # The library takes the whole part of width times ratio.
        gated = {"mlp_layer": SwiGLUPacked, "mlp_ratio": (hidden + 0.5) / width}
        gated["act_layer"] = nn.SiLU
    side = FeatureExtractorDinoV2.INPUT_IMAGE_SIZE
    net: nn.Module = VisionTransformer(
        img_size=side,
        patch_size=_PATCH,
        embed_dim=width,
        depth=len(blocks),
        num_heads=width // _HEAD,
        init_values=1e-5,
        num_classes=0,
        **gated,
    )
    renamed = {
        name.replace("mlp.w12", "mlp.fc1").replace("mlp.w3", "mlp.fc2"): weight
        for name, weight in weights.items()
        if name != "mask_token"  # of training alone
    }
    renamed["pos_embed"] = _positions(weights["pos_embed"], side // _PATCH)
    net.load_state_dict(renamed)
    return net


def _positions(embedding: Tensor, side: int) -> Tensor:
    """Interpolate the embedding of positions (1, 1 + grid^2, d) as the original code does."""
    token, grid = embedding[:, :1], embedding[:, 1:]
    old = math.isqrt(grid.shape[1])
    if old == side:
        return embedding
    square = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scale = (side + _OFFSET) / old
    moved = nn.functional.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([token, moved.flatten(2).transpose(1, 2)], 1)
