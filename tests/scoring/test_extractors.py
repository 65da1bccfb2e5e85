"""DINOv2 and CLIP: networks written out, files checked and kept, scores in their features."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.cli import done, one
from helpers.extractors import publish
from helpers.runs import save_run
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, layer_norm, linear, silu, softmax

from jeatcli.checkpoints.model import Model
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.runtime import download, files
from jeatcli.runtime.digests import checksum
from jeatcli.scoring import features
from jeatcli.scoring.extractors import load_extractor
from jeatcli.scoring.image_scores import image_scores
from jeatcli.scoring.settings import METRICS

PHOTOGRAPHS = torch.randint(256, (3, 3, 20, 24), dtype=torch.uint8)


def random(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name.replace("__", "."): 0.3 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def dino(width: int = 64, gated: bool = False) -> dict[str, Tensor]:
    """Return random weights in DINOv2's layout, of two blocks; four times four positions."""
    block = {
        **{
            f"{norm}__{part}": (width,)
            for norm in ("norm1", "norm2")
            for part in ("weight", "bias")
        },
        **{"ls1__gamma": (width,), "ls2__gamma": (width,)},
        **{"attn__qkv__weight": (3 * width, width), "attn__qkv__bias": (3 * width,)},
        **{"attn__proj__weight": (width, width), "attn__proj__bias": (width,)},
    }
    into, back = ("w12", "w3") if gated else ("fc1", "fc2")
    hidden = 3 * width
    block |= {
        **{f"mlp__{into}__weight": (2 * hidden, width), f"mlp__{into}__bias": (2 * hidden,)},
        **{f"mlp__{back}__weight": (width, hidden if gated else 2 * hidden)},
        **{f"mlp__{back}__bias": (width,)},
    }
    if not gated:  # its ratio is four
        block["mlp__fc1__weight"], block["mlp__fc1__bias"] = (4 * width, width), (4 * width,)
        block["mlp__fc2__weight"] = (width, 4 * width)
    return random(
        cls_token=(1, 1, width),
        mask_token=(1, width),
        pos_embed=(1, 1 + 16, width),
        patch_embed__proj__weight=(width, 3, 14, 14),
        patch_embed__proj__bias=(width,),
        norm__weight=(width,),
        norm__bias=(width,),
        **{f"blocks__{k}__{name}": shape for k in range(2) for name, shape in block.items()},
    )


