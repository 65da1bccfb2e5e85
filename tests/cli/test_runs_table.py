"""`jeat --runs`: which runs there are, and what is known of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import EXECUTABLE, LATEST, done, environment, here, one, refused

from jeatcli.checkpoints.listing import list_runs
from jeatcli.checkpoints.results import add_results
from jeatcli.checkpoints.runs import MODEL_FILE
from jeatcli.cli.runs_table import table

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "PIL", "matplotlib", "rich")
THREAT = {"norm": "linf", "eps": 0.15, "dataset": "digits", "clean": 0.9, "n": 100}


def attacked(model: Path, robust: float, *attacks: str, **more: Any) -> None:
    result = {**THREAT, "attacks": [*attacks], "robust": robust, **more}
    add_results(model, "attack", [result], f"jeat attack {robust}")


def listed(*arguments: object) -> list[dict[str, Any]]:
    return list(one("--runs", *arguments)["results"])


def test_a_run_says_what_it_is_and_how_robust(home):
    done("attack", LATEST, "-n", 40, "--attack", "fgsm")
    add_results(
        home / LATEST / "model.safetensors",
        "score",
        [{"fid": 12.34, "protocol": {"features": {"kind": "run", "run": "judge"}}}],
        "jeat score",
    )
    run = listed(LATEST)[0]
    assert (run["run"], run["method"], run["dataset"]) == (LATEST, "jeat", "digits")
    assert (run["arch"], run["epoch"], run["epochs"]) == ("small", 1, 1)
    assert run["finished"]
    assert run["path"] == str(home / LATEST / "model.safetensors")
    kept = json.loads((home / LATEST / "results.json").read_text())["attack"][0]
    assert (run["clean"], run["robust"]) == (kept["clean"], kept["robust"])
    assert run["attack"]["attacks"] == ["fgsm"]
    assert run["settings"]["sgld_steps"] == 2
    shown = done("--runs", LATEST).splitlines()[1].split("  ")
    cells = [cell.strip() for cell in shown if cell]
    assert cells[1:5] == ["jeat", "digits", "small", "1/1"]
    assert cells[7:9] == ["fgsm linf 0.15 n=40", "12.3 (judge)"]


def test_a_distance_in_doubt_is_not_shown(home):
    model = home / LATEST / "model.safetensors"

    def scored(fid: float, n: int, judge: str = "judge", **more: Any) -> None:
        notes = {"notes": more.pop("notes")} if "notes" in more else {}
        protocol = {"n": n, "features": {"kind": "run", "run": judge}, **more}
        found = {"fid": fid, "run": LATEST, "protocol": protocol, **notes}
        add_results(model, "score", [found], f"jeat score {fid}")

    scored(1.0, 5000, judge=LATEST)
    scored(2.0, 6000, notes={"fid": "too few"})
    assert listed(LATEST)[0]["frechet_distance"] is None
    for fid, n in ((3.0, 1000), (4.0, 2000), (5.0, 2000), (6.0, 500)):
        scored(fid, n, notes={"kid": "few"})
    assert listed(LATEST)[0]["frechet_distance"] == 5.0
    assert listed(LATEST)[0]["features"] == "judge"
    # Nor one of images that say little of the run, or beside those of another data set.
    for fid, about in (
        (0.1, {"sampling": {"init": "data"}}),
        (0.2, {"selection": "the best of 4 by joint energy"}),
        (0.3, {"reference": {"dataset": "mnist"}}),
    ):
        scored(fid, 9000, **about)
        assert listed(LATEST)[0]["frechet_distance"] == 5.0
    usual = {"sampling": {"init": "gaussian"}, "selection": "none"}
    scored(7.0, 9000, reference={"dataset": "digits"}, **usual)
    assert listed(LATEST)[0]["frechet_distance"] == 7.0


def test_runs_that_differ_in_their_seed_alone_are_summed_up(home):
    for number, robust in enumerate((0.4, 0.5, 0.6)):
        folder = home / f"again-{number}"
        shutil.copytree(home / LATEST, folder)
        config = (folder / "config.toml").read_text().replace("seed = 0", f"seed = {number}")
        (folder / "config.toml").write_text(config)
        found = {**THREAT, "attacks": ["pgd"], "robust": robust, "clean": 0.9 + number / 100}
        add_results(folder / MODEL_FILE, "attack", [found], f"jeat attack again-{number}")
    attacked(home / LATEST / "model.safetensors", 0.1, "fgsm")  # another attack is no seed
    assert one("--runs")["seeds"] == [
        {
            "runs": ["again-0", "again-1", "again-2"],
            "attack": {
                "attacks": ["pgd"],
                "norm": "linf",
                "eps": 0.15,
                "n": 100,
                "training": False,
            },
            **{"clean": pytest.approx(0.91), "clean_sd": pytest.approx(0.01)},
            **{"robust": pytest.approx(0.5), "robust_sd": pytest.approx(0.1)},
        }
    ]
    assert (
        "again-*, 3 seeds: 91.00 ± 1.00 % clean, 50.00 ± 10.00 % under pgd linf 0.15 n=100"
        in done("--runs").splitlines()
    )
    found |= {"robust": 0.2}
    add_results(home / "again-2" / MODEL_FILE, "attack", [found], "jeat attack again-2 --steps 99")
    assert one("--runs")["seeds"][0]["runs"] == ["again-0", "again-1"]
    config = (home / "again-1" / "config.toml").read_text()
    (home / "again-1" / "config.toml").write_text(config.replace("epochs = 1", "epochs = 2"))
    assert one("--runs")["seeds"] == []


def test_the_strongest_attack_of_the_last_weights_counts(home):
    model = home / LATEST / "model.safetensors"
    attacked(model, 0.6, "pgd", n=1000)
    attacked(model, 0.5, "autoattack", n=100)
    attacked(model, 0.4, "autoattack", eps=0.3, n=1000)
    attacked(model, 0.3, "autoattack", n=1000, transfer_from="other")
    attacked(model, 0.2, "autoattack", n=1000, target="3")
    attacked(model, 0.1, "autoattack", n=1000, dataset="mnist")
    attacked(model, 0.7, "autoattack", n=1000, purification={"steps": 10})
    attacked(model, 0.75, "autoattack", n=1000, certificate={"sigma": 0.25})
    attacked(model, 0.8, "autoattack", n=1000, only="3")
    attacked(model, 0.85, "autoattack", n=1000, indices="hard.txt")
    shutil.copy(model, model.with_name("best.safetensors"))
    attacked(model.with_name("best.safetensors"), 0.05, "autoattack", n=1000)
    assert listed(LATEST)[0]["robust"] == 0.5
    kept = json.loads((model.parent / "results.json").read_text())
    for result in kept["attack"]:
        result["epoch"] = 7
    (model.parent / "results.json").write_text(json.dumps(kept))
    assert listed(LATEST)[0]["robust"] is None


def test_a_run_without_a_threat_model_has_the_customary_one(home):
    model = home / "standard" / "model.safetensors"
    attacked(model, 0.3, "autoattack", n=100)
    attacked(model, 0.0, "autoattack", norm="l2", eps=36, n=1000)
    run = listed("standard")[0]
    assert (run["robust"], run["attack"]["norm"]) == (0.3, "linf")


def test_unfinished_and_damaged_runs_are_marked(home):
    begun = home / "begun"
    begun.mkdir()
    (begun / "config.toml").write_text('method = "at"\nepochs = 30\n[options]\neps = 0.1\n')
    lines = [{"epoch": 1, "test_clean": 0.5, "test_robust": 0.25}, {"epoch": 2, "loss": 1.0}]
    (begun / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (home / "cut").mkdir()
    (home / "cut" / "model.safetensors").write_bytes(b"\x10" + 7 * b"\0")
    (home / "cut" / "config.toml").write_text("[[[")
    (home / "cut" / "results.json").write_text("{{{")
    (home / "standard~1").mkdir()
    (home / "standard~1" / "config.toml").write_text("")
    (home / "a-file").write_text("")
    shown = done("--runs")
    assert "2/30 *" in shown
    assert "25.00 %  pgd-10 in training" in shown
    assert "* not finished: the command that began it resumes it" in shown
    assert "cut: `" in shown
    assert "standard~1" not in shown
    runs = {run["run"]: run for run in listed()}
    assert set(runs) == {"standard", LATEST, "begun", "cut"}
    assert runs["begun"]["settings"]["eps"] == 0.1
    assert (runs["begun"]["finished"], runs["begun"]["path"]) == (False, None)


def test_patterns_names_and_paths(home, tmp_path):
    for name in ("lr0.1-a", "lr0.2-a", "lr0.1-b"):
        shutil.copytree(home / "standard", home / name)
    assert [run["run"] for run in listed("lr0.1*", "--sort", "name")] == ["lr0.1-a", "lr0.1-b"]
    assert [run["run"] for run in listed("2-a")] == ["lr0.2-a"]
    elsewhere = tmp_path / "sweep"
    shutil.copytree(home, elsewhere)
    assert len(listed(elsewhere)) == 5
    assert len(listed(elsewhere / "lr0.1*")) == 2


def test_sorting_puts_the_best_last_and_what_is_not_known_first(home):
    for name, robust in (("weak", 0.2), ("strong", 0.8)):
        shutil.copytree(home / LATEST, home / name)
        attacked(home / name / "model.safetensors", robust, "pgd")
    order = [run["run"] for run in listed("--sort", "robust")]
    assert order[-2:] == ["weak", "strong"]
    assert len(order) == 4


def test_where_there_is_nothing(tmp_path):
    refused(here("--runs"), 1, "there are no runs in `", "jeat train --dataset digits")
    refused(here("--runs", "x*"), 1, "no run fits `x*` in `", "`jeat --runs` lists all")
    refused(here("--json", "--runs", "x*"), 1, "no run fits `x*` in `", "`jeat --runs` lists all")
    assert listed() == []


def test_the_options_go_without_a_command(home):
    refused(here("--json", "train"), 2, "cannot be followed by a command", "after its name")
    refused(here("--runs", "--info"), 2, "`--runs` and `--info` exclude each other")
    refused(here("--runs", "--json", "lr*"), 2, "write `jeat --runs 'lr*'`, its PATTERN first")
    refused(here("--json"), 2, "belong to `--runs` or `--info`", "add one of the two")
    assert here("--runs", "--sort", "x").exit_code == 2
    refused(here("runs"), 2, "unknown command `runs`", "did you mean `jeat --runs`?")


def test_the_table_fits_the_terminal(home):
    done("attack", LATEST, "-n", 40, "--attack", "fgsm")
    long = home / f"{'name-' * 12}x"
    shutil.copytree(home / "standard", long)
    runs = list_runs()
    wide, narrow = table(runs).splitlines(), table(runs, 80).splitlines()
    assert max(map(len, narrow)) <= 80 < max(map(len, wide))
    assert {"run", "epochs", "clean", "robust"} <= {*narrow[0].split()}
    assert long.name in "\n".join(wide)
    assert [len(line) <= 200 for line in table(runs, 200).splitlines()]


def test_a_list_loads_nothing_heavy(home):
    code = (
        "import sys; from jeatcli.cli import main; main(['--runs'], standalone_mode=False); "
        f"assert not {{*{HEAVY}}} & {{*sys.modules}}"
    )
    subprocess.run([EXECUTABLE.with_name("python"), "-c", code], check=True, env=environment())


@pytest.mark.slow
def test_the_sweep_of_the_documentation(home, tmp_path):
    if shutil.which("jq") is None:
        pytest.skip("there is no jq")
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    script = next(part.partition("```")[0] for part in page.split("```sh\n") if "jq" in part)
    path = f"{EXECUTABLE.parent}{os.pathsep}{os.environ['PATH']}"
    tiny = {"JEAT_TRAIN_LIMIT": "64", "JEAT_TRAIN_EPOCHS": "1", "JEAT_ATTACK_NUM": "20"}
    said = subprocess.run(
        ["bash", "-ec", script],
        capture_output=True,
        text=True,
        env=environment(PATH=path, **tiny),
        check=False,
    )
    assert said.returncode == 0, said.stderr
    rows = [line.split("\t") for line in said.stdout.splitlines() if "\t" in line]
    assert rows[0] == ["eps", "runs", "clean", "robust", "spread"]
    assert [row[:2] for row in rows[1:]] == [["0.05", "2"], ["0.1", "2"], ["0.2", "2"]]


@pytest.mark.parametrize("together", [False, True])
def test_runs_are_summed_up_whatever_they_are_called(home: Path, together: bool) -> None:
    names = ("5", "6", "at", "at-seed-1")
    for number, name in enumerate(names):
        shutil.copytree(home / LATEST, home / name)
        config = (home / name / "config.toml").read_text()
        config = config.replace("seed = 0", f"seed = {number}")
        (home / name / "config.toml").write_text(config)
        found = {**THREAT, "attacks": ["pgd"], "robust": 0.5, "clean": 0.9}
        named = " ".join(names) if together else name
        command = f"jeat attack {named} --steps 5"
        add_results(home / name / MODEL_FILE, "attack", [found], command)
    assert [each["runs"] for each in one("--runs")["seeds"]] == [[*names]]
    # A number of steps is no run.
    for name in names[:2]:
        more = found | {"n": 101}
        command = f"jeat attack {name} --steps {name}"
        add_results(home / name / MODEL_FILE, "attack", [more], command)
    assert [each["runs"] for each in one("--runs")["seeds"]] == [[*names[2:]]]
