"""Networks that are not ours: own code, a library's, exported programs; nothing else runs."""

from __future__ import annotations

import json
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import own_network
from helpers.checkpoints import written
from helpers.cli import done, here, refused
from helpers.runs import Listener
from torch import Tensor, nn

from jeatcli import Foreign, JeatError, attack, image_scores, load, sample, wrap
from jeatcli.checkpoints.header import read_header
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import Images, load_images
from jeatcli.errors import UsageProblem
from jeatcli.robustness.result import Robustness

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OWN = f"{own_network.__file__}:resnet20"
RAW = {"mean": (0.0,), "std": (1.0,)}
DESCRIBED = ("--dataset", "digits", "--mean", "0", "--std", "1", "--device", "cpu")


def exported(net: nn.Module, path: Path, image: tuple[int, ...] = (3, 32, 32)) -> Path:
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(net, (torch.rand(2, *image),), dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def path(shared: Path) -> Path:
    return shared / "models" / "resnet20-12fca82f.th"


@pytest.fixture(scope="module")
def theirs(path: Path) -> nn.Module:
    net = own_network.resnet20()
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("module."): value for key, value in content.items()})
    return net.eval()


def as_file(path: Path, net: nn.Module, folder: Path) -> Model:
    return load(path, device="cpu", foreign=Foreign(OWN, "cifar10", MEAN, STD))


def as_module(path: Path, net: nn.Module, folder: Path) -> Model:
    named = "helpers.own_network:resnet20"
    return load(path, device="cpu", foreign=Foreign(named, "cifar10", MEAN, STD))


def as_wrapped(path: Path, net: nn.Module, folder: Path) -> Model:
    return wrap(net, mean=MEAN, std=STD, dataset="cifar10")


def as_program(path: Path, net: nn.Module, folder: Path) -> Model:
    file = exported(net, folder / "own.pt2")
    return load(file, device="cpu", foreign=Foreign(None, "cifar10", MEAN, STD))


def as_onnx(path: Path, net: nn.Module, folder: Path) -> Model:
    pytest.importorskip("onnx2torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n"}}
        torch.onnx.export(
            net,
            (torch.rand(2, 3, 32, 32),),
            folder / "own.onnx",
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
            opset_version=13,
        )
    return load(folder / "own.onnx", device="cpu", foreign=Foreign(None, "cifar10", MEAN, STD))


def verdicts(model: Model, images: Images) -> list[Robustness]:
    settings = {"eps": 1 / 255, "steps": 4, "exact": True, "device": "cpu"}
    own = {"images": images.x, "labels": images.y}
    return [attack(model, attacks=(name,), **own, **settings) for name in ("pgd", "apgd-ce")]


@pytest.fixture(scope="module")
def native(path: Path, cifar10_root: Path) -> tuple[Model, Images, list[Robustness]]:
    images = load_images("cifar10", "test", data_dir=cifar10_root).first(12)
    model = load(path, device="cpu", foreign=Foreign("cifar-resnet-20", "cifar10", MEAN, STD))
    return model, images, verdicts(model, images)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("way", [as_file, as_module, as_wrapped, as_program, as_onnx])
def test_the_public_network_has_the_same_verdicts_in_every_form(
    way: Callable[[Path, nn.Module, Path], Model],
    path: Path,
    theirs: nn.Module,
    native: tuple[Model, Images, list[Robustness]],
    tmp_path: Path,
) -> None:
    """`benchmarks/network_forms.py` does so on 500 images."""
    ours, images, expected = native
    other = way(path, theirs, tmp_path)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other.classifier(x), ours.classifier(x), atol=1e-4, rtol=1e-4)
    for one, own in zip(expected, verdicts(other, images), strict=True):
        assert one.samples == own.samples
        assert 0 < own.robust < own.clean


def test_features_are_what_the_last_linear_layer_takes(theirs: nn.Module, tmp_path: Path) -> None:
    model = wrap(theirs, mean=MEAN, std=STD, dataset="cifar10")
    x = torch.rand(2, 3, 32, 32)
    values, logits = model.classifier.penultimate(x)
    assert values.shape == (2, 64)
    torch.testing.assert_close(theirs.linear(values), logits)
    torch.testing.assert_close(logits, model.classifier(x))
    program = as_program(tmp_path, theirs, tmp_path)
    values, logits = program.classifier.penultimate(x)
    assert torch.equal(values, logits)


class Net(nn.Module):
    """A linear network of the digits, with whatever is wrong with it."""

    def __init__(self, after: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.linear = nn.Linear(64, 10)
        self.after = after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.linear(self.norm(x.flatten(1))))


