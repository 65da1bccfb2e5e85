"""What is wrong is said with the fix and the right exit code, and nothing is lost."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from click.testing import Result
from command_line import EXECUTABLE, QUICK, STANDARD, environment, here, jeat
from conftest import Trained
from PIL import Image
from safetensors.torch import save_file

resource = pytest.importorskip("resource", reason="limits files to play a full disk")
LATEST = "digits-jeat-small"
Said = Result | subprocess.CompletedProcess[str]


def refused(said: Said, code: int, *words: str) -> None:
    """Check the exit code, the words on stderr (line breaks aside), and what is not there."""
    found = said.exit_code if isinstance(said, Result) else said.returncode
    text = " ".join(said.stderr.split())
    assert found == code, said.stderr
    assert said.stdout == ""
    assert "Error: " in text
    assert "Traceback" not in text
    assert "internal" not in text
    for word in words:
        assert word in text, text


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the time of writing of all files below `folder`."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Check that no file below `folder` is changed, lost or left behind."""
    before = everything(folder)
    yield
    assert everything(folder) == before


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as a full disk would."""
    former, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (former, hard))


# names and numbers


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["train", "--method", "jaet"], "unknown method `jaet`", "did you mean `jeat`?"),
        (
            [*STANDARD, "-O", "eps=0.1"],
            "unknown option of method `standard` `eps`",
            "there are none",
        ),
        (
            ["train", *QUICK, "-O", "lamda=1"],
            "unknown option of method `jeat` `lamda`",
            "did you mean `lambda`?",
        ),
        (["train", "--dataset", "cifar"], "unknown data set `cifar`", "did you mean `cifar10`?"),
        (["train", "--dataset", "folder:"], "unknown data set `folder:`", "`folder:PATH`?"),
        (["train", "--arch", "resnet18"], "unknown architecture `resnet18`", "`resnet-18`?"),
        ([*STANDARD, "--arch", "wrn-27-10"], "`wrn-27-10`", "the nearest is `wrn-28-10`"),
        (["train", "--eps", 8], "eps 8 under linf", "did you mean 8/255?"),
        (["train", "-O", "eps=8"], "eps 8 under linf", "did you mean 8/255?"),
        (["attack", "--eps", 8], "eps 8 under linf", "did you mean 8/255?"),
        (["attack", "--target", "12"], "unknown class `12`", "known: 0, 1, 2"),
        (["attack", "--attack", "pdg"], "unknown attack `pdg`", "did you mean `pgd`?"),
        (["attack", "-n", 1, "--target", "8"], "all the images are of the target class", "`-n`"),
        (["sample", "--class", "dog"], "unknown class `dog`", "known: 0, 1, 2"),
        (["score", "--dataset", "digist"], "unknown data set `digist`", "`digits`?"),
        (["sample", "--device", "gpu"], "unknown device `gpu`", "known: auto, cpu, cuda"),
        (["atack"], "unknown command `atack`", "did you mean `attack`?"),
    ],
    ids=lambda value: " ".join(map(str, value[:5])) if isinstance(value, list) else "",
)
def test_unknown_names(home: Path, arguments: list[str], error: str, hint: str) -> None:
    with untouched(home):
        refused(here(*arguments), 2, f"Error: {error}", "Hint: ", hint)


def test_class_names_are_near_too(home: Path, zoo: Path) -> None:
    run = here("train", "--dataset", f"folder:{zoo}", *FOLDER).stdout.strip()
    for option in (["sample", run, "--class"], ["attack", run, "--target"]):
        refused(here(*option, "dgo"), 2, "Error: unknown class `dgo`", "did you mean `dog`?")


@pytest.mark.parametrize("device", ["cuda:99", "mps"])
@pytest.mark.parametrize("verb", ["attack", "sample", "landscape"])
def test_a_device_that_does_not_exist(home: Path, verb: str, device: str) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    with untouched(home):
        said = here(verb, "--device", device)
    refused(said, 1, f"Error: device `{device}` does not exist", "Hint: use `--device auto`")


def test_training_on_a_device_that_does_not_exist(home: Path) -> None:
    refused(here(*STANDARD, "-o", "new", "--device", "cuda:99"), 1, "device `cuda:99`")
    assert not (home / "new").exists()


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("datset = 'digits'", "unknown key `datset` in `", "did you mean `dataset`?"),
        ("lr = = 3", "settings.toml` is not valid TOML", "at line 1, column 6"),
        ("[options]\nattack_steps = inf", "`attack_steps` must be a finite number", ""),
        ("[options]\nattack_steps = [1]", "option `attack_steps`: `[1]` is no number", ""),
        ("[options]\nattack_steps = 2.5", "`attack_steps` is a whole number, not 2.5", ""),
        ("[options]\nnorm = 3", "unknown value of option `norm` `3`", "known: l2, linf"),
    ],
)
def test_settings_in_a_file(home: Path, tmp_path: Path, text: str, error: str, hint: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with untouched(home):
        refused(here("train", "-c", tmp_path / "settings.toml"), 2, error, hint)


# runs and checkpoints


def rewritten(model: bytes, **changes: object) -> bytes:
    """Return the bytes of a checkpoint with other entries in its header."""
    (length,) = struct.unpack("<Q", model[:8])
    header = json.loads(model[8 : 8 + length])
    meta = json.loads(header["__metadata__"]["jeat"]) | changes
    raw = json.dumps(header | {"__metadata__": {"jeat": json.dumps(meta)}}).encode()
    return struct.pack("<Q", len(raw)) + raw + model[8 + length :]


@pytest.fixture(scope="module")
def broken(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with everything that is not quite a run."""
    folder = tmp_path_factory.mktemp("broken")
    run = trained.runs / "standard"
    model = (run / "model.safetensors").read_bytes()
    for name in ("empty", "half", "state-only", "no-run", "cut", "begun", "newer"):
        (folder / name).mkdir()
    shutil.copy(run / "config.toml", folder / "half")
    shutil.copy(run / "state.safetensors", folder / "state-only")
    (folder / "no-run" / "thesis.tex").write_text("precious")
    (folder / "cut" / "model.safetensors").write_bytes(model[:-1])
    (folder / "begun" / "model.safetensors").write_bytes(model[:8])
    newer = rewritten(model, schema=99, version="9.1")
    (folder / "newer" / "model.safetensors").write_bytes(newer)
    (folder / "words.txt").write_text("a checkpoint, honestly\n" * 10)
    save_file({"a": torch.zeros(2)}, folder / "plain.safetensors")
    torch.save({"a": torch.zeros(2)}, folder / "zip.pt")
    torch.save({"a": torch.zeros(2)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    return folder


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("empty", "empty` holds no `model.safetensors` (empty)", "name the directory of a run"),
        ("half", "(training has not saved a model there yet)", "train it further with `jeat train"),
        ("state-only", "(it is no run)", "name the directory of a run"),
        ("no-run", "(it is no run)", "name the directory of a run"),
        ("state-only/state.safetensors", "is the state of a training run", "`model.safetensors`"),
        ("cut", "model.safetensors` is cut short at", "copy it again"),
        ("begun", "model.safetensors` is cut short at 8 bytes", "copy it again"),
        ("newer", "has schema 99, written by jeat 9.1", "upgrade: `pip install -U jeat-cli`"),
        ("words.txt", "words.txt` is not a jeat checkpoint", "name a run directory"),
        ("plain.safetensors", "is not a jeat checkpoint", "name a run directory"),
        ("zip.pt", "zip.pt` is a pickle", "jeat reads `.safetensors`"),
        ("old.pt", "old.pt` is a pickle", "jeat reads `.safetensors`"),
        ("nowhere", "there is no run or checkpoint at `", "known: "),
        ("no/where", "there is no run or checkpoint at `", "jeat train"),
        ("digits-jeta-small", "digits-jeta-small`", "did you mean the run `digits-jeat-small`?"),
    ],
)
@pytest.mark.parametrize("verb", ["attack", "sample", "landscape", "score", "judge"])
def test_what_is_no_run(
    home: Path, broken: Path, verb: str, name: str, error: str, hint: str
) -> None:
    if "did you mean" in hint:
        broken = home.parent
    before = {"judge": ["score", LATEST, "--features"]}.get(verb, [verb])
    after = ["--features", LATEST] if verb == "score" else []
    with untouched(broken), untouched(home):
        said = here(*before, broken / name, *after)
    refused(said, 1, "Error: ", error, "Hint: ", hint)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("standart", "standard"), ("digits-jaet", LATEST), ("small", LATEST)],
)
def test_a_misspelt_run(home: Path, name: str, meant: str) -> None:
    for verb in ("attack", "sample", "landscape", "score"):
        said = here(verb, name)
        refused(said, 1, f"there is no run `{name}` in `{home}`", f"did you mean `{meant}`?")


