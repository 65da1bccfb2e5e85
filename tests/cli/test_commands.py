"""Every verb from end to end: what it prints where, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import weights, written
from helpers.cli import (
    JEAT,
    LATEST,
    STANDARD,
    done,
    environment,
    here,
    jeat,
    one,
    parsed,
    pixels,
    refused,
    settings,
)
from helpers.runs import Trained
from PIL import Image
from torch import Tensor

from jeatcli.acceleration.compiled import CPU_SIZES, SIZES
from jeatcli.cli import score_report
from jeatcli.scoring.image_scores import Scores

SCORES = ("inception_score", "inception_score_std", "fid", "kid", "kid_std")


@pytest.fixture
def pets(tmp_path: Path, home: Path) -> Path:
    """Return a run on pictures that are there no longer."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "pets"
    for name in ("cat", "dog", "emu"):
        (folder / name).mkdir(parents=True)
        for k in range(6):
            noise = generator.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name / f"{k}.png")
    quick = ("--method", "standard", "--arch", "small", "--epochs", "1", "--batch-size", "4")
    run = done("train", "--dataset", f"folder:{folder}", *quick, "--sample-every", "0", "-q")
    shutil.rmtree(folder)
    return Path(run.strip())


# train


def test_train_prints_the_path_of_its_run_alone(trained: Trained) -> None:
    said = trained.said
    run = trained.runs / LATEST
    assert (said.returncode, said.stdout) == (0, f"{run}\n"), said.stderr
    *_, progress, hint = said.stderr.splitlines()
    assert progress.startswith("train jeat  128/128")
    assert hint == f"Hint: jeat attack {LATEST}"
    assert "\x1b" not in said.stderr
    assert tomllib.loads((run / "config.toml").read_text())["options"]["sgld_steps"] == 2
    line = json.loads((run / "metrics.jsonl").read_text())
    assert line["epoch"] == 1
    assert {"loss", "energy_gap", "accuracy", "seconds"} <= line.keys()


def test_a_run_that_is_done_says_so(home: Path) -> None:
    before = (home / LATEST / "model.safetensors").read_bytes()
    again = here(*JEAT)
    assert (again.exit_code, again.stdout) == (0, f"{home / LATEST}\n")
    assert f"`{home / LATEST}` is done; `--force` starts it over" in again.stderr
    found = one(*JEAT, "-q")
    assert found["already_done"]
    assert (found["epochs"], found["images"], found["device"]) == (1, 0, "cpu")
    assert {"seconds", "precision", "seed", "version", "metrics"} <= found.keys()
    assert (home / LATEST / "model.safetensors").read_bytes() == before


def test_force_starts_over_and_keeps_the_old_run(home: Path) -> None:
    before = (home / "standard" / "model.safetensors").read_bytes()
    refused = here(*STANDARD, "--seed", "1", "-o", "standard")
    assert refused.exit_code == 1
    assert "is a run with other settings: it has seed=0, not seed=1" in refused.stderr
    found = one(*STANDARD, "--seed", "1", "-o", "standard", "--force")
    assert (found["images"], found["seed"]) == (128, 1)
    assert (home / "standard~1" / "model.safetensors").read_bytes() == before
    assert (home / "standard" / "model.safetensors").read_bytes() != before


def test_a_run_whose_model_was_lost_has_it_written_anew(home: Path) -> None:
    model = home / "standard" / "model.safetensors"
    before = model.read_bytes()
    for damage in (lambda: model.write_bytes(before[:1000]), model.unlink):
        damage()
        assert done(*STANDARD, "-o", "standard") == f"{home / 'standard'}\n"
        assert model.read_bytes() == before


