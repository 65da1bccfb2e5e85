"""The Python API: its page follows the docstrings, and its examples run."""

from __future__ import annotations

import copy
import doctest
import importlib
import importlib.util
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import jeatcli
from jeatcli import energy, image_scores, wrap
from jeatcli.checkpoints.model import Model
from jeatcli.cli.terminal import Terminal
from jeatcli.errors import JeatError, JeatWarning, UsageProblem
from jeatcli.runtime.usual_state import in_usual_state

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


def test_results_in_a_notebook_are_a_line_and_errors_have_their_hint(model: Model) -> None:
    found = jeatcli.attack(model, images=X, labels=Y, eps=0.1, steps=1)
    drawn = jeatcli.sample(model, num=3, steps=1)
    around = jeatcli.energy_landscape(model, images=X, labels=Y, image=(0,))
    for shown in map(repr, (model, found, drawn, around)):
        assert "\n" not in shown
        assert len(shown) < 900
    assert (
        repr(model) == "<Model Sequential: Sequential, foreign, 3 classes of 1x8x8 images, on cpu>"
    )
    assert repr(drawn).startswith("<Samples: 3 images 1x8x8; sampler ")
    assert repr(found).startswith("<Robustness of Sequential: ")
    assert f"{100 * found.robust:.2f} % robust to pgd, linf 0.1, n = 6" in repr(found)
    with pytest.raises(UsageProblem, match="unknown class `3`") as caught:
        jeatcli.sample(model, classes=["3"])
    assert caught.value.__notes__ == [f"Hint: {caught.value.hint}"]


def test_a_notebook_may_listen_to_the_progress(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    jeatcli.attack(model, images=X, labels=Y, eps=0.1, steps=1, reporter=Terminal())
    said = capsys.readouterr()
    assert re.search(r"attack pgd  .* images/s .* robust \d+\.\d %", said.err)
    assert not said.out


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


@contextmanager
def other_defaults() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    try:
        with torch.device("meta"):
            yield
        assert torch.get_default_dtype() is torch.float64
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.benchmark
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.benchmark = False


def rounded() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("state", [torch.inference_mode, torch.no_grad, rounded, other_defaults])
def test_what_the_caller_has_set_in_torch_changes_nothing(
    model: Model, state: Callable[[], AbstractContextManager[object]]
) -> None:
    def each() -> tuple[list[str | None], torch.Tensor, torch.Tensor]:
        found = jeatcli.attack(model, attacks=["pgd"], steps=3, eps=0.3, images=X, labels=Y)
        drawn = jeatcli.sample(network, init="uniform", num=2, steps=2, precision="fp32").images
        return found.samples["broken_by"], drawn, energy(network, drawn)

    network = jeatcli.load("pretrained", device="cpu")
    expected, random = each(), torch.random.get_rng_state()
    with state():
        inside = each()
    assert inside[0] == expected[0]
    assert torch.equal(inside[1], expected[1])
    assert torch.equal(inside[2], expected[2])
    assert torch.equal(random, torch.random.get_rng_state())


def test_threads_take_turns(model: Model) -> None:
    """Torch's tracer, by which networks are folded, changes `nn.Module` for all threads."""

    def attacked(seed: int) -> list[str | None]:
        one = {"images": X, "labels": Y, "attacks": ["pgd"], "eps": 0.3, "seed": seed}
        return jeatcli.attack(model, **one).samples["broken_by"]

    running: list[int] = []

    @in_usual_state
    def alone(number: int) -> int:
        running.append(number)
        time.sleep(0.02)
        found = len(running)
        running.remove(number)
        return found

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(alone, range(8))) == {1}
        assert list(threads.map(attacked, range(8))) == [attacked(seed) for seed in range(8)]


def test_results_are_read_whatever_device_is_the_default(model: Model) -> None:
    found = jeatcli.energy_landscape([model], images=X[:2], labels=Y[:2], grid=3)
    text = found.text()
    with torch.device("meta"):
        assert found.text() == text
        assert found.result.arrays().keys()