def test_no_run_at_all() -> None:
    for verb in ("attack", "sample", "landscape"):
        refused(here(verb), 1, "there is no finished run", "jeat train --dataset digits")
        refused(here(verb, "any"), 1, "there is no run `any`", "make one with `jeat train`")


@pytest.mark.parametrize(
    ("damage", "code", "error", "hint"),
    [
        (lambda run: cut(run / "state.safetensors"), 1, "is cut short", "`--force`"),
        (lambda run: (run / "config.toml").unlink(), 1, "has no `config.toml`", "`--force`"),
        (lambda run: (run / "config.toml").write_text("lr ="), 2, "is not valid TOML", "mend it"),
        (
            lambda run: (run / "config.toml").write_text("lrr = 1"),
            2,
            "unknown setting `lrr` in `",
            "did you mean `lr`?",
        ),
    ],
    ids=["state cut short", "no settings", "bad TOML", "bad key"],
)
def test_training_on_with_a_damaged_run(
    home: Path, damage: Callable[[Path], object], code: int, error: str, hint: str
) -> None:
    run = home / "standard"
    (run / "model.safetensors").unlink()
    damage(run)
    with untouched(home):
        refused(here(*STANDARD, "-o", "standard"), code, error, "Hint: ", hint)


def test_training_does_not_write_over_a_newer_or_foreign_model(home: Path) -> None:
    path = home / "standard" / "model.safetensors"
    for content, error in (
        (rewritten(path.read_bytes(), schema=99), "has schema 99"),
        (b"words " * 99, "is not a jeat checkpoint"),
    ):
        path.write_bytes(content)
        with untouched(home):
            refused(here(*STANDARD, "-o", "standard"), 1, error)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