def test_dry_run_prints_what_config_reads_back(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(done(*JEAT, "--dry-run"))
    assert done("train", "-c", file, "--dry-run") == file.read_text()
    again = here("train", "-c", file)
    assert again.stdout == f"{home / LATEST}\n"
    assert "is done" in again.stderr
    assert sorted(path.name for path in home.iterdir()) == [LATEST, "standard"]


def test_the_environment_sets_any_option() -> None:
    shown = done("train", "--dry-run", JEAT_TRAIN_METHOD="at", JEAT_TRAIN_EPS="4/255")
    found = tomllib.loads(shown)
    assert (found["method"], found["options"]["eps"]) == ("at", 4 / 255)
    assert tomllib.loads(done("train", "--dry-run", "--method", "jem"))["method"] == "jem"


def test_a_relative_path_is_printed_so_that_it_is_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = done(*STANDARD, "-o", "./mine").strip()
    assert printed == str(tmp_path / "mine")
    assert one("attack", printed, "-n", 5)["run"] == "mine"


# sample


def test_sample_grid(home: Path) -> None:
    said = jeat("sample", "-n", 20, "--steps", 2)
    path = home / LATEST / "samples" / "all-seed0.png"
    assert (said.returncode, said.stdout) == (0, f"{path}\n"), said.stderr
    assert "\x1b" not in said.stderr
    assert said.stderr.endswith("Hint: jeat landscape\n")
    # Ten columns below their headings, two rows, each pixel 8 x 8, lines of 2 around them.
    height, width = pixels(path).shape
    assert width == 10 * (8 * 8 + 2) + 2
    assert height > 2 * (8 * 8 + 2) + 2
    about = settings(path)
    assert (about["sampler"], about["objective"], about["init"]) == ("sgld", "joint", "gaussian")
    assert (about["run"], about["n"], about["seed"], about["steps"]) == (LATEST, 20, 0, 2)


def test_sample_in_three_formats(home: Path, tmp_path: Path) -> None:
    ask = ("sample", "standard", "-n", 6, "--steps", 2, "--class", "7", "--seed", 3)
    assert done(*ask, "--format", "png", "-o", tmp_path / "many") == f"{tmp_path / 'many'}\n"
    names = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert names == [f"{k:06d}.png" for k in range(6)]
    assert settings(tmp_path / "many" / names[0])["seed"] == 3
    several = np.stack([pixels(tmp_path / "many" / name) for name in names])
    assert (several.shape, several.dtype) == ((6, 8, 8), np.uint8)
    found = one(*ask, "-o", tmp_path / "some.npz")
    with np.load(tmp_path / "some.npz") as arrays:
        assert np.array_equal(arrays["arr_0"][..., 0], several)
        assert arrays["arr_1"].tolist() == found["labels"] == [7] * 6
    assert (found["format"], found["outputs"]["images"]) == ("npz", str(tmp_path / "some.npz"))
    assert (found["schema"], found["command"], found["run"]) == (1, "sample", "standard")
    assert found["path"] == str(home / "standard" / "model.safetensors")
    grid = done(*ask, "-o", tmp_path, "--scale", 1, "--no-headings").strip()
    assert grid == str(tmp_path / "7-seed3.png")
    assert np.array_equal(pixels(Path(grid))[2:10, 2:10], several[0])


def test_sample_from_the_checkpoint_alone_by_name_and_index(pets: Path, tmp_path: Path) -> None:
    drawn = {}
    for name in ("dog", "1"):
        ask = ("sample", pets, "--class", name, "-n", 2, "--steps", 2, "--format", "npz")
        found = one(*ask, "-o", tmp_path)
        assert (found["labels"], found["classes"]) == ([1, 1], ["cat", "dog", "emu"])
        drawn[name] = np.load(found["outputs"]["images"])["arr_0"]
    assert drawn["dog"].shape == (2, 10, 12, 3)
    assert np.array_equal(drawn["dog"], drawn["1"])
    moved = tmp_path / "elsewhere.safetensors"
    (pets / "model.safetensors").rename(moved)
    several = one("sample", moved, "--class", "emu", "--class", "cat", "-n", 3, "--steps", 1)
    assert several["labels"] == [2, 0, 2]
    assert Path(several["outputs"]["images"]).parent == tmp_path / "samples"
    absent = here("attack", moved)
    assert absent.exit_code == 1
    assert "pets` is not a directory" in absent.stderr


# score


def test_score_is_the_same_for_a_run_its_folder_and_its_archive(home: Path, tmp_path: Path) -> None:
    few = ("--features", "standard", "--splits", 2, "--kid-subset-size", 19, "--json")
    drawing = ("-n", 20, "--steps", 2, "--seed", 1)
    said = jeat("score", *few, *drawing)
    found = parsed(said)
    assert found["run"] == LATEST
    assert all(isinstance(found[name], float) for name in SCORES)
    assert found["protocol"]["features"]["run"] == "standard"
    assert found["protocol"]["comparable"].startswith("no: 20 images")
    done("sample", *drawing, "--format", "png", "-o", tmp_path / "images")
    done("sample", *drawing, "-o", tmp_path / "images.npz")
    for source in (tmp_path / "images", tmp_path / "images.npz"):
        again = json.loads(done("score", source, *few))
        # Two processes with another number of threads may round the features differently.
        expected = pytest.approx([found[name] for name in SCORES], rel=1e-6)
        assert [again[name] for name in SCORES] == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("attack", "-n", 40, "--steps", 3, "-o", "{}/attack.json"),
        ("sample", "-n", 20, "--steps", 3, "-o", "{}/images.npz"),
        ("score", "--features", "standard", "-n", 20, "--steps", 3),
    ],
)
def test_what_takes_compile_computes_by_what_was_compiled(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    """In pieces of few sizes; that a compiled network is the same function is in test_models.py."""
    sizes: set[int] = set()

    def stand_in(forward: Callable[[Tensor], Tensor], dynamic: bool) -> Callable[[Tensor], Tensor]:
        def program(x: Tensor) -> Tensor:
            sizes.add(len(x))
            return forward(x)

        return program

    monkeypatch.setattr(torch, "compile", stand_in)
    done(*(str(each).format(tmp_path / "plain") for each in arguments))
    assert not sizes
    done(*(str(each).format(tmp_path / "compiled") for each in arguments), "--compile")
    assert sizes
    assert sizes <= {*SIZES, *CPU_SIZES}


def test_every_setting_of_a_sampler_arrives(home: Path, tmp_path: Path) -> None:
    chain = ("--noise", 0.01, "--momentum", 0.3, "--clip", 0.7, "--stop", -9)
    ball = ("--sampler", "pgd", "--eps", 0.9, "--step-size", 0.2)
    warm = ("--temperature", 0.02, "--step-size", 0.1)
    found = [
        json.loads(done("sample", "-n", 2, "--steps", 2, *more, "--json"))["settings"]
        for more in (chain, ball, warm)
    ]
    assert {"noise": 0.01, "momentum": 0.3, "clip": 0.7, "stop": -9}.items() <= found[0].items()
    assert {"sampler": "pgd", "eps": 0.9, "step_size": 0.2}.items() <= found[1].items()
    assert found[2]["noise"] == pytest.approx((2 * 0.1 * 0.02) ** 0.5)
    assert found[2]["clip"] == 0


def test_a_judge_of_others_is_of_the_run_s_data_set(home: Path, tmp_path: Path) -> None:
    theirs = written(tmp_path, weights())
    described = ("--arch", "wrn-10-1", "--mean", "0", "--std", "1")
    said = done("score", LATEST, "-n", 10, "--steps", 1, "--features", theirs, *described, "--json")
    protocol = json.loads(said)["protocol"]
    assert protocol["features"]["run"] == "theirs"
    assert protocol["reference"]["dataset"] == "digits"


def test_score_prints_the_protocol(home: Path, tmp_path: Path) -> None:
    shown = done("score", LATEST, "--features", "standard", "-n", 10, "--steps", 1, "-q")
    for word in ("reference", "rounding", "comparable"):
        assert word in shown
    images = tmp_path / "images.npz"
    np.savez(images, np.arange(640, dtype=np.uint8).reshape(10, 8, 8, 1))
    shown = done("score", images, "--dataset", "digits", "--features", "standard", "-q")
    assert [line.split(maxsplit=1)[1] for line in shown.splitlines() if "sampling" in line] == [
        "not known"
    ]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("inception", ["Inception Score", "FID", "KID"]),
        ("run", ["classifier score", "Fréchet distance", "kernel distance"]),
    ],
)
def test_scores_are_called_what_they_are(kind: str, names: list[str]) -> None:
    """By the features of another network they are no Inception Score, no FID and no KID."""
    protocol = {"features": {"kind": kind}}
    values = (2.0, 0.1, 3.0, 4.0, 0.2, 0.5, 0.6)
    found = Scores("run", Path("run"), *values, {}, {}, {}, None, protocol, 1.0, "cpu", 0, "0")
    lines = score_report.score_sections(found)[0].text().splitlines()
    assert [line.partition("  ")[0] for line in lines[:3]] == names