def test_arrays_of_any_layout_are_the_same_images(model: Model) -> None:
    expected = energy(model, X, Y)
    read_only = X.numpy().copy()
    read_only.flags.writeable = False
    for images in (
        np.asfortranarray(X.numpy()),
        X.numpy()[::-1].copy()[::-1],
        X.numpy().astype(">f8"),
        read_only,
        X * 2 / 3 * 1.5,  # rounded to a little above 1
        X.clone().requires_grad_(),
    ):
        assert torch.allclose(energy(model, images, Y.numpy().astype(">i8")), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": None}, "`mean` cannot be None"),
        ({"std": 1e-46}, "must be above 0"),
        ({"mean": (), "std": ()}, "has 0 values"),
        ({"classes": 1}, "`classes` cannot be 1"),
        ({"classes": "abc"}, "`classes` cannot be 'abc'"),
        ({"classes": 10**9}, "`classes` cannot be 1000000000"),
        ({"dataset": 3}, "`dataset` cannot be 3"),
        ({"name": 3}, "`name` cannot be 3"),
        ({"classes": {"a", "b", "c"}}, "`classes` cannot be {"),
        ({"classes": {0: "a", 1: "b", 2: "c"}}, "`classes` cannot be {"),
        ({"classes": ["a", "b", "a"]}, "`classes` cannot be"),
        ({"shape": (8, 8)}, r"`shape` cannot be \(8, 8\)"),
        ({"shape": (1, 8.0, 8)}, "`shape` cannot be"),
        ({"shape": 8}, "`shape` cannot be 8"),
        ({"dataset": "digits", "shape": (3, 32, 32)}, "images of the data set are 1x8x8"),
        ({"dataset": "digits", "shape": None, "classes": [*"9876543210"]}, "are 0, 1, 2"),
    ],
)
def test_descriptions_of_a_network_that_cannot_be(given: dict[str, Any], words: str) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    with pytest.raises(UsageProblem, match=words):
        wrap(net, **{"mean": 0, "std": 1, "classes": 3, "shape": (1, 8, 8)} | given)


def test_descriptions_of_a_network_by_the_numbers_of_libraries() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    numbers = {"mean": np.float32(0.5), "std": torch.tensor([0.5]), "classes": np.int64(3)}
    meta = wrap(net, **numbers, shape=torch.Size([1, 8, 8])).meta
    assert (meta.mean, meta.std, meta.classes) == ((0.5,), (0.5,), ("0", "1", "2"))
    model = wrap(
        net, mean=0, std=1, classes=np.array(["a", "b", "c"]), shape=(1, 8, 8), name="v1.5"
    )
    assert (model.meta.classes, model.name) == (("a", "b", "c"), "v1.5")
    found = jeatcli.attack(model, images=X, labels=Y, eps=np.float32(0.5), steps=np.int64(2))
    assert (found.eps, found.per_attack["pgd"]["steps"]) == (0.5, 2)


class BlindInTheDark(torch.nn.Module):
    """A root of the brightest pixel: NaN for a black image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(1)
        logits: torch.Tensor = self.linear(rows) * (rows.amax(1, keepdim=True) - 0.1).sqrt()
        return logits


def test_no_class_is_predicted_by_nan() -> None:
    model = wrap(BlindInTheDark(), mean=0, std=1, classes=3, shape=(1, 8, 8))
    images = X.repeat(100, 1, 1, 1)
    images[1] = 0  # not among those that are looked at before
    labels = model.classifier(images).argmax(1)  # the first class for NaN
    found = jeatcli.attack(model, images=images, labels=labels, eps=0.01, attacks=["fgsm"])
    assert found.clean == 1 - 1 / len(images)
    assert found.samples["broken_by"][1] is None


def test_of_log_probabilities_no_energy_is_believed(model: Model) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), torch.nn.LogSoftmax(1))
    with pytest.warns(JeatWarning, match="are log-probabilities, not logits"):
        energy(wrap(net, mean=0, std=1, classes=3, shape=(1, 8, 8)), X)


def test_of_probabilities_no_confidence_is_believed() -> None:
    """The calibration error would be that of a second softmax."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), torch.nn.Softmax(1))
    told = wrap(net, mean=0, std=1, classes=3, shape=(1, 8, 8))
    own: dict[str, Any] = {"images": X, "labels": Y}
    for call in (
        lambda: energy(told, X),
        lambda: jeatcli.classifier_scores(told, **own),
        lambda: jeatcli.energy_landscape(told, **own, grid=5),
        lambda: jeatcli.image_scores(X, real=X, features=told),
        lambda: jeatcli.sample(told, num=1, steps=1, init="uniform"),
    ):
        with pytest.warns(JeatWarning, match="are probabilities, not logits, so energies"):
            call()
    with pytest.warns(JeatWarning, match="outputs are probabilities") as warned:
        jeatcli.attack(told, **own, attacks=["fgsm"])
    assert sum("are probabilities" in str(each.message) for each in warned) == 1