# data sets


FOLDER = (
    *("--method", "standard", "--arch", "small", "--epochs", "1", "--batch-size", "4"),
    *("--sample-every", "0", "--eval-every", "0"),
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Refuse every connection; return the directory of data sets."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # a port on which nobody listens
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        yield tmp_path / "jeat-data"


@pytest.mark.parametrize(
    ("name", "file", "address"),
    [
        ("cifar10", "cifar-10-python.tar.gz", "https://zenodo.org/records/15602362/"),
        ("cifar100", "cifar-100-python.tar.gz", "https://www.cs.toronto.edu/"),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz", "https://ossci-datasets"),
        ("svhn", "train_32x32.mat", "http://ufldl.stanford.edu/"),
    ],
)
def test_a_data_set_that_is_absent_offline(
    offline: Path, tmp_path: Path, name: str, file: str, address: str
) -> None:
    said = here("train", "--dataset", name, "--epochs", 1)
    place = (offline / file).parent
    refused(said, 1, f"Error: `{offline / file}` is absent", f"into `{place}`, from {address}")
    assert "Hint: put the file with MD5 " in said.stderr
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_half_downloaded_archive(offline: Path, tmp_path: Path, share: float) -> None:
    offline.mkdir()
    archive = offline / "cifar-10-python.tar.gz"
    archive.write_bytes(gzip.compress(os.urandom(4000))[: round(share * 4000)])
    with untouched(tmp_path):
        said = here("train", "--dataset", "cifar10", "--epochs", 1)
    refused(said, 1, f"`{archive}` is damaged (", "with MD5 ", "Hint: put the file with MD5")


def test_a_damaged_folder_of_a_data_set(offline: Path, tmp_path: Path) -> None:
    folder = offline / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"half")
    with untouched(tmp_path):
        said = here("train", "--dataset", "cifar10", "--epochs", 1)
    refused(said, 1, "data_batch_1` is damaged (MD5 ", f"Hint: delete `{folder}` and run again")


