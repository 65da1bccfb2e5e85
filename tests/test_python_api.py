"""The Python API: its page follows the docstrings, and its examples run."""

from __future__ import annotations

import copy
import doctest
import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import jeatcli
from jeatcli import energy, image_scores, wrap
from jeatcli.checkpoints.model import Model
from jeatcli.errors import JeatWarning, UsageProblem

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 3


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    return wrap(net, mean=0, std=1, classes=3, shape=(1, 8, 8))


@pytest.mark.parametrize("name", jeatcli.__all__)
def test_every_public_name_has_an_example_that_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JEAT_DEVICE", "cpu")
    item = getattr(jeatcli, name)
    module = importlib.import_module(item.__module__)
    (found,) = doctest.DocTestFinder(recurse=False).find(item, name, module, globs={})
    assert found.examples, f"`{name}` has no example"
    torch.manual_seed(0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(found, out=said.append)
    assert not result.failed, "".join(said)


def test_the_energy_of_tensors_arrays_and_loaders(model: Model) -> None:
    logits = model.classifier(X)
    joint = -logits[torch.arange(6), Y]
    assert torch.allclose(energy(model, X, Y), joint)
    assert torch.allclose(energy(model, X.numpy(), Y.tolist()), joint)
    batches = DataLoader(TensorDataset(X, Y), 4)
    assert torch.allclose(energy(model, batches, batch_size=5), joint)
    marginal = -logits.logsumexp(1)
    assert torch.allclose(energy(model, X), marginal)
    assert torch.allclose(energy(model, batches, marginal=True), marginal)
    with pytest.raises(UsageProblem, match="takes 1x8x8 images"):
        energy(model, torch.rand(2, 3, 8, 8))


def test_own_images_are_scored_as_a_folder_of_them(model: Model, tmp_path: Path) -> None:
    import numpy as np

    drawn, real = torch.rand(40, 1, 8, 8), torch.rand(50, 1, 8, 8)
    settings = {"features": model, "kid_subset_size": 10, "kid_subsets": 2, "splits": 2}
    own = image_scores(drawn, real=real, **settings)
    assert own.protocol["n"] == 40
    assert own.protocol["reference"] == {"dataset": "tensors", "split": "given", "n": 50}
    np.savez(tmp_path / "a.npz", arr_0=(drawn * 255 + 0.5).byte().permute(0, 2, 3, 1).numpy())
    stored = image_scores(tmp_path / "a.npz", real=real, **settings)
    assert stored.fid == pytest.approx(own.fid, rel=1e-9)
    loader = DataLoader(TensorDataset(drawn, torch.zeros(40, dtype=torch.int64)), 16)
    assert image_scores(loader, real=real, **settings).fid == own.fid
    with pytest.raises(UsageProblem, match="exclude"):
        image_scores(drawn, real=real, dataset="digits", **settings)
    with pytest.raises(UsageProblem, match="are 1x8x8"):
        image_scores(drawn, real=torch.rand(9, 1, 8, 9), **settings | {"features": wrapped()})
    with pytest.raises(UsageProblem, match="already drawn"):
        image_scores(drawn, real=real, steps=3, **settings)


def wrapped() -> Model:
    """Return a judge of images 8 x 9."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, 3))
    return wrap(net, mean=0, std=1, classes=3, shape=(1, 8, 9))


def test_what_the_caller_has_set_in_torch_changes_nothing(model: Model) -> None:
    def both() -> tuple[float, list[str | None], torch.Tensor]:
        found = jeatcli.attack(model, attacks=["pgd"], steps=3, eps=0.3, images=X, labels=Y)
        drawn = jeatcli.sample(model, init="uniform", num=2, steps=2).images
        return found.robust, found.samples["broken_by"], drawn

    expected, state = both(), torch.random.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            inside = both()
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert inside[:2] == expected[:2]
    assert torch.equal(inside[2], expected[2])
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_api_warns_by_pythons_warnings(model: Model) -> None:
    trained = replace(model, classifier=copy.deepcopy(model.classifier).train())
    with pytest.warns(JeatWarning, match="is in training mode: a copy in evaluation mode"):
        jeatcli.attack(trained, attacks=["fgsm"], eps=0.1, images=X, labels=Y)
    assert trained.classifier.training
