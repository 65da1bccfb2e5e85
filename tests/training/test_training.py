"""A run's life: to its end, stopped and resumed, refused, started over, diverged."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import done, everything
from helpers.compare_runs import lines, same, tensors
from helpers.runs import Listener
from helpers.training import config, run
from PIL import Image
from safetensors.torch import load_file, save_file

from jeatcli.acceleration.ways import Way, Wish, Work
from jeatcli.checkpoints import runs
from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.header import read_header
from jeatcli.core.jeat import Jeat
from jeatcli.errors import Interrupted, JeatError, UsageProblem
from jeatcli.methods import METHODS
from jeatcli.runtime.distributed import ProcessGroup
from jeatcli.training import setup, state
from jeatcli.training.resolve import read_config, read_toml, resolve, to_toml
from jeatcli.training.state import Saver
from jeatcli.training.train import train
from jeatcli.training.trainer import Trainer


class StopAfter:
    """Ask for a stop at the so many-th question, between steps or within one."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize("method", METHODS)
def test_stopped_and_resumed_equals_straight_bit_for_bit(method: str, tmp_path: Path) -> None:
    """Stopped within the first epoch, at its end, and within the second."""
    settings = config(method, eval_every=1)
    whole = train(settings, tmp_path / "straight")
    # Steps of these methods, whose attacks and chains take two each, ask more than once.
    questions = 1 + 2 * sum(name in settings.options for name in ("attack_steps", "sgld_steps"))
    for steps in (3, 1, 2):
        with pytest.raises(Interrupted, match="the state is saved"):
            train(settings, tmp_path / "stopped", should_stop=StopAfter(steps * questions))
    result = train(settings, tmp_path / "stopped")
    assert 0 < result.images < whole.images
    same(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_run_resumes_by_the_kernel_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement is made once: a clock that says otherwise later is not asked."""
    settings = config("jeat", arch="wrn-10-1", eval_every=1)
    library = config("jeat", arch="wrn-10-1", eval_every=1, kernel="library")
    train(library, tmp_path / "library")
    monkeypatch.setattr(setup, "choose", lambda *asked: Way("winograd"))
    assert train(settings, tmp_path / "straight").kernel == "winograd"
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(4))
    monkeypatch.undo()  # now there would be too little to do
    result = train(settings, tmp_path / "stopped")
    assert (result.kernel, result.compiled) == ("winograd", False)
    same(tmp_path / "straight", tmp_path / "stopped")
    # Another kernel rounds otherwise, so this would have been noticed.
    weights = [load_file(tmp_path / name / runs.MODEL_FILE) for name in ("straight", "library")]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    with pytest.raises(JeatError, match="has kernel=winograd, not kernel=library"):
        train(library, tmp_path / "straight")


@pytest.mark.parametrize(("compiled", "kernel"), [(False, "library"), (True, "winograd")])
def test_a_run_of_version_0_1_0_keeps_its_kernel(
    tmp_path: Path, compiled: bool, kernel: str
) -> None:
    text = to_toml(config("at", compile=compiled)).replace('kernel = "auto"\n', "")
    (tmp_path / runs.CONFIG_FILE).write_text(text)
    assert "kernel" not in text
    assert read_config(tmp_path / runs.CONFIG_FILE).kernel == kernel


def test_only_a_long_run_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works: list[Work] = []

    def choose(*asked: Any) -> Way:
        works.append(asked[2])
        assert asked[3] == Wish("auto", None)
        return asked[3].unmeasured

    monkeypatch.setattr(setup, "choose", choose)
    options = {"attack_steps": 3, "sgld_steps": 2, "buffer_size": 99}
    for epochs, most in ((2, 0), (2, 3)):
        settings = config("jeat", limit=64, epochs=epochs, max_steps=most, options=options)
        setup.build(settings, tmp_path, torch.device("cpu"))
        images = settings.batch_size * (most or epochs * (64 // settings.batch_size))
        assert works.pop() == ((1, 8, 8), settings.batch_size, 5 * images, images)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("question", range(4))
def test_a_stop_within_a_step_takes_back_the_step(question: int, mode: str, tmp_path: Path) -> None:
    """Before a pass of the attack, which may have moved running statistics, or of the chain."""
    settings = config(
        "jeat", arch="wrn-10-1", norm_layer="batch", limit=64, options={"attack_mode": mode}
    )
    train(settings, tmp_path / "straight")
    for whole_step in (5, 0):
        asked = StopAfter(whole_step + question + 1)
        with pytest.raises(Interrupted, match="the state is saved"):
            train(settings, tmp_path / "stopped", should_stop=asked)
        assert read_header(tmp_path / "stopped" / runs.STATE_FILE)["step"] == 1
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


def test_a_step_that_has_moved_the_buffer_is_finished_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method may run its attack after its chain."""

    def chain_first(self: Jeat, model: Any, x: torch.Tensor, *rest: Any) -> Any:
        self.negatives(model, x, rest[-1])
        return loss(self, model, x, *rest)

    loss = Jeat.loss
    monkeypatch.setattr(Jeat, "loss", chain_first)
    settings = config("jeat")
    train(settings, tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(4))
    assert read_header(tmp_path / "stopped" / runs.STATE_FILE)["step"] == 1
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


def test_augmentation_and_batch_statistics_resume_too(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    from PIL import Image

    for index in range(24):
        pixels = torch.randint(256, (12, 12, 3), dtype=torch.uint8).numpy()
        place = folder / ("test" if index < 4 else "train") / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{index}.png")
    given = {"dataset": f"folder:{folder}", "method": "jeat", "arch": "wrn-10-1", "epochs": 2}
    quick = {"batch_size": 8, "norm_layer": "batch", "eval_every": 0, "sample_every": 0}
    quick["augment"] = "crop+flip"
    options = {"attack_steps": 1, "sgld_steps": 1, "buffer_size": 9, "chain_start": "gaussian"}
    settings = resolve({**given, **quick, "options": options})
    train(settings, tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(settings, tmp_path / "stopped", should_stop=StopAfter(1))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")


def test_a_run_of_version_0_1_0_keeps_its_augmentation(tmp_path: Path) -> None:
    """Its `config.toml` has every setting but this one; a folder was always augmented."""
    for name, legacy in ((f"folder:{tmp_path}", "crop4+flip"), ("cifar10", "crop+flip")):
        settings = {"dataset": name, "method": "standard", "compile": False, "kernel": "library"}
        text = to_toml(resolve(settings))
        old = tmp_path / "config.toml"
        lines = [line for line in text.splitlines() if not line.startswith("augment")]
        old.write_text("\n".join(lines))
        assert read_config(old).augment == legacy
        assert done("train", "-c", old, "--dry-run") == to_toml(read_config(old))
    # A file of a few settings is no such one.
    old.write_text(f'dataset = "folder:{tmp_path}"')
    assert "augment" not in read_toml(old)
    assert read_config(old).augment == "none"


def test_training_learns_the_digits(tmp_path: Path) -> None:
    result = run(tmp_path / "run", epochs=6, limit=0, batch_size=64, eval_every=6)
    assert result.metrics["test_clean"] > 0.95
    assert result.images == 6 * 21 * 64


def test_the_run_directory_holds_what_it_should(tmp_path: Path) -> None:
    result = run(tmp_path / "run", "jeat", sample_every=1, eval_every=1)
    folder = Path(result.run)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {"config.toml", "metrics.jsonl", "model.safetensors", "state.safetensors"}
    expected |= {"state-before.safetensors", "metrics.csv"}
    assert files == expected | {"samples/epoch-001.png", "samples/epoch-002.png", ".lock"}
    with Image.open(folder / "samples" / "epoch-002.png") as grid:
        about = json.loads(grid.info["settings"])
    # Where the chains of digits start, and not where samples do.
    assert about["init"] == "uniform"
    # A row of ten for each 60 images that the network has seen, as a trial is to be short.
    assert about["n"] == 10 * (2 * 128 // 60)
    assert [line["epoch"] for line in lines(folder)] == [1, 2]
    assert {"loss", "energy_gap", "test_clean", "test_robust", "lr"} <= set(lines(folder)[-1])
    model = load(folder)
    assert model.meta.method == "jeat"
    assert model.meta.finished
    assert model.meta.threat.eps == 0.15


def test_a_set_smaller_than_a_batch_is_counted_as_it_is(tmp_path: Path) -> None:
    assert run(tmp_path / "run", limit=20).images == 2 * 20


def test_the_generators_of_others_are_left_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seeded(seed: int) -> None:
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    before = torch.get_rng_state()
    run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


def test_config_toml_repeats_the_run(tmp_path: Path) -> None:
    run(tmp_path / "first", "jeat")
    again = read_config(tmp_path / "first" / "config.toml")
    assert to_toml(again) == (tmp_path / "first" / "config.toml").read_text()
    train(again, tmp_path / "second")
    same(tmp_path / "first", tmp_path / "second")


def test_a_finished_run_says_so_and_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = (tmp_path / "run" / runs.MODEL_FILE).stat().st_mtime_ns
    again = run(tmp_path / "run")
    assert again.already_done
    assert again.images == 0
    assert (tmp_path / "run" / runs.MODEL_FILE).stat().st_mtime_ns == before


def test_max_steps_end_a_run_within_an_epoch_as_its_own_end(tmp_path: Path) -> None:
    """Six steps of four an epoch: the rate has come down, the model is saved and evaluated."""
    settings = config(max_steps=6, eval_every=1, sample_every=1)
    assert train(settings, tmp_path / "straight").epochs == 2
    ends = [(line["epoch"], line["step"]) for line in lines(tmp_path / "straight")]
    assert ends == [(1, 4), (2, 6)]
    grids = sorted(path.name for path in (tmp_path / "straight" / "samples").iterdir())
    assert grids == ["epoch-001.png", "epoch-002.png"]
    assert lines(tmp_path / "straight")[-1]["lr"] < settings.lr / 2
    assert "test_robust" in lines(tmp_path / "straight")[-1]
    assert load(tmp_path / "straight").meta.finished
    for stop in (3, 2):
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "stopped", should_stop=StopAfter(stop))
    train(settings, tmp_path / "stopped")
    same(tmp_path / "straight", tmp_path / "stopped")
    assert train(settings, tmp_path / "stopped").already_done


def test_another_configuration_is_refused_by_name_unless_forced(tmp_path: Path) -> None:
    run(tmp_path / "run", "at")
    before = tensors(tmp_path / "run")
    with pytest.raises(
        JeatError, match=r"it has .*eps=0.15, lr=0.003, not .*eps=0.1, lr=0.5"
    ) as caught:
        run(tmp_path / "run", "at", lr=0.5, options={"eps": 0.1, "attack_step_size": 0.1875})
    assert "--force" in (caught.value.hint or "")
    assert tensors(tmp_path / "run").keys() == before.keys()
    train(config("at", epochs=1), tmp_path / "run", force=True)
    assert load(tmp_path / "run").meta.epochs == 1
    assert load(tmp_path / "run~1").meta.epochs == 2


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...")
    with pytest.raises(JeatError, match=r"no `config\.toml`"):
        run(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "..."


@pytest.mark.parametrize("name", ["two\nlines", "escape\x1b[31m", 'q"\\', "\x7f\u3000é😀"])
def test_whatever_a_folder_is_called_its_settings_are_read_back(name: str, tmp_path: Path) -> None:
    settings = resolve({"dataset": f"folder:{tmp_path / name}", "method": "standard"})
    (tmp_path / "config.toml").write_text(to_toml(settings), encoding="utf-8")
    assert read_config(tmp_path / "config.toml") == settings


def test_a_folder_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="not UTF-8"):
        resolve({"dataset": f"folder:{tmp_path}/bad\udcff"})


def test_bad_data_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem):
        run(tmp_path / "run", limit=10**6)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"step": None},
        {"step": -1},
        {"step": 10**6},
        {"step": 10**30},
        {"step": "4"},
        {"attempt": [0]},
        {"attempt": 1e9},
        {"attempt": 10**30},
    ],
)
def test_a_state_whose_header_is_damaged_is_refused(damage: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", should_stop=lambda: True)
    path = tmp_path / "run" / runs.STATE_FILE
    header = runs.read_header(path) | damage
    save_file(load_file(path), path, {"jeat": json.dumps(header)})
    with pytest.raises(JeatError, match=r"does not fit this run|the header of .* is damaged"):
        run(tmp_path / "run")


def test_a_run_that_another_process_made_meanwhile_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the place empty; the other is done when this one has the lock."""
    build = setup.build

    def slow(*args: Any, **kwargs: Any) -> Any:
        ready = build(*args, **kwargs)
        monkeypatch.setattr(setup, "build", build)
        train(config(lr=0.5), tmp_path / "run")
        return ready

    monkeypatch.setattr(setup, "build", slow)
    with pytest.raises(JeatError, match=r"a run with other settings: it has lr=0\.5"):
        train(config(), tmp_path / "run")


def test_a_second_process_is_kept_off(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", should_stop=lambda: True)
    with (tmp_path / "run" / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(JeatError, match="another process is training"):
            run(tmp_path / "run")
        before = everything(tmp_path)
        with pytest.raises(JeatError, match="another process is training"):
            train(config(epochs=1), tmp_path / "run", force=True)
        assert everything(tmp_path) == before


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    listener = Listener()
    assert train(config(epochs=1), tmp_path / "run", reporter=listener).epochs == 1
    assert any("cannot be locked (No locks available)" in line for line in listener.said)


def test_ranks_that_find_different_states_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", should_stop=lambda: True)
    monkeypatch.setattr(ProcessGroup, "collect", lambda self, found: [found, (0, 0)])
    with pytest.raises(JeatError, match="different states"):
        run(tmp_path / "run")


def test_short_epochs_are_not_saved_but_at_the_end_and_at_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = state.save_state

    def noted(path: Path, at: Trainer, extra: Any) -> None:
        saved.append(at.step)
        save(path, at, extra)

    monkeypatch.setattr(state, "save_state", noted)
    steps = {}
    for name, rare in (("each", 0.0), ("few", 1e9)):
        monkeypatch.setattr(Saver, "rare", rare)
        run(tmp_path / name, epochs=4)
        steps[name], saved[:] = list(saved), []
    assert steps == {"each": [0, 4, 8, 12, 16], "few": [0, 16]}
    with pytest.raises(Interrupted, match="after epoch 2"):
        train(config(epochs=4), tmp_path / "stopped", should_stop=StopAfter(8))
    assert saved == [0, 8]
    run(tmp_path / "stopped", epochs=4)
    same(tmp_path / "each", tmp_path / "few")
    same(tmp_path / "each", tmp_path / "stopped")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-3), ("bf16", 0.02)])
def test_a_compiled_network_learns_the_same(
    tmp_path: Path, precision: str, rounding: float
) -> None:
    settings = {"dataset": "digits", "method": "at", "max_steps": 3, "precision": precision}
    settings["options"] = {"attack_steps": 1}
    plain, compiled = (
        train(resolve(settings | {"compile": flag}), tmp_path / str(flag), device="cpu").metrics
        for flag in (False, True)
    )
    for name in ("loss", "grad_norm"):
        assert compiled[name] == pytest.approx(plain[name], rel=rounding)
    assert load(tmp_path / "True").classifier(torch.rand(2, 1, 8, 8)).shape == (2, 10)