@pytest.mark.parametrize("packed", [True, False])
def test_damaged_files_of_mnist(offline: Path, tmp_path: Path, packed: bool) -> None:
    raw = offline / "MNIST" / "raw"
    raw.mkdir(parents=True)
    content = b"\0\0\x08\x03" + bytes(90)
    path = raw / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content)[:-9] if packed else content)
    with untouched(tmp_path):
        said = here("train", "--dataset", "mnist", "--epochs", 1)
    refused(said, 1, f"Error: `{path}` is damaged (", "Hint: ")


def test_inception_weights_that_are_absent_offline(home: Path, offline: Path) -> None:
    with untouched(home):
        said = here("score", LATEST, "-n", 4)
    refused(said, 1, "weights-inception", "is absent", "put the file with SHA-256", "--features")


def png(colour: int, size: tuple[int, int] = (12, 10)) -> bytes:
    held = io.BytesIO()
    Image.effect_noise(size, 50).point(lambda value: (value + colour) % 256).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Return a folder of two classes of six pictures."""
    for name in ("cat", "dog"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        for k in range(6):
            (tmp_path / "zoo" / name / f"{k}.png").write_bytes(png(k))
    return tmp_path / "zoo"


def spoil(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda zoo: (zoo / name).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "error", "hint"),
    [
        (
            lambda zoo: shutil.rmtree(zoo / "dog"),
            "zoo` needs at least two directories, one per class, and has only `cat`",
            "put the pictures of each class into a directory of its own",
        ),
        (
            lambda zoo: [each.unlink() for each in (zoo / "dog").iterdir()],
            "class `dog` has no picture",
            "put pictures there",
        ),
        (spoil("dog/3.png", b"no"), "dog/3.png` is no readable picture", "mend or remove the file"),
        (spoil("dog/3.png", png(0)[:80]), "dog/3.png` is no readable picture", "mend or remove"),
        (
            spoil("dog/3.png", png(0, (12, 11))),
            "pictures of different sizes: `",
            "scale all pictures to one size first",
        ),
        (shutil.rmtree, "zoo` is no directory", "write `folder:PATH` with an existing PATH"),
    ],
    ids=["one class", "an empty class", "no picture", "cut short", "mixed sizes", "absent"],
)
def test_a_folder_that_cannot_be_used(
    zoo: Path, tmp_path: Path, damage: Callable[[Path], object], error: str, hint: str
) -> None:
    damage(zoo)
    with untouched(tmp_path):
        refused(here("train", "--dataset", f"folder:{zoo}", *FOLDER), 1, error, "Hint: ", hint)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 but not for long"])
def test_images_that_cannot_be_scored(home: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.npz").write_bytes(content)
    said = here("score", tmp_path / "images.npz", "--features", LATEST)
    refused(said, 1, "cannot read images from `", "no .npz archive", "Hint: it must hold `arr_0`")
    absent = here("score", tmp_path / "absent.npz", "--features", LATEST)
    refused(absent, 1, "absent.npz`: there is no such file", "Hint: check the path")


# places that cannot be written


OUTPUTS = [
    [*STANDARD, "-o", "file/run"],
    [*STANDARD, "-o", "./file"],
    ["sample", "-n", 2, "--steps", 1, "-o", "file/grid.png"],
    ["sample", "-n", 2, "--steps", 1, "-o", "file/arrays.npz"],
    ["sample", "-n", 2, "--steps", 1, "--format", "png", "-o", "file/deeper/images"],
    ["landscape", "--grid", 3, "-o", "file/deeper/plane.pdf"],
]


@pytest.mark.parametrize("arguments", OUTPUTS, ids=lambda each: f"{each[0]} {each[-1]}")
def test_a_place_below_a_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    with untouched(tmp_path):
        said = here(*arguments)
    refused(said, 1, "Error: cannot write `", "file` is a file", "Hint: name another place")


@pytest.mark.parametrize("arguments", OUTPUTS, ids=lambda each: f"{each[0]} {each[-1]}")
def test_a_place_without_permission(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """For root, who may write anywhere, the answer of the system is put in its mouth."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda *asked: False)
    with untouched(tmp_path):
        said = here(*arguments)
    refused(said, 1, "Error: cannot write `", "no permission in `", "Hint: name another place")


