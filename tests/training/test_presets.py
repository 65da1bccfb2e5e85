"""The published recipes: each is complete, runs, and yields to what else is said."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from helpers.cli import done, here, refused
from helpers.runs import Listener

from jeatcli.errors import UsageProblem
from jeatcli.training import presets
from jeatcli.training.resolve import read_config, resolve
from jeatcli.training.schedules import lr_factor
from jeatcli.training.settings import TrainConfig
from jeatcli.training.train import train


@pytest.mark.parametrize("name", presets.PRESETS.summaries())
def test_a_preset_names_its_source_and_leaves_no_setting_to_the_defaults(name: str) -> None:
    """A default that changes must not change a recipe."""
    assert "et al. 20" in presets.PRESETS.summaries()[name]
    table = presets.settings(name)
    config = resolve(table)
    assert config.options.keys() == table["options"].keys()
    recipe = {"method", "dataset", "arch", "norm_layer", "activation", "epochs", "batch_size"}
    recipe |= {"optimizer", "momentum", "lr", "schedule", "warmup", "weight_decay", "decay_norms"}
    recipe |= {"grad_clip", "ema", "val_split"}
    assert recipe <= table.keys()
    assert config.schedule != "multi-step" or {"milestones", "lr_decay"} <= table.keys()


def config_of(text: str, folder: Path) -> TrainConfig:
    (folder / "said.toml").write_text(text)
    return read_config(folder / "said.toml")


@pytest.mark.parametrize("name", presets.PRESETS.summaries())
def test_the_command_resolves_a_preset_as_python_does(name: str, tmp_path: Path) -> None:
    said = done("train", "--preset", name, "--dry-run")
    assert config_of(said, tmp_path) == resolve(presets.settings(name))
    assert name in done("train", "--help")


@pytest.mark.parametrize(
    ("name", "falls"), [("trades", {75: 0.1}), ("mart", {75: 0.1, 90: 0.01, 100: 0.001})]
)
def test_the_rate_falls_with_the_published_epoch(name: str, falls: dict[int, float]) -> None:
    """Their code counts epochs from 1: before number 75 begins, 74 are over."""
    config, steps = resolve(presets.settings(name)), 390
    for epoch, factor in falls.items():
        before = (steps * (epoch - 1) + 1) / (steps * config.epochs + 1)
        assert lr_factor(config, before) == pytest.approx(factor)
        assert lr_factor(config, before - 1 / steps) > 5 * factor


def test_rice_2020_as_published() -> None:
    config = resolve(presets.settings("rice2020"))
    assert (config.optimizer, config.lr, config.milestones) == ("heavy-ball", 0.1, (0.5, 0.75))
    assert (config.weight_decay, config.batch_size, config.epochs) == (5e-4, 128, 200)
    assert config.options["eps"] == 8 / 255
    assert config.options["attack_step_size"] == 2 / 255
    assert config.options["attack_mode"] == "train"


def test_what_is_said_wins_over_the_file_and_that_over_the_preset(tmp_path: Path) -> None:
    """Whichever of the two is named first."""
    file = tmp_path / "mine.toml"
    file.write_text('lr = 0.05\nepochs = 7\neps = "4/255"\n[options]\nattack_steps = 3\n')
    both = ("--preset", "rice2020"), ("-c", file)
    for first, second in (both, both[::-1]):
        said = done(
            "train", *first, *second, "--epochs", 9, "-O", "attack_start=clean", "--dry-run"
        )
        found = tomllib.loads(said)
        assert (found["lr"], found["epochs"], found["batch_size"]) == (0.05, 9, 128)
        options = found["options"]
        assert (options["eps"], options["attack_steps"]) == (4 / 255, 3)
        assert options["attack_start"] == "clean"
        # The preset's step is of another ball.
        assert options["attack_step_size"] == pytest.approx(2.5 * (4 / 255) / 3)


@pytest.mark.parametrize(
    ("said", "left_out", "expected"),
    [
        (
            ("--method", "prejeat"),
            "attack_objective",
            {"attack_objective": "joint", "eps": 8 / 255},
        ),
        (
            ("--method", "prejeat", "-O", "attack_objective=margin"),
            "attack_objective",
            {"attack_objective": "margin", "attack_step_size": 2 / 255},
        ),
        (("--norm", "l2"), "eps, attack_step_size", {"eps": 0.5, "attack_step_size": 0.125}),
        (("--eps", "4/255"), "attack_step_size", {"attack_step_size": 1 / 255}),
        (("--attack-steps", 1), "attack_step_size", {"attack_step_size": 10 / 255}),
        (("--eps", "8/255", "--norm", "linf"), None, {"attack_step_size": 2 / 255}),
        (("--eps", "4/255", "--attack-step-size", "3/255"), None, {"attack_step_size": 3 / 255}),
    ],
)
def test_what_of_a_preset_does_not_fit_is_left_out_and_told(
    said: tuple[object, ...], left_out: str | None, expected: dict[str, object]
) -> None:
    found = here("train", "--preset", "rice2020", *said, "--dry-run")
    assert found.exit_code == 0
    if left_out is None:
        assert "preset" not in found.stderr
    else:
        assert "preset `rice2020`" in found.stderr
        assert found.stderr.strip().endswith(left_out)
    options = tomllib.loads(found.stdout)["options"]
    assert {key: options[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize("section", ["", "[options]\n"])
def test_a_file_of_ones_own_is_no_other_than_a_preset(section: str, tmp_path: Path) -> None:
    """Wherever in it the options stand, and whatever their method is spelt like."""
    file = tmp_path / "mine.toml"
    file.write_text(
        f'method = "AT"\ndataset = "cifar10"\n{section}eps = "8/255"\nattack_steps = 10\n'
        'attack_step_size = "2/255"\n'
    )
    plain = here("train", "-c", file, "--dry-run")
    assert tomllib.loads(plain.stdout)["options"]["attack_step_size"] == 2 / 255
    assert not plain.stderr
    for said, eps, size in (
        (("--norm", "l2"), 0.5, 0.125),
        (("--eps", "4/255"), 4 / 255, 1 / 255),
        (("--attack-steps", 20), 8 / 255, 1 / 255),
    ):
        found = here("train", "-c", file, *said, "--dry-run")
        assert "set to the default" in found.stderr
        options = tomllib.loads(found.stdout)["options"]
        assert (options["eps"], options["attack_step_size"]) == pytest.approx((eps, size))


@pytest.mark.parametrize(
    ("said", "expected", "held_out", "told"),
    [
        (("--dataset", "digits"), (0.15, 0.0375), 0, 2),
        (("--dataset", "digits", "--eps", 0.1, "--val-split", 50), (0.1, 0.025), 50, 1),
        (("--dataset", "digits", "--norm", "l2"), (0.6, 0.15), 0, 2),
        (("--dataset", "mnist"), (0.3, 0.075), 1000, 1),
        (("--dataset", "cifar100"), (8 / 255, 2 / 255), 1000, 0),
        (("--dataset", "folder:pets"), (8 / 255, 2 / 255), 1000, 0),
    ],
)
@pytest.mark.parametrize("source", ["--preset", "-c"])
def test_a_recipe_for_another_data_set_has_the_radius_of_this_one(
    said: tuple[object, ...],
    expected: tuple[float, float],
    held_out: int,
    told: int,
    source: str,
    tmp_path: Path,
) -> None:
    file = tmp_path / "rice.toml"
    file.write_text(presets.file("rice2020").read_text(encoding="utf-8"))
    recipe = "rice2020" if source == "--preset" else file
    found = here("train", source, recipe, *said, "--dry-run")
    assert found.exit_code == 0, found.stderr
    config = tomllib.loads(found.stdout)
    options = config["options"]
    assert (options["eps"], options["attack_step_size"]) == pytest.approx(expected)
    assert config["val_split"] == held_out
    assert found.stderr.count("set to the default") == told


def test_fewer_images_to_train_on_than_held_out_are_told(tmp_path: Path) -> None:
    heard = Listener()
    settings = {"method": "standard", "dataset": "digits", "val_split": 1000, "epochs": 1}
    train(resolve(settings), tmp_path / "run", reporter=heard, device="cpu")
    text = "1,000 images are held out, and only 400 left to train on: lower `--val-split`"
    assert text in heard.said


def test_labels_that_teach_nothing_are_refused() -> None:
    said = here("train", "--dataset", "digits", "--label-smoothing", 1, "--dry-run")
    refused(said, 2, "--label-smoothing", "0.99")


def test_a_preset_of_another_method_gives_what_both_have() -> None:
    found = here("train", "--preset", "jem", "--method", "jeat", "--dry-run")
    assert "ignored for `jeat`: input_noise" in found.stderr
    options = tomllib.loads(found.stdout)["options"]
    assert (options["sgld_clip"], options["attack_objective"]) == (0, "joint")


def test_a_list_in_a_file_is_a_list_in_the_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("schedule = 'multi-step'\nmilestones = [0.25, 0.5]\nlr_decay = 0.3\n")
    found = tomllib.loads(done("train", "-c", file, "--dry-run"))
    assert (found["milestones"], found["lr_decay"]) == ([0.25, 0.5], 0.3)
    assert config_of(done("train", "-c", file, "--dry-run"), tmp_path).milestones == (0.25, 0.5)


def test_an_unknown_preset_is_told_with_the_nearest() -> None:
    refused(here("train", "--preset", "rice2002"), 2, "preset", "did you mean `rice2020`")
    with pytest.raises(UsageProblem):
        presets.file("jeatt")


@pytest.mark.parametrize("milestones", [(0.75, 0.5), (0.0, 0.5), (0.5, 1.0)])
def test_milestones_rise_within_the_run(milestones: tuple[float, ...]) -> None:
    with pytest.raises(UsageProblem, match="milestones"):
        resolve({"milestones": milestones})


def test_a_preset_trains(tmp_path: Path) -> None:
    """The recipe of one step, in small."""
    small = ("--dataset", "digits", "--arch", "wrn-10-1", "--limit", 96, "--batch-size", 32)
    more = ("--max-steps", 4, "--val-split", 0, "--eval-every", 0, "--sample-every", 0)
    run = tmp_path / "fast"
    done("train", "--preset", "fast-at", *small, *more, "-o", run)
    config = read_config(run / "config.toml")
    assert (config.optimizer, config.decay_norms, config.max_steps) == ("heavy-ball", True, 4)