def test_settings_of_another_type(model: Model) -> None:
    own = {"images": X, "labels": Y}
    calls: dict[str, Callable[[Any], object]] = {
        "AttackSettings": lambda given: jeatcli.attack(model, given, **own),
        "SampleSettings": lambda given: jeatcli.sample(model, given),
        "LandscapeSettings": lambda given: jeatcli.energy_landscape(model, given, **own),
        "ScoreSettings": lambda given: jeatcli.image_scores(X, given, real=X),
        "ClassifierSettings": lambda given: jeatcli.classifier_scores(model, given, **own),
        "Foreign": lambda given: energy(model, X, foreign=given),
    }
    for name, call in calls.items():
        with pytest.raises(UsageProblem, match=f"expected `{name}`, not dict") as caught:
            call({"num": 3})
        assert f"`{name}(...)`" in str(caught.value.hint)
    with pytest.raises(UsageProblem, match="unknown kind `3`"):
        jeatcli.energy_landscape(model, kind=3, **own)


@pytest.mark.parametrize("call", [energy, jeatcli.attack, jeatcli.image_scores])
def test_a_network_that_is_not_wrapped(call: Callable[..., object]) -> None:
    with pytest.raises(UsageProblem, match="or a loaded model, not of the type Linear") as caught:
        call(torch.nn.Linear(1, 1), images=X) if call is not jeatcli.image_scores else call(
            X, real=X, features=torch.nn.Linear(1, 1)
        )
    assert "wrap(net" in str(caught.value.hint)


def test_other_numbers_of_the_api(model: Model, tmp_path: Path) -> None:
    for threat in (("linf", "8/255"), ("linf", None), (8 / 255, "linf")):
        with pytest.raises(UsageProblem, match="a threat model is a norm and a radius"):
            jeatcli.Threat(*threat)  # type: ignore[arg-type]
    described = jeatcli.Foreign("small", "digits", np.array([0.5]), torch.tensor([0.5]))
    assert (described.mean, described.std) == ((0.5,), (0.5,))
    assert jeatcli.load("pretrained", device=torch.device("cpu")).device.type == "cpu"
    with pytest.raises(UsageProblem, match="there are not 7 images, but 6"):
        image_scores(X, real=X, features=model, num=7)
    (tmp_path / "mine.safetensors").write_text("mine")
    with pytest.raises(JeatError, match="was not written by `jeat attack --save`"):
        jeatcli.attack(model, images=X, labels=Y, images_to=tmp_path / "mine.safetensors")
    with pytest.raises(UsageProblem, match="`batch_size` must be"):
        energy(model, X, batch_size=0)
    with pytest.raises(UsageProblem, match="`frames` must be"):
        jeatcli.sample(model, num=1, steps=1, frames=-1)
    drawn = jeatcli.sample(model, num=1, steps=2, frames=10**12)
    assert drawn.trace is not None
    assert drawn.trace[1] == [0, 1, 2]
    ten = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    other = wrap(ten, mean=0, std=1, classes=10, shape=(1, 8, 8))
    with pytest.raises(UsageProblem, match="classes differ: `Sequential` has 0, 1, 2, `Seq"):
        jeatcli.energy_landscape([model, other], images=X, labels=Y, grid=3)


def test_the_api_warns_by_pythons_warnings(model: Model) -> None:
    trained = replace(model, classifier=copy.deepcopy(model.classifier).train())
    with pytest.warns(JeatWarning, match="is in training mode: a copy in evaluation mode"):
        jeatcli.attack(trained, attacks=["fgsm"], eps=0.1, images=X, labels=Y)
    assert trained.classifier.training
    double = replace(model, classifier=copy.deepcopy(model.classifier).double())
    with pytest.warns(JeatWarning, match="is not in float32: a copy in float32 is used"):
        assert torch.equal(energy(double, X), energy(model, X))