def test_a_directory_in_the_place_of_a_picture(home: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.png").mkdir()
    (home / LATEST / "landscape.png").mkdir()
    (home / LATEST / "samples").write_text("precious")
    with untouched(tmp_path):
        refused(here("sample", "-n", 2), 1, f"{LATEST}/samples` is a file")
        refused(here("landscape", "--grid", 3), 1, "landscape.png`: it is a directory")


def test_an_attack_whose_record_cannot_be_written_still_counts(home: Path) -> None:
    (home / LATEST / "attack.json").mkdir()
    said = here("attack", "-n", 3, "--steps", 1, "--json")
    assert said.exit_code == 0
    assert json.loads(said.stdout)["n"] == 3
    assert "Warning: cannot write `" in said.stderr


# a full disk


def test_a_full_disk_while_training(home: Path) -> None:
    """A file may have a megabyte: the state, of five, cannot be written."""
    run = home / "standard"
    command = [str(EXECUTABLE), *STANDARD, "-o", "standard", "--epochs", "2", "--force"]
    said = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)),
    )
    refused(said, 1, f"cannot write `{run / 'state.safetensors'}`", "free some space and run it")
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.toml"]
    assert (home / "standard~1" / "model.safetensors").is_file()
    again = here(*command[1:-1])
    assert (again.exit_code, again.stdout) == (0, f"{run}\n"), again.stderr


def test_a_full_disk_leaves_the_last_state_whole(home: Path) -> None:
    run = home / "standard"
    straight = {name: (run / name).read_bytes() for name in ("model.safetensors", "config.toml")}
    shutil.rmtree(run)
    with stopped_after(2):
        refused(here(*STANDARD, "-o", "standard"), 130, "stopped in epoch 1 of 1")
    state = (run / "state.safetensors").read_bytes()
    with disk_of(10**6):
        refused(here(*STANDARD, "-o", "standard"), 1, "cannot write `", "free some space")
    assert (run / "state.safetensors").read_bytes() == state
    assert sorted(path.name for path in run.iterdir()) == [
        *(".lock", "config.toml", "metrics.jsonl", "state.safetensors"),
    ]
    assert here(*STANDARD, "-o", "standard").exit_code == 0
    for name, content in straight.items():
        assert (run / name).read_bytes() == content
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_while_writing_the_log(home: Path) -> None:
    run = home / "new"
    run.mkdir()
    (run / "config.toml").write_text(here(*STANDARD, "--dry-run").stdout)
    (run / "metrics.jsonl").symlink_to("/dev/full")
    refused(here(*STANDARD, "-o", "new"), 1, "metrics.jsonl`: No space left", "free some space")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").write_text('{"epoch": 1, "st')
    assert here(*STANDARD, "-o", "new").exit_code == 0
    assert json.loads((run / "metrics.jsonl").read_text())["epoch"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "-n", 64, "--steps", 1, "-o", "grid.png"],
        ["sample", "-n", 64, "--steps", 1, "-o", "arrays.npz"],
        ["landscape", "--grid", 3, "-o", "plane.png"],
        ["landscape", "--grid", 3, "-o", "plane.pdf"],
        ["landscape", "--grid", 3, "-o", "plane.svg"],
    ],
    ids=lambda each: f"{each[0]} {each[-1]}",
)
def test_a_full_disk_while_saving_pictures(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / arguments[-1]).write_text("the one of yesterday")
    with untouched(tmp_path), disk_of(500):
        said = here(*arguments)
    refused(said, 1, f"cannot write `{arguments[-1]}`", "Hint: free some space and run it again")


