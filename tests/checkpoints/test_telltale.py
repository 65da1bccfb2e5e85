"""Files whose names or numbers tell that their weights are not those of a network as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import PLAIN, load, weights, written
from torch import Tensor

from jeatcli.errors import JeatError

CODE = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
"""


class Own(Tensor):
    """A tensor of a library's, as DTensor is."""


def own_weights() -> dict[str, Tensor]:
    """Return the weights of the code's network."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 10).state_dict()
    norm = torch.nn.BatchNorm1d(64).state_dict() | {"running_mean": torch.rand(64)}
    return {f"1.{key}": value for key, value in norm.items()} | {
        f"2.{key}": value for key, value in linear.items()
    }


@pytest.mark.parametrize(
    ("more", "fix"),
    [
        ({"2.lora_A.default.weight": torch.ones(4, 64)}, "`merge_and_unload()`"),
        ({"2.lora_B": torch.ones(10, 4)}, "`merge_and_unload()`"),
        ({"_flat_param": torch.ones(9)}, "`StateDictType.FULL_STATE_DICT`"),
        ({"2.weight_fake_quant.scale": torch.ones(1)}, "its layers are quantised"),
        ({"2.activation_post_process.min_val": torch.ones(1)}, "its layers are quantised"),
        ({"2.weight_g": torch.ones(10, 1)}, "`remove_weight_norm`"),
        ({"2.attn_mask": torch.ones(3)}, "name the function that makes exactly the network"),
    ],
)
def test_names_tell_how_the_weights_of_own_code_come_out(
    tmp_path: Path, more: dict[str, Tensor], fix: str
) -> None:
    (tmp_path / "own.py").write_text(CODE)
    path = written(tmp_path, own_weights() | more)
    with pytest.raises(JeatError) as misfit:
        load(path, replace(PLAIN, arch=f"{tmp_path / 'own.py'}:net"))
    assert fix in str(misfit.value.hint)


def test_own_code_too_lacks_the_statistics_of_batch_norms(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    found = {key: value for key, value in own_weights().items() if "running" not in key}
    with pytest.raises(JeatError) as misfit:
        load(written(tmp_path, found), replace(PLAIN, arch=f"{tmp_path / 'own.py'}:net"))
    assert "it lacks the running statistics of batch norms" in str(misfit.value.hint)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["conv1.weight", "block1.layer.0.bn1.running_var"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, name: str, number: float) -> None:
    """An infinite variance only makes its channel constant, which logits do not show."""
    found = weights()
    found[name].view(-1)[0] = number
    with pytest.raises(JeatError, match=f"holds NaN or infinity in {name}"):
        load(written(tmp_path, found))


def test_masks_of_own_code_may_be_infinite(tmp_path: Path) -> None:
    mask = "\nmade = net()\nmade[2].register_buffer('mask', made[1].weight[:1] - float('inf'))\n"
    (tmp_path / "own.py").write_text(CODE + mask)
    path = written(tmp_path, own_weights() | {"2.mask": torch.tensor([float("-inf")])})
    assert load(path, replace(PLAIN, arch=f"{tmp_path / 'own.py'}:made")).foreign


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_of_eight_bits_are_quantised(tmp_path: Path, kind: torch.dtype) -> None:
    found = weights()
    found["fc.weight"] = found["fc.weight"].to(kind)
    with pytest.raises(JeatError, match=r"holds `fc\.weight`, which is quantised"):
        load(written(tmp_path, found))


def test_tensors_of_a_library_are_named(tmp_path: Path) -> None:
    found = weights()
    found["fc.weight"] = found["fc.weight"].as_subclass(Own)
    path = written(tmp_path, found)
    with torch.serialization.safe_globals([Own]), pytest.raises(JeatError) as caught:
        load(path)
    assert "holds `fc.weight`, which is of the class `Own`" in caught.value.message
    assert "`tensor.full_tensor()`" in str(caught.value.hint)