# all of them


@pytest.mark.parametrize(
    "arguments",
    [
        (*STANDARD, "-o", "again"),
        ("attack", "-n", 5, "--steps", 1),
        ("sample", "-n", 2, "--steps", 1),
        ("landscape", "--grid", 3),
        ("score", "--features", "standard", "-n", 4, "--steps", 1, "--kid-subsets", 2),
    ],
    ids=lambda arguments: arguments[0],
)
def test_quiet_leaves_the_result_alone(home: Path, arguments: tuple[object, ...]) -> None:
    result = here(*arguments, "-q")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout


def test_python_m_jeatcli_is_the_same_program() -> None:
    command = [sys.executable, "-m", "jeatcli", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert said.returncode == 0
    assert said.stdout.startswith("jeat ")
    assert said.stdout == jeat("--version").stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("jeat sa", ["sample"]),
        ("jeat train --method je", ["jeat", "jem", "jem++"]),
        ("jeat train --arch resnet-18-w", ["resnet-18-wong"]),
        ("jeat train --dataset fa", ["fashion-mnist"]),
        ("jeat attack dig", [LATEST]),
        ("jeat landscape standard dig", [LATEST]),
        ("jeat score --features st", ["standard"]),
        ("jeat sample standard --class ", [*"0123456789", "all"]),
        ("jeat sample --sampler p", ["pgd"]),
        ("jeat score --init p", ["pca"]),
    ],
)
def test_completion(home: Path, words: str, expected: list[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    said = jeat(**asked, _JEAT_COMPLETE="bash_complete")
    assert said.stdout.split() == [f"plain,{name}" for name in expected]


def test_a_class_of_the_packages_network_is_named_with_it(home: Path) -> None:
    said = here("sample", LATEST, "--class", "dog", "-n", 1)
    refused(said, 2, "unknown class `dog`", "name a RUN that has it, such as `pretrained`")
    assert "pretrained" not in here("sample", LATEST, "--class", "unicorn", "-n", 1).stderr
