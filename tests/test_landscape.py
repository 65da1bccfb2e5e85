"""The landscape's numbers are E(x,y) at the points that the picture shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import load_run, save_run

from jeatcli import data, landscape
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.landscape import Landscape, draw, energy_landscape, save_grid
from jeatcli.plane import Plane, random_directions


@pytest.fixture
def small() -> Landscape:
    save_run("one", method="at")
    save_run("two", method="jeat", seed=1)
    return energy_landscape(["one", "two"], grid=5, image=3, device="cpu")


def test_directions_are_orthogonal_and_scaled() -> None:
    first, second = random_directions(torch.zeros(3, 32, 32), 8 / 255, 0).double().flatten(1)
    assert abs(first @ second) / first.square().sum() < 1e-6
    for direction in (first, second):
        assert direction.square().mean().sqrt().item() == pytest.approx(8 / 255, rel=1e-6)
        assert direction.norm().item() == pytest.approx(8 / 255 * 3072**0.5, rel=1e-6)


def test_directions_depend_on_the_seed_alone() -> None:
    x = torch.zeros(1, 8, 8)
    assert torch.equal(random_directions(x, 0.1, 5), random_directions(x + 1, 0.1, 5))
    assert not torch.equal(random_directions(x, 0.1, 5), random_directions(x, 0.1, 6))


def test_axis_is_symmetric_and_passes_through_the_image() -> None:
    axis = Plane(torch.zeros(2, 1, 8, 8), 4.0, 51).axis
    assert axis[25] == 0
    assert axis[-1] == 4
    assert torch.equal(axis, -axis.flip(0))


def test_grid_equals_the_energy_one_point_at_a_time() -> None:
    model = load_run("run")
    found = energy_landscape([model], grid=7, span=3, image=11, batch_size=10)
    images = data.load("digits", "test")
    x, y = images.x[11].float() / 255, int(images.y[11])
    first, second = torch.from_numpy(found.directions)
    for row, b in enumerate(found.axis):
        for column, a in enumerate(found.axis):
            point = x + float(a) * first + float(b) * second
            alone = -model.classifier(point[None])[0, y].item()
            assert found.panels[0].energies[row, column] == pytest.approx(alone, rel=1e-5, abs=1e-5)
    assert found.panels[0].centre == pytest.approx(-model.classifier(x[None])[0, y].item())
    assert found.panels[0].centre == pytest.approx(found.panels[0].energies[3, 3], rel=1e-5)


def test_batch_size_does_not_change_the_numbers() -> None:
    model = load_run("run")
    whole = energy_landscape([model], grid=9).panels[0].energies
    parts = energy_landscape([model], grid=9, batch_size=7).panels[0].energies
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=2e-5)


def test_same_seed_same_numbers_and_same_picture(small: Landscape, tmp_path: Path) -> None:
    again = energy_landscape(["one", "two"], grid=5, image=3, device="cpu")
    for panel, same in zip(small.panels, again.panels, strict=True):
        assert np.array_equal(panel.energies, same.energies)
    for kind in ("png", "svg", "pdf"):
        pictures = [draw(each, tmp_path / f"a.{kind}").read_bytes() for each in (small, again)]
        assert pictures[0] == pictures[1]
    grids = [save_grid(each, tmp_path / "a.npz").read_bytes() for each in (small, again)]
    assert grids[0] == grids[1]
    other = energy_landscape(["one"], grid=5, image=3, seed=1)
    assert not np.array_equal(other.panels[0].energies, small.panels[0].energies)


def test_summary_is_of_the_points_inside_the_ball(small: Landscape) -> None:
    summary = json.loads(json.dumps(small.summary()))
    assert summary["unit"] == 0.15
    assert summary["radius_l2"] == pytest.approx(0.15 * 8)
    assert summary["points_in_ball"] == 1
    assert not summary["clipped"]
    assert 0 < summary["outside_pixel_range"] < 1
    fine = energy_landscape(["one"], grid=21, image=3)
    a, b = np.meshgrid(fine.axis, fine.axis)
    inside = fine.panels[0].energies[a**2 + b**2 <= 1 + 1e-9]
    figures = fine.summary()["runs"][0]
    assert figures["mean"] == pytest.approx(inside.mean())
    assert figures["rise"] == pytest.approx(inside.mean() - figures["centre"])
    assert (figures["min"], figures["max"]) == (inside.min(), inside.max())
    assert figures["plane_min"] <= figures["min"] <= figures["max"] <= figures["plane_max"]


def test_a_grid_too_coarse_for_the_ball_has_no_rise() -> None:
    save_run("one")
    figures = energy_landscape(["one"], grid=4).summary()["runs"][0]
    assert figures["rise"] is None
    assert figures["mean"] is None


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_draws_any_number_of_panels(count: int, tmp_path: Path) -> None:
    models = [load_run(f"run{k}", seed=k, gain=1 + k) for k in range(count)]
    found = energy_landscape(models, grid=11)
    with Image.open(draw(found, tmp_path / "a.png")) as picture:
        assert min(picture.size) > 300
        carried = json.loads(picture.text["jeat"])
    assert carried | {"seconds": found.seconds} == json.loads(json.dumps(found.summary()))


def test_draws_a_plane_without_slope_and_names_with_dollars(
    small: Landscape, tmp_path: Path
) -> None:
    flat = replace(small.panels[0], energies=np.zeros((5, 5)), method="a$b$", centre=0.0)
    picture = draw(replace(small, panels=(flat,), relative=True), tmp_path / "flat.svg")
    assert "a$b$" in picture.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?x")]
)
def test_file_type_is_the_ending(small: Landscape, kind: str, magic: bytes, tmp_path: Path) -> None:
    assert draw(small, tmp_path / f"a.{kind.upper()}").read_bytes().startswith(magic)
    assert [path.name for path in tmp_path.glob("*a.*")] == [f"a.{kind.upper()}"]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.npz"])
def test_unknown_file_type(small: Landscape, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot draw") as problem:
        draw(small, tmp_path / name)
    for kind in ("png", "svg", "pdf"):
        assert kind in str(problem.value.hint)


def test_grid_file_holds_the_numbers(small: Landscape, tmp_path: Path) -> None:
    with np.load(save_grid(small, tmp_path / "g.npz"), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["energy"], [panel.energies for panel in small.panels])
        assert np.array_equal(arrays["axis"], small.axis)
        assert arrays["directions"].shape == (2, 1, 8, 8)
        assert json.loads(str(arrays["summary"]))["seed"] == 0
    with pytest.raises(UsageProblem, match="npz"):
        save_grid(small, tmp_path / "g.csv")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"span": 0.0}, "span"),
        ({"span": -1.0}, "span"),
        ({"span": float("nan")}, "span"),
        ({"grid": 2}, "at least 3"),
        ({"unit": 0.0}, "unit"),
        ({"batch_size": 0}, "batch size"),
        ({"image": 397}, "no test image 397"),
        ({"image": -1}, "no test image -1"),
    ],
)
def test_bad_settings(settings: dict[str, float], message: str) -> None:
    save_run("one")
    with pytest.raises(UsageProblem, match=message) as problem:
        energy_landscape(["one"], **settings)  # type: ignore[arg-type]
    if "image" in settings:
        assert "0 to 396" in str(problem.value.hint)


def test_runs_of_different_data_sets() -> None:
    save_run("one")
    save_run("two", dataset="cifar10")
    with pytest.raises(UsageProblem, match=r"one.*on digits.*two.*on cifar10"):
        energy_landscape(["one", "two"])


def test_no_run_and_a_diverged_run() -> None:
    with pytest.raises(UsageProblem, match="at least one run"):
        energy_landscape([])
    with pytest.raises(JeatError, match="not finite"):
        energy_landscape([load_run("wild", gain=1e12)], grid=3)


def test_a_path_can_be_checked_before_the_work() -> None:
    assert landscape.check_path("x.png") == "png"