def dino_output(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return the class token by the published formulas, of images as torch-fidelity has them."""
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    def of(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def normed(z: Tensor, name: str) -> Tensor:
        return layer_norm(z, z.shape[-1:], *of(name), eps=1e-6)

    size = (224, 224)
    x = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=size, align_corners=False)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    x = nn.functional.conv2d((x / 255 - mean) / std, *of("patch_embed.proj"), stride=14)
    z = x.flatten(2).transpose(1, 2)
    token, places = weights["pos_embed"][:, :1], weights["pos_embed"][:, 1:]
    grid = places.view(1, 4, 4, -1).permute(0, 3, 1, 2)
    grid = interpolate(grid, scale_factor=16.1 / 4, mode="bicubic")
    z = torch.cat([weights["cls_token"].expand(len(z), -1, -1), z], 1)
    z = z + torch.cat([token, grid.flatten(2).transpose(1, 2)], 1)
    for k in range(2):
        at = f"blocks.{k}"
        # One head, for the width is 64.
        q, key, v = linear(normed(z, f"{at}.norm1"), *of(f"{at}.attn.qkv")).chunk(3, dim=-1)
        seen = softmax(q @ key.transpose(1, 2) / 8, dim=-1) @ v
        z = z + weights[f"{at}.ls1.gamma"] * linear(seen, *of(f"{at}.attn.proj"))
        inner = normed(z, f"{at}.norm2")
        if f"{at}.mlp.w12.weight" in weights:
            gate, value = linear(inner, *of(f"{at}.mlp.w12")).chunk(2, dim=-1)
            inner = linear(silu(gate) * value, *of(f"{at}.mlp.w3"))
        else:
            inner = linear(gelu(linear(inner, *of(f"{at}.mlp.fc1"))), *of(f"{at}.mlp.fc2"))
        z = z + weights[f"{at}.ls2.gamma"] * inner
    return normed(z, "norm")[:, 0]


class Clip(nn.Module):
    """A small image encoder in the layout of CLIP's files, with the one other tensor it needs."""

    def __init__(self) -> None:
        from torch_fidelity.feature_extractor_clip import VisionTransformer

        super().__init__()
        torch.manual_seed(0)
        self.visual = VisionTransformer(16, 8, 64, 1, 1, 12)
        self.text_projection = nn.Parameter(torch.zeros(7, 12))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.visual(x)
        return out


@pytest.fixture
def clip_files(tmp_path: Path) -> tuple[Path, Path]:
    """Write the same weights as a state dict and as TorchScript."""
    net = Clip().eval()
    torch.save(net.state_dict(), tmp_path / "clip.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.zeros(1, 3, 16, 16)).save(str(tmp_path / "clip.pt"))
    return tmp_path / "clip.pth", tmp_path / "clip.pt"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve a folder."""
    (tmp_path / "served").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return None

    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


@needs_timm
@pytest.mark.parametrize("gated", [False, True])
def test_dinov2_is_its_formulas(gated: bool, tmp_path: Path) -> None:
    weights = dino(gated=gated)
    torch.save(weights, tmp_path / "dino.pth")
    loaded = load_extractor("dinov2", tmp_path / "dino.pth", "cpu")
    assert loaded.sha256 == checksum(tmp_path / "dino.pth")
    found = features.extract(PHOTOGRAPHS, loaded, 2)
    torch.testing.assert_close(
        found.values, dino_output(weights, PHOTOGRAPHS), rtol=1e-4, atol=1e-4
    )
    assert found.logits.shape == (3, 0)


def test_clip_is_the_library_s(
    clip_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

    states, script = clip_files
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = FeatureExtractorCLIP(
            "clip-vit-b-32", ["clip"], feature_extractor_weights_path=str(script)
        )
    publish(monkeypatch, "clip", sha256=checksum(script))
    for path in (states, script):
        found = features.extract(PHOTOGRAPHS, load_extractor("clip", path, "cpu"), 2)
        torch.testing.assert_close(found.values, theirs(PHOTOGRAPHS)[0])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("clip", "script", "TorchScript is code"),
        ("clip", "dino", "it has no 'visual."),
        ("clip", "cut", ""),
        ("dinov2", "cut", ""),
        ("dinov2", "clip", "it has no 'cls_token'"),
        ("dinov2", "registers", "register_tokens"),
        ("dinov2", "text", ": it holds more than tensors"),
    ],
)
def test_what_is_no_weights_file(
    name: str, content: str, reason: str, clip_files: tuple[Path, Path], tmp_path: Path
) -> None:
    buffer, path = io.BytesIO(), tmp_path / "weights.pth"
    torch.save(dino() | random(register_tokens=(1, 4, 64)), buffer)
    plain = io.BytesIO()
    torch.save(dino(), plain)
    path.write_bytes(
        {
            "script": clip_files[1].read_bytes(),
            "clip": clip_files[0].read_bytes(),
            "dino": plain.getvalue(),
            "cut": plain.getvalue()[:-1000],
            "registers": buffer.getvalue(),
            "text": b"<html>not found</html>",
        }[content]
    )
    if name == "dinov2":
        pytest.importorskip("timm")
    with pytest.raises(JeatError, match=r"weights\.pth` does not hold the weights of") as problem:
        load_extractor(name, path)
    assert reason in problem.value.message
    assert "is at https://" in (problem.value.hint or "")
    with pytest.raises(JeatError, match="there is no file"):
        load_extractor(name, tmp_path / "absent.pth")


@needs_timm
def test_the_published_file_is_fetched_once_and_checked(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served" / "dino.pth"
    torch.save(dino(), served)
    whole = served.read_bytes()
    publish(
        monkeypatch,
        "dinov2",
        file="dino.pth",
        sha256=checksum(served),
        mirrors=(f"{server}/dino.pth",),
    )
    served.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JeatError, match="could not be downloaded") as problem:
        load_extractor("dinov2")
    assert "with SHA-256" in problem.value.message
    assert "--features dinov2:FILE" in (problem.value.hint or "")
    served.write_bytes(whole)
    loaded = load_extractor("dinov2")
    assert loaded.path == files.cache_dir() / "dinov2" / "dino.pth"
    served.unlink()
    assert load_extractor("dinov2").sha256 == loaded.sha256
    loaded.path.write_bytes(whole[:-1])
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    with pytest.raises(JeatError, match="is damaged"):
        load_extractor("dinov2")


def test_scores_in_their_features(clip_files: tuple[Path, Path]) -> None:
    save_run("artist", seed=1)
    metrics = [part for name in METRICS for part in ("--metric", name)]
    ask = ("score", "artist", "-n", 20, "--steps", 1, "--reference", "test", *metrics)
    given = (*ask, "--features", f"clip:{clip_files[0]}", "-b", 397)
    found = one(*given)
    assert found["inception_score"] is None
    assert "inception_score" not in found["notes"]
    assert found["fid"] > 0
    assert set(found["metrics"]) >= {"mind", "vendi", "authpct", "density", "coverage"}
    about = found["protocol"]["features"]
    assert (about["kind"], about["sha256"]) == ("clip", checksum(clip_files[0]))
    assert about["grey"] == "repeated in three channels"
    assert "features of CLIP, not of Inception" in found["protocol"]["comparable"]
    assert done(*given).startswith("FD, CLIP ")


@needs_timm
def test_distances_in_dinov2_grow_with_the_change(tmp_path: Path) -> None:
    torch.save(dino(), tmp_path / "dino.pth")
    real = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    ask = {"real": real, "features": f"dinov2:{tmp_path / 'dino.pth'}", "metric": ("mind",)}
    near, far = (image_scores((real + by).clamp(0, 1), **ask) for by in (0.02, 0.3))
    assert 0 < near.fid < far.fid
    assert 0 < near.metrics["mind"] < far.metrics["mind"]
    assert near.inception_score is None


def test_the_features_of_a_data_set_are_kept(
    clip_files: tuple[Path, Path], artist: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "WORTH_KEEPING", 300)
    ask = {"num": 20, "steps": 1, "reference": "test", "features": f"clip:{clip_files[0]}"}
    first = image_scores(artist, **ask)
    (kept,) = (files.cache_dir() / "features").iterdir()
    before = kept.stat().st_mtime_ns
    assert image_scores(artist, **ask).fid == first.fid
    assert kept.stat().st_mtime_ns == before


def test_inception_weights_are_for_inception(artist: Model, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(UsageProblem, match="cannot be used with the features of `clip`"):
        image_scores(artist, features="clip", inception_weights=tmp_path / "w.pth")
