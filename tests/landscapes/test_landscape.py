"""The landscape's numbers are E(x,y) at the points that the picture shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import load_run, save_run
from PIL import Image

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.model import Model
from jeatcli.data.images import load_images
from jeatcli.errors import JeatError, UsageProblem
from jeatcli.landscapes.contour import ContourResult, Panel
from jeatcli.landscapes.landscape import Landscape, energy_landscape, save_numbers
from jeatcli.landscapes.plane import Plane, orthonormal, random_directions, scaled
from jeatcli.plots.landscape import draw


def contours(landscape: Landscape) -> ContourResult:
    assert isinstance(landscape.result, ContourResult)
    return landscape.result


def panels(runs: list[str | Model], **settings: Any) -> tuple[Panel, ...]:
    return contours(energy_landscape(runs, device="cpu", **settings)).panels


@pytest.fixture
def small() -> Landscape:
    save_run("one", method="at")
    save_run("two", method="jeat", seed=1)
    return energy_landscape(["one", "two"], grid=5, image=(3,), device="cpu")


def directions(unit: float, norm: str, shape: tuple[int, ...] = (3, 32, 32)) -> torch.Tensor:
    return scaled(orthonormal(random_directions(torch.zeros(shape), 0)), unit, norm).double()


@pytest.mark.parametrize("norm", ["rms", "l2", "linf"])
def test_directions_are_orthogonal_and_of_one_unit(norm: str) -> None:
    first, second = directions(8 / 255, norm).flatten(1)
    assert abs(first @ second) / (first.norm() * second.norm()) < 1e-6
    for direction in (first, second):
        sizes = {
            "rms": direction.square().mean().sqrt(),
            "l2": direction.norm(),
            "linf": direction.abs().max(),
        }
        assert sizes[norm].item() == pytest.approx(8 / 255, rel=1e-6)


def test_directions_depend_on_the_seed_alone() -> None:
    x = torch.zeros(1, 8, 8)
    assert torch.equal(random_directions(x, 5), random_directions(x + 1, 5))
    assert not torch.equal(random_directions(x, 5), random_directions(x, 6))


def test_axis_is_symmetric_and_passes_through_the_image() -> None:
    axis = Plane(torch.zeros(1, 8, 8), torch.zeros(2, 1, 8, 8), 4.0, 51).axis
    assert axis[25] == 0
    assert axis[-1] == 4
    assert torch.equal(axis, -axis.flip(0))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_section_lies_on_the_surface_of_the_ball(norm: str) -> None:
    plane = Plane(torch.zeros(1, 8, 8), directions(0.1, "rms", (1, 8, 8)).float(), 4.0, 21)
    ring = plane.section(norm, 0.3, np.linspace(0, 2 * np.pi, 40))
    offsets = torch.from_numpy(ring) @ plane.directions.flatten(1).double()
    order = torch.inf if norm == "linf" else 2
    for length in torch.linalg.vector_norm(offsets, order, dim=1):
        assert length.item() == pytest.approx(0.3, rel=1e-6)
    inside = plane.inside(norm, 0.3)
    for row, b in enumerate(plane.axis):
        for column, a in enumerate(plane.axis):
            offset = (a * plane.directions[0] + b * plane.directions[1]).flatten()
            length = torch.linalg.vector_norm(offset, order).item()
            if abs(length - 0.3) > 1e-6:
                assert inside[row, column] == (length < 0.3)


def energy_alone(model: Model, point: torch.Tensor, y: int, name: str) -> float:
    logits = model.classifier(point[None])[0].double()
    marginal = -logits.exp().sum().log().item()
    joint = -logits[y].item()
    return {"joint": joint, "marginal": marginal, "ce": joint - marginal}[name]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", ["joint", "marginal", "ce"])
def test_grid_equals_the_energy_one_point_at_a_time(name: str, clip: bool) -> None:
    model = load_run("run")
    settings = {"grid": 7, "span": 3.0, "image": (11,), "energy": name, "clip": clip}
    (panel,) = panels([model], batch_size=10, **settings)
    images = load_images("digits", "test")
    x, y = images.x[11].float() / 255, int(images.y[11])
    first, second = panel.plane.directions
    for row, b in enumerate(panel.plane.axis.tolist()):
        for column, a in enumerate(panel.plane.axis.tolist()):
            point = x + a * first + b * second
            alone = energy_alone(model, point.clamp(0, 1) if clip else point, y, name)
            assert panel.energies[row, column] == pytest.approx(alone, rel=1e-5, abs=2e-5)
    assert panel.centre == pytest.approx(energy_alone(model, x, y, name), rel=1e-5, abs=2e-5)
    assert panel.centre == pytest.approx(panel.energies[3, 3], rel=1e-5, abs=2e-5)


def test_batch_size_does_not_change_the_numbers() -> None:
    model = load_run("run")
    whole = panels([model], grid=9)[0].energies
    parts = panels([model], grid=9, batch_size=7)[0].energies
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=2e-5)


def test_same_seed_same_numbers_and_same_picture(small: Landscape, tmp_path: Path) -> None:
    again = energy_landscape(["one", "two"], grid=5, image=(3,), device="cpu")
    for panel, same in zip(contours(small).panels, contours(again).panels, strict=True):
        assert np.array_equal(panel.energies, same.energies)
    for kind in ("png", "svg", "pdf"):
        pictures = [draw(each, tmp_path / f"a.{kind}").read_bytes() for each in (small, again)]
        assert pictures[0] == pictures[1]
    grids = [save_numbers(each, tmp_path / "a.npz").read_bytes() for each in (small, again)]
    assert grids[0] == grids[1]
    (other,) = panels(["one"], grid=5, image=(3,), seed=1)
    assert not np.array_equal(other.energies, contours(small).panels[0].energies)


def test_adversarial_axis_goes_through_an_example_of_higher_cross_entropy() -> None:
    model = load_run("run")
    settings = {"axes": "adversarial", "energy": "ce", "eps": 0.1, "grid": 3}
    (panel,) = panels([model], image=(5,), **settings)
    ((name, a, b),) = panel.marks
    assert (name, b) == ("PGD", pytest.approx(0, abs=1e-5))
    moved = panel.plane.points(torch.tensor([[a, 0.0]]))[0]
    assert (moved - panel.plane.x).abs().max().item() <= 0.1 + 1e-5
    y = int(load_images("digits", "test").y[5])
    assert energy_alone(model, moved, y, "ce") > panel.centre
    first, second = panel.plane.directions.double().flatten(1)
    assert abs(first @ second) / first.square().sum() < 1e-5


def test_class_axes_go_through_two_samples_of_the_run() -> None:
    model = load_run("run", method="jeat")
    (panel,) = panels([model], axes="classes", class_=("3", "7"), grid=3)
    (first, a, zero), (second, c, d) = panel.marks
    assert (first, second) == ("3", "7")
    assert zero == pytest.approx(0, abs=1e-4)
    assert panel.plane.span >= max(a, abs(c), abs(d))
    from jeatcli.sampling.sample import sample

    drawn = sample(model, classes=["3", "7"], num=2, seed=0).images
    found = panel.plane.points(torch.tensor([[a, 0.0], [c, d]]))
    torch.testing.assert_close(found, drawn, atol=1e-4, rtol=0)


def test_several_images_are_rows(tmp_path: Path) -> None:
    runs: list[str | Model] = [load_run("one"), load_run("two", seed=1)]
    found = energy_landscape(runs, image=(4, 2, 9), grid=5)
    assert [panel.image for panel in contours(found).panels] == [4, 4, 2, 2, 9, 9]
    assert len(found.summary()["results"]) == 6
    draw(found, tmp_path / "rows.png")


def test_surface(small: Landscape, tmp_path: Path) -> None:
    flat = draw(small, tmp_path / "flat.png").read_bytes()
    raised = energy_landscape(["one", "two"], grid=5, image=(3,), surface=True)
    assert draw(raised, tmp_path / "raised.png").read_bytes() != flat


def test_style_of_matplotlib_or_of_a_file(small: Landscape, tmp_path: Path) -> None:
    plain = draw(small, tmp_path / "a.svg").read_text(encoding="utf-8")
    file = tmp_path / "big.mplstyle"
    file.write_text("font.size: 23\n")
    assert "23px" in draw(small, tmp_path / "b.svg", style=str(file)).read_text(encoding="utf-8")
    assert "23px" not in plain
    assert (
        draw(small, tmp_path / "c.svg", style="dark_background").read_text(encoding="utf-8")
        != plain
    )
    for wrong in ("dark_backgroud", str(tmp_path / "none.mplstyle")):
        with pytest.raises(UsageProblem, match="unknown style"):
            draw(small, tmp_path / "d.svg", style=wrong)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageProblem, match="not a matplotlib style"):
        draw(small, tmp_path / "d.svg", style=str(file))


def test_summary_is_of_the_points_inside_the_ball(small: Landscape) -> None:
    summary = json.loads(json.dumps(small.summary()))
    assert summary["unit"] == 0.15
    assert summary["ball"] == {"norm": "l2", "radius": pytest.approx(0.15 * 8)}
    assert not summary["clipped"]
    for panel_figures in summary["results"]:
        assert panel_figures["points_in_ball"] == 1
        assert panel_figures["rise"] is None
        assert 0 < panel_figures["outside_pixel_range"] < 1
    fine = energy_landscape(["one"], grid=21, image=(3,))
    (panel,) = contours(fine).panels
    a, b = np.meshgrid(panel.plane.axis, panel.plane.axis)
    inside = panel.energies[a**2 + b**2 <= 1 + 1e-5]
    figures = fine.summary()["results"][0]
    assert figures["mean"] == pytest.approx(inside.mean())
    assert figures["rise"] == pytest.approx(inside.mean() - figures["centre"])
    assert (figures["min"], figures["max"]) == (inside.min(), inside.max())
    plane, model = panel.plane, load("one", device="cpu")
    points = torch.cartesian_prod(plane.axis.float(), plane.axis.float())
    outside = plane.points(points) != plane.points(points).clamp(0, 1)
    assert figures["outside_pixel_range"] == pytest.approx(outside.double().mean().item())
    confidence, predicted = model.classifier(plane.x[None]).double().softmax(1).max(1)
    assert figures["confidence"] == pytest.approx(confidence.item(), rel=1e-4)
    assert figures["prediction"] == str(predicted.item())
    assert figures["plane_min"] <= figures["min"] <= figures["max"] <= figures["plane_max"]


def test_a_grid_too_coarse_for_the_ball_has_no_rise() -> None:
    save_run("one")
    figures = energy_landscape(["one"], grid=4).summary()["results"][0]
    assert figures["rise"] is None
    assert figures["mean"] is None


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_draws_any_number_of_panels(count: int, tmp_path: Path) -> None:
    models = [load_run(f"run{k}", seed=k, gain=1 + k) for k in range(count)]
    found = energy_landscape(models, grid=11)
    with Image.open(draw(found, tmp_path / "a.png")) as picture:
        assert min(picture.size) > 300
        carried = json.loads(picture.text["jeat"])
    assert all(panel.pop("run") == f"run{k}" for k, panel in enumerate(carried["results"]))
    summary = json.loads(json.dumps(found.summary()))
    # Whoever is given a picture is told the runs, and not where they lie.
    for panel in summary["results"]:
        assert panel.pop("path").endswith(f"{panel.pop('run')}/model.safetensors")
    assert carried | {"seconds": found.seconds} == summary


def test_draws_a_plane_without_slope_and_names_with_dollars(tmp_path: Path) -> None:
    flat = load_run("flat", gain=0.0, method="a$b$")
    found = energy_landscape([flat], grid=5, relative=True)
    picture = draw(found, tmp_path / "flat.svg")
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
    with np.load(save_numbers(small, tmp_path / "g.npz"), allow_pickle=False) as arrays:
        shown = contours(small).panels
        assert np.array_equal(arrays["energy"], [panel.energies for panel in shown])
        assert np.array_equal(arrays["axis"], shown[0].plane.axis)
        assert arrays["directions"].shape == (2, 2, 1, 8, 8)
        assert json.loads(str(arrays["summary"]))["seed"] == 0
    with pytest.raises(UsageProblem, match="npz"):
        save_numbers(small, tmp_path / "g.csv")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"span": 0.0}, "span"),
        ({"span": -1.0}, "span"),
        ({"span": float("nan")}, "span"),
        ({"grid": 2}, "at least 3"),
        ({"unit": 0.0}, "unit"),
        ({"batch_size": 0}, "batch_size"),
        ({"image": (397,)}, "no test image 397"),
        ({"image": (-1,)}, "no test image -1"),
        ({"kind": "contuor"}, "unknown kind `contuor`"),
        ({"axes": "adverserial"}, "unknown axes"),
        ({"energy": "free"}, "unknown energy"),
        ({"unit_norm": "l1"}, "unknown unit norm"),
        ({"class_": ("3", "4")}, "--class"),
        ({"axes": "classes", "class_": ("3",)}, "two classes"),
        ({"axes": "classes", "class_": ("3", "ten")}, "unknown class"),
        ({"eps": 0.1}, "PGD example"),
        ({"num": 10}, "`--num` does nothing"),
        ({"kind": "path", "grid": 9}, "`--grid` does nothing"),
        ({"kind": "path", "num": 398}, "398"),
        ({"kind": "path", "beyond": -1}, "beyond"),
        ({"kind": "sharpness", "directions": 1}, "directions"),
        ({"kind": "sharpness", "radius": (0.0,)}, "radius"),
        ({"kind": "histogram", "norm": "l3"}, "unknown norm"),
        ({"kind": "histogram", "eps": 0.0}, "eps"),
        ({"kind": "histogram", "against": "digit"}, "unknown data set"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    save_run("one")
    with pytest.raises(UsageProblem, match=message) as problem:
        energy_landscape(["one"], **settings)
    if "image" in settings:
        assert "0 to 396" in str(problem.value.hint)


def test_runs_of_different_data_sets() -> None:
    save_run("one")
    save_run("two", dataset="cifar10")
    with pytest.raises(UsageProblem, match="`one` has 1x8x8, `two` 3x32x32"):
        energy_landscape(["one", "two"])


def test_no_run_and_a_diverged_run() -> None:
    with pytest.raises(UsageProblem, match="at least one run"):
        energy_landscape([])
    with pytest.raises(JeatError, match=r"not finite|NaN or infinite"):
        energy_landscape([load_run("wild", gain=1e12)], grid=3)
