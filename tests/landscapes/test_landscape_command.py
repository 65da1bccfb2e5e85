"""`jeat landscape`: what it refuses, and every kind on a network that nobody here trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import LATEST, done, here, jeat, parsed, pixels, refused, settings, untouched
from helpers.runs import save_run

from jeatcli.cli.landscape_report import sections

PUBLIC = (
    *("--arch", "cifar-resnet-20", "--dataset", "cifar10"),
    *("--mean", ".485,.456,.406", "--std", ".229,.224,.225"),
)


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["--image", 397], "there is no test image 397 in digits", "0 to 396"),
        (["--span", 0], "Invalid value for '--span'", ""),
        (["--grid", 2], "Invalid value for '--grid'", ""),
        (["--grid", 100_000], "must be from 3 to 10,000, not 100000", ""),
        (["--kind", "sharpness", "-n", 1], "an interval over images needs at least 2", "`-n`"),
        (["-o", "plane.jpg"], "`.pdf` or `.html` file, not `plane.jpg`", "ends in `.png`"),
        (["-o", "plane"], "`.pdf` or `.html` file, not `plane`", "ends in `.png`"),
        (["--cmap", "virids"], "unknown colour map `virids`", "did you mean `viridis`?"),
        (["--kind", "sharpness", "--cmap", "gray"], "`--cmap` does nothing for `--kind sh", "out"),
        (
            ["--kind", "path", "--dpi", 80, "-o", "p.svg"],
            "`--dpi` does nothing for `p.svg`",
            ".png",
        ),
        (["--kind", "histogram", "--dpi", 80, "-o", "h.html"], "`--dpi` does nothing", ".png"),
        (["--figsize", 3, 0], "Invalid value for '--figsize'", ""),
        (["--dpi", 0], "Invalid value for '--dpi'", ""),
        (["--kind", "countour"], "unknown kind `countour`", "did you mean `contour`?"),
        (["--kind", "path", "--span", 3], "`--span` does nothing for `--kind path`", "objective"),
        (["--radius", 2], "`--radius` does nothing for `--kind contour`", "`--kind sharpness`"),
        (["--style", "ggplott"], "unknown style `ggplott`", "did you mean `ggplot`?"),
        (["--eps", "8/255"], "those of the PGD example", "add `--axes adversarial`"),
        (["--axes", "classes", "--class", "3"], "two classes span a plane, not 1", "twice"),
        (["--axes", "classes", "--class", "3", "--class", "3"], "toward `3`", "two classes"),
        (["--class", "3", "--kind", "path"], "`--class` does nothing for `--kind path`", ""),
        ([LATEST, "standard"], "the run `standard` is given twice", "name it once"),
        (["--kind", "histogram", "--against", "folder:nowhere"], "nowhere` is not a directory", ""),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_input(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: str,
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with untouched(home):
        said = here("landscape", "standard", *arguments)
        assert said.exit_code in (1, 2)
        refused(said, said.exit_code, error, hint)
    assert not list(tmp_path.glob("plane*"))


def test_runs_of_different_data_sets(home: Path) -> None:
    save_run("photos", dataset="cifar10")
    with untouched(home):
        said = here("landscape", "standard", "photos")
        refused(said, 2, "different data sets", "one data set at a time")


@pytest.mark.parametrize(
    "settings",
    [
        ("--kind", "contour", "--grid", 5),
        ("--kind", "contour", "--grid", 5, "--axes", "adversarial", "--relative"),
        ("--kind", "path", "-n", 3, "--steps", 3, "--beyond", 2, "--chain", 3),
        ("--kind", "sharpness", "-n", 3, "--directions", 2),
    ],
    ids=lambda settings: " ".join(map(str, settings[1:5])),
)
def test_kinds_on_a_public_network(
    settings: tuple[object, ...], shared: Path, cifar10_root: Path, tmp_path: Path
) -> None:
    file = shared / "models" / "resnet20-12fca82f.th"
    there = ("--data-dir", cifar10_root, "-o", tmp_path / "a.png", "--device", "cpu")
    found = json.loads(done("landscape", file, *PUBLIC, *settings, *there, "--json"))
    assert found["results"][0]["method"] == "foreign"
    assert (tmp_path / "a.png").stat().st_size > 10_000
    with np.load(found["outputs"]["numbers"]) as arrays:
        numbers = [each for each in arrays.values() if each.dtype.kind == "f"]
    assert all(np.isfinite(each).all() for each in numbers)
    assert [path.name for path in file.parent.glob("*.npz")] == []


@pytest.mark.parametrize(("count", "parts"), [(1, [1]), (4, [4]), (5, [4, 1]), (10, [4, 4, 2])])
def test_the_sharpness_of_many_runs_is_told_below_one_another(count: int, parts: list[int]) -> None:
    measures = ("energy", "marginal", "rise", "variance", "worst", "gradient", "curvature")
    names = [f"run-{number}" for number in range(count)]
    results = [
        {"run": name} | {key: {"mean": k, "low": k, "high": k} for key in measures}
        for k, name in enumerate(names, 100)
    ]
    about = {"kind": "sharpness", "n": 5, "unit": 0.15, "norm": "linf", "eps": 0.15}
    tables = sections({**about, "results": results})
    headers = [table.rows[0] for table in tables]
    assert [len(header) - 1 for header in headers] == parts
    assert [name for header in headers for name in header[1:]] == names
    assert {table.rows[1][0] for table in tables} == {"E(x,y) at the data"}
    assert tables[-1].rows[1][-1] == f"{count + 99} [{count + 99}, {count + 99}]"
    assert [len(table.notes) for table in tables] == [0] * (len(parts) - 1) + [1]


def test_one_image_is_in_the_singular(home: Path) -> None:
    few = ("--steps", 1, "--beyond", 1, "--chain", 1)
    shown = done("landscape", "standard", "--kind", "path", "-n", 1, *few)
    assert "means over 1 test image; PGD on ce, linf 0.15, 1 step to the edge and 1 " in shown
    assert "beyond; 1 step of SGLD" in shown
    shown = done("landscape", "standard", "--kind", "histogram", "-n", 1)
    assert "over 1 image a set, linf 0.15; AUROC: " in shown


def test_histogram_on_a_public_network(shared: Path, cifar10_root: Path, tmp_path: Path) -> None:
    file = shared / "models" / "resnet20-12fca82f.th"
    picture = tmp_path / "a.pdf"
    there = ("--data-dir", cifar10_root, "-o", picture, "--device", "cpu")
    shown = done("landscape", file, *PUBLIC, "--kind", "histogram", "-n", 4, *there)
    sets = [line.split()[1] for line in shown.splitlines()[1:-2]]
    assert sets == ["test", "adversarial", "targeted", "noisy", "noise", "samples"]
    assert picture.read_bytes().startswith(b"%PDF-")


def test_landscape_of_one_run(home: Path) -> None:
    said = jeat("landscape", "--grid", 5, "--span", 1, "--json")
    found = parsed(said)
    assert found["outputs"]["picture"] == str(home / LATEST / "landscape.png")
    assert [each["run"] for each in found["results"]] == [LATEST]
    assert found["results"][0]["rise"] == pytest.approx(
        found["results"][0]["mean"] - found["results"][0]["centre"]
    )
    assert min(pixels(Path(found["outputs"]["picture"])).shape[:2]) > 100
    assert settings(Path(found["outputs"]["picture"]))["span"] == 1
    with np.load(found["outputs"]["numbers"]) as arrays:
        assert arrays["energy"].shape == (1, 5, 5)
    reach = "the plane reaches 1 x 0.15 per-pixel RMS from the image"
    assert f"{reach} and leaves [0, 1] (`--clip` keeps it inside)\n" in said.stderr
    assert said.stderr.endswith("Hint: jeat score --calibration\n")


@pytest.mark.parametrize(("ending", "magic"), [("svg", b"<?xml"), ("pdf", b"%PDF-")])
def test_landscape_of_several_runs(home: Path, tmp_path: Path, ending: str, magic: bytes) -> None:
    path = tmp_path / f"both.{ending}"
    shown = done("landscape", "standard", LATEST, "--grid", 5, "--image", 7, "-o", path)
    header, first, second, about, last = shown.splitlines()
    assert about.startswith("E(x,y); mean, min, max and rise over the ")
    assert about.endswith(" the 1 grid point within l2 1.2 of the image")
    shown = done("landscape", "standard", "--grid", 9, "-o", path.with_stem("one"))
    assert "over the 5 grid points within l2 1.2" in shown
    assert header.split()[-1] == "rise"
    assert first.split()[:2] == ["standard", "7"]
    assert second.split()[:2] == [LATEST, "7"]
    assert last == str(path)
    assert path.read_bytes().startswith(magic)
    with np.load(path.with_suffix(".npz")) as arrays:
        assert arrays["energy"].shape == (2, 5, 5)


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("path", ["run", "path", "at", "E(x,y)", "E(x)", "CE(x,y)", "predicted", "y"]),
        ("histogram", ["run", "set", "E(x)", "5", "%", "95", "%", "E(x,y)", "AUROC"]),
        ("sharpness", ["standard", LATEST]),
    ],
)
def test_other_kinds_of_landscape(home: Path, kind: str, header: list[str]) -> None:
    few = ("landscape", "standard", LATEST, "--kind", kind, "-n", 4)
    shown = done(*few).splitlines()
    assert shown[0].split() == header
    assert shown[-1] == str(home / "standard" / f"{kind}.png")
    assert min(pixels(Path(shown[-1])).shape[:2]) > 100
    found = parsed(jeat(*few, "--json"))
    assert (found["kind"], len(found["results"])) == (kind, 2)
    assert Path(found["outputs"]["numbers"]).suffix == ".npz"