def raised(logits: Tensor) -> Tensor:
    raise ValueError("only on Mondays")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda logits: logits.detach(), "have no gradient with respect to the images"),
        (lambda logits: (logits,), "returns a tuple, not logits"),
        (lambda logits: logits.argmax(1), "returns a tensor of torch.int64, not logits"),
        (lambda logits: logits[:, :7], "returns 2x7 for 2 images, not 2x10"),
        (lambda logits: logits[:2], "not one of 3: `Net` returns 2x10 for 3 images"),
        (raised, "fails on images 2x1x8x8: ValueError: only on Mondays"),
        (lambda logits: logits.log(), "gives logits that are NaN or infinite"),
        (lambda logits: logits.mean(0), "returns 10 for 2 images, not 2x10"),
        (lambda logits: {"logits": logits}, "returns a dict, not logits"),
    ],
)
def test_what_a_network_lacks_is_named(after: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises(JeatError) as caught:
        wrap(Net(after), dataset="digits", **RAW)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_network_in_training_mode_is_copied_and_one_that_stays_in_it_refused(
    tmp_path: Path,
) -> None:
    net = Net().train()
    wrap(net, dataset="digits", **RAW)
    assert net.training
    assert net.linear.weight.requires_grad
    net.train = lambda mode=True: net  # type: ignore[method-assign]
    with pytest.raises(JeatError, match="depend on the other images of its batch"):
        wrap(net, dataset="digits", **RAW)
    path = exported(Net().train(), tmp_path / "train.pt2", (1, 8, 8))
    with pytest.raises(JeatError, match="depend on the other images of its batch"):
        load(path, device="cpu", foreign=Foreign(None, "digits", (0.0,), (1.0,)))


def test_a_program_for_one_size_of_batches_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fixed.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.rand(2, 1, 8, 8),)), path)
    said = here("attack", path, *DESCRIBED)
    refused(said, 1, "takes a batch of 2 images, but not one of 3", "Dim.DYNAMIC")


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda x: x, "takes a torch.nn.Module, not <lambda>"),
        (Net, "takes a torch.nn.Module, not Net"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "the weight `1.weight` of `Sequential`"),
        (Net().to("meta"), "the weight `norm.weight` of `Net` has no content"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10, device="meta")), "has no content"),
    ],
    ids=["function", "class", "lazy", "meta", "partly meta"],
)
def test_what_is_no_network_with_weights(net: Any, words: str) -> None:
    with pytest.raises(JeatError, match=words) as caught:
        wrap(net, dataset="digits", **RAW)
    assert caught.value.hint


def test_a_normalisation_without_running_statistics_is_refused() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), Net().linear)
    with pytest.raises(JeatError, match="depend on the other images") as caught:
        wrap(net, dataset="digits", **RAW)
    assert "no running statistics" in str(caught.value.hint)


class Idioms(Net):
    """What public code does: changes its input in place, views features, squeezes logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, 2, 1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(0.5).div_(0.5)
        return self.fc(self.conv(x).relu_().view(x.size(0), -1)).squeeze()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("traced", [False, True])
def test_idioms_of_public_code(traced: bool) -> None:
    net: nn.Module = Idioms().eval()
    x = torch.rand(3, 1, 8, 8)
    expected = net(x.clone())
    if traced:
        net = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        expected = net(x)
    model = wrap(net, dataset="digits", **RAW)
    torch.testing.assert_close(model.classifier(x), expected)
    torch.testing.assert_close(model.classifier(x[:1]), expected[:1])
    found = attack(model, images=x, labels=[1, 2, 3], steps=2, device="cpu")
    assert found.n == 3


def test_a_network_without_weights() -> None:
    class Pixels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10]

    model = wrap(Pixels(), dataset="digits", **RAW)
    assert model.device.type == "cpu"
    assert attack(model, images=torch.rand(3, 1, 8, 8), labels=[1, 2, 3], device="cpu").n == 3


class Classify(Net):
    """As JEM's: the module itself returns an energy."""

    def classify(self, x: Tensor) -> Any:
        return super().forward(x)

    def forward(self, x: Tensor) -> Any:
        return self.classify(x).logsumexp(1)


def test_a_method_classify_is_called_in_place_of_the_module() -> None:
    net = Classify().eval()
    model = wrap(net, dataset="digits", **RAW)
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.classifier(x), net.classify(x))


def test_the_same_weights_in_other_code_are_another_model() -> None:
    first = Net()
    second = Classify()
    second.load_state_dict(first.state_dict())
    prints = {wrap(net, dataset="digits", **RAW).fingerprint for net in (first, second)}
    assert len(prints) == 2
    assert wrap(first, dataset="digits", **RAW).fingerprint in prints