# Ctrl-C


@contextmanager
def stopped_after(steps: int, sent: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Send this process a signal after so many steps of training."""
    from jeatcli.trainer import Trainer

    with pytest.MonkeyPatch.context() as monkeypatch:
        update = Trainer.update

        def counted(self: Trainer, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
            found = update(self, *batch)
            if self.step == steps:
                os.kill(os.getpid(), sent)
            return found

        monkeypatch.setattr(Trainer, "update", counted)
        yield


def interrupted(
    sent: signal.Signals, at: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run the executable and send it a signal once a line of stderr begins with `at`."""
    with subprocess.Popen(
        [EXECUTABLE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        killer = threading.Timer(120, process.kill)
        killer.start()
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(at):
                process.send_signal(sent)
                break
        stdout, rest = process.stdout.read(), process.stderr.read()
        code = process.wait()
        killer.cancel()
    return subprocess.CompletedProcess([], code, stdout, "".join(lines) + rest)


def test_ctrl_c_while_training_saves(home: Path) -> None:
    run = home / "long"
    long = ("train", "--method", "standard", *QUICK, "--limit", "0", "-o", "long", "--epochs", 500)
    said = interrupted(signal.SIGINT, "train standard", *long)
    saved = f"the state is saved in `{run}`"
    refused(said, 130, "Error: stopped", saved, "Hint: the same command goes on from there")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    with stopped_after(1 + 43 * (len(lines) + 1)):
        said = here(*long)
    refused(said, 130, f"going on with `{run}` from step ", "Error: stopped", saved)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [3, 4])
def test_a_run_that_was_stopped_goes_on_to_its_end(
    home: Path, sent: signal.Signals, step: int
) -> None:
    """The third step is within an epoch, the fourth the last of one."""
    two = (*STANDARD, "--epochs", 2)
    assert here(*two, "-o", "straight").exit_code == 0
    with stopped_after(step, sent):
        said = here(*two, "-o", "twice")
    refused(said, 130, "in epoch 1 of 2" if step == 3 else "after epoch 1 of 2", "goes on from")
    again = here(*two, "-o", "twice")
    assert (again.exit_code, again.stdout) == (0, f"{home / 'twice'}\n")
    for name in ("model.safetensors", "config.toml", "state.safetensors"):
        assert (home / "twice" / name).read_bytes() == (home / "straight" / name).read_bytes()
    assert len((home / "twice" / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("verb", "more"), [("attack", ("--steps", 50)), ("sample", ("-n", 5000, "--steps", 20))]
)
def test_ctrl_c_elsewhere(home: Path, verb: str, more: tuple[object, ...]) -> None:
    with untouched(home):
        said = interrupted(signal.SIGINT, verb, verb, LATEST, "-b", 1, *more)
    refused(said, 130, "Error: interrupted")


# through the executable


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--method", "jaet"], 2, "Hint: did you mean `jeat`?"),
        (["attack", "standart"], 1, "Hint: did you mean `standard`?"),
        (["sample", "-o", f"{__file__}/grid.png"], 1, "test_bad_input.py` is a file"),
        (["landscape", "digits-jaet"], 1, f"Hint: did you mean `{LATEST}`?"),
        (["score", "--dataset", "digist"], 2, "Hint: did you mean `digits`?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_executable_refuses_before_it_loads_torch(
    home: Path, arguments: list[str], code: int, words: str
) -> None:
    with untouched(home):
        said = jeat(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert " torch\n" not in said.stderr
    refused(said, code, words)