CODE = """
import torch
from torch import nn
from beside import classes
import os
os.makedirs({marker!r}, exist_ok=True)

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def fails():
    raise RuntimeError("no weights here")

def nothing():
    return None
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("classes = 10\n")
    (tmp_path / "mine.py").write_text(CODE.format(marker=str(tmp_path / "marker")))
    return tmp_path / "mine.py"


def test_code_runs_only_where_it_is_named(code: Path, tmp_path: Path) -> None:
    weights = {"module.1.weight": torch.randn(10, 64), "module.1.bias": torch.zeros(10)}
    file = written(tmp_path, weights)
    refused(here("attack", file, *DESCRIBED), 2, "does not say what it is")
    assert not (tmp_path / "marker").exists()
    options = (*DESCRIBED, "-n", "8", "--steps", "1", "--json")
    found = json.loads(done("attack", file, "--arch", f"{code}:make", *options))
    assert found["n"] == 8
    (tmp_path / "marker").rmdir()
    assert str(tmp_path) not in sys.path
    for function, words in (
        ("fails", "failed: RuntimeError: no weights here"),
        ("nothing", "returned NoneType, not a torch.nn.Module"),
        ("absent", "has no function `absent`"),
    ):
        said = here("attack", file, "--arch", f"{code}:{function}", *DESCRIBED)
        refused(said, 2 if function == "absent" else 1, words, "Hint: ")
        (tmp_path / "marker").rmdir()
    refused(
        here("attack", file, "--arch", "no:where:x", *DESCRIBED),
        2,
        "there is no network `no:where:x`",
    )


def test_weights_that_do_not_fit_the_code_are_named(code: Path, tmp_path: Path) -> None:
    file = written(tmp_path, {"1.weight": torch.randn(10, 64), "2.weight": torch.zeros(3, 3)})
    said = here("attack", file, "--arch", f"{code}:make", *DESCRIBED)
    refused(said, 1, "1 missing: 1.bias", "1 not known to it: 2.weight")


def test_a_normalisation_is_asked_for(code: Path, tmp_path: Path) -> None:
    weights = {"1.weight": torch.randn(10, 64), "1.bias": torch.zeros(10)}
    given = ("--arch", f"{code}:make", "--dataset", "digits")
    said = here("attack", written(tmp_path, weights), *given)
    refused(said, 2, "the normalisation of `", "--mean")
    found = load(
        written(tmp_path, weights | {"mean": torch.tensor([0.3]), "std": torch.tensor([0.5])}),
        device="cpu",
        foreign=Foreign(f"{code}:make", "digits"),
    )
    assert found.meta.mean == pytest.approx((0.3,))


def test_a_network_that_normalises_inside_keeps_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "inside.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(64, 10)\n"
        "        self.register_buffer('mean', torch.zeros(1))\n"
        "        self.register_buffer('std', torch.ones(1))\n"
        "    def forward(self, x):\n"
        "        return self.fc(((x - self.mean) / self.std).flatten(1))\n"
    )
    weights = {"fc.weight": torch.randn(10, 64), "fc.bias": torch.zeros(10)}
    numbers = {"mean": torch.tensor([0.3]), "std": torch.tensor([0.5])}
    file = written(tmp_path, weights | numbers)
    named = f"{tmp_path / 'inside.py'}:Net"
    model = load(file, device="cpu", foreign=Foreign(named, "digits", (0.0,), (1.0,)))
    x = torch.rand(2, 1, 8, 8)
    expected = ((x - 0.3) / 0.5).flatten(1) @ weights["fc.weight"].T
    torch.testing.assert_close(model.classifier(x), expected)
    with pytest.raises(UsageProblem, match="the normalisation of `"):
        load(file, device="cpu", foreign=Foreign(named, "digits"))


@pytest.mark.filterwarnings("ignore")
def test_a_network_of_torchvision_goes_through_all_verbs(home: Path) -> None:
    from PIL import Image

    pictures = home.parent / "pictures"
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("test", 3)):
        for label, value in (("dark", 40), ("light", 200)):
            folder = pictures / split / label
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = value + torch.randint(30, (32, 32, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{k}.png")
    arch = "torchvision:shufflenet_v2_x0_5"
    options = ("--dataset", f"folder:{pictures}", "--arch", arch, "--method", "standard")
    done("train", *options, "--epochs", "1", "-b", "6", "-o", "theirs", "--device", "cpu")
    assert read_header(home / "theirs" / "model.safetensors")["arch"] == arch
    done("attack", "theirs", "-n", "4", "--steps", "1")
    done("sample", "theirs", "-n", "2", "--steps", "1", "-o", home.parent / "drawn.png")
    sharpness = ("--kind", "sharpness", "-n", "4")
    done("landscape", "theirs", *sharpness, "-o", home.parent / "sharp.png")
    done("score", "theirs", "--calibration")


def test_a_header_names_no_code(code: Path, home: Path) -> None:
    """A file that says it is of `FILE.py:FUNCTION` does not make it run."""
    file = home / "standard" / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    about = json.loads(header["__metadata__"]["jeat"]) | {"arch": f"{code}:make"}
    header["__metadata__"]["jeat"] = json.dumps(about)
    raw = json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + size :])
    refused(here("attack", "standard"), 1, "header of", "unknown architecture")
    assert not (code.parent / "marker").exists()


class Bomb:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a program with other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    bad = path.with_name("bad.pt2")
    with zipfile.ZipFile(bad, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"bad/{name}", content)
    return bad


def replaced(old: str, new: str) -> Callable[[dict[str, bytes], Path], None]:
    def change(entries: dict[str, bytes], marker: Path) -> None:
        text = entries["models/model.json"].decode()
        assert old in text
        entries["models/model.json"] = text.replace(old, new % {"marker": marker}).encode()

    return change


def pickled(entries: dict[str, bytes], marker: Path) -> None:
    entries["data/sample_inputs/model.pt"] = pickle.dumps(Bomb(marker))


def weights_pickled(entries: dict[str, bytes], marker: Path) -> None:
    config = entries["data/weights/model_weights_config.json"]
    entries["data/weights/model_weights_config.json"] = config.replace(
        b'"use_pickle": false', b'"use_pickle": true'
    )
    entries["data/weights/weight_0"] = pickle.dumps(Bomb(marker))


def library(entries: dict[str, bytes], marker: Path) -> None:
    entries["data/aotinductor/model/code.so"] = b"\x7fELF"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pickled, "more than tensors in `data/sample_inputs/model.pt`"),
        (weights_pickled, "pickled weights"),
        (library, "`data/aotinductor/model/code.so`"),
        (
            replaced("Symbol('s", "__import__('os').mkdir('%(marker)s') or Symbol('s"),
            "the expression",
        ),
        (replaced("torch.ops.aten.flatten.using_ints", "torch.os.mkdir"), "the operation"),
        (replaced("torch.ops.aten.flatten.using_ints", "torch.ops.aten.save.default"), "the op"),
        (replaced('"x"', "\"x=__import__('os').mkdir('%(marker)s')\""), "the name"),
        (replaced('"guards_code": []', '"guards": ["print(1)"]'), "the name"),
    ],
    ids=["pickle", "weights", "library", "expression", "function", "writes", "name", "guard"],
)
def test_a_program_with_code_in_it_is_refused_and_nothing_runs(
    tmp_path: Path, change: Callable[[dict[str, bytes], Path], None], words: str
) -> None:
    good = exported(Net().eval(), tmp_path / "good.pt2", (1, 8, 8))
    marker = tmp_path / "marker"
    bad = changed(good, lambda entries: change(entries, marker))
    said = here("attack", bad, *DESCRIBED)
    refused(said, 1, f"holds {words}", "could run code", "Hint: ")
    assert not marker.exists()
    whole = changed(good, lambda entries: None)
    assert load(whole, device="cpu", foreign=Foreign(None, "digits", (0.0,), (1.0,)))


def test_a_pickled_module_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for content in ({"state_dict": {}, "net": Bomb(marker)}, Bomb(marker), nn.Linear(2, 2)):
        said = here("attack", written(tmp_path, content), *DESCRIBED, "--arch", "small")
        refused(said, 1, "holds more than tensors", "save only the weights")
    assert not marker.exists()


def test_a_program_takes_no_other_network(tmp_path: Path) -> None:
    path = exported(Net().eval(), tmp_path / "net.pt2", (1, 8, 8))
    refused(here("attack", path, *DESCRIBED, "--arch", "small"), 2, "contains its network")
    refused(here("attack", path), 2, "does not say what its classes are", "--dataset")
    refused(here("attack", path, "--dataset", "digits"), 2, "the normalisation of `", "--mean")


def test_sampling_from_a_network_of_ones_own() -> None:
    model = wrap(Net(), dataset="digits", **RAW)
    drawn = sample(model, init="uniform", num=3, steps=2, device="cpu")
    assert drawn.images.shape == (3, 1, 8, 8)


@pytest.mark.parametrize("layer", ["linear", None])
def test_a_score_says_where_features_come_from(tmp_path: Path, layer: str | None) -> None:
    judge = wrap(
        Net(lambda logits: logits if layer else 2 * logits), dataset="digits", name="mine", **RAW
    )
    listener = Listener()
    settings = {"features": judge, "num": 20, "kid_subsets": 2, "kid_subset_size": 10}
    artist = wrap(Net(), dataset="digits", **RAW)
    image_scores(artist, reporter=listener, steps=1, init="uniform", **settings)
    expected = f"what `{layer}` takes" if layer else "its logits"
    assert any(f"features of `mine`: {expected}" in text for text in listener.said)
