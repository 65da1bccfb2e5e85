"""Reports: one HTML file that needs no network and obeys no foreign text."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.cli import done, here, one, refused
from helpers.runs import save_run

from jeatcli.cli.output import Section
from jeatcli.cli.page import Page, Picture, headline

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
EVIL = '<script>alert("1")</script> & \x1b[31m'
VOID = ("meta", "img", "br")


class Checked(HTMLParser):
    """Keep the tags and the text; every tag is closed, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path: Path) -> Checked:
    """Parse a report, and check that it asks for nothing outside itself."""
    page = path.read_text(encoding="utf-8")
    found = Checked(page)
    assert not [tag for tag, _ in found.tags if tag in ("script", "link", "iframe", "object")]
    for _, attributes in found.tags:
        assert not attributes.keys() & {"href", "srcset", "onload", "onerror"}
        assert (attributes.get("src") or "data:image/").startswith("data:image/")
    assert "url(" not in page
    assert "default-src 'none'" in page
    return found


def test_foreign_text_is_only_text(tmp_path: Path) -> None:
    document = {
        "command": "attack",
        "run": EVIL,
        "n": 3,
        "warnings": [{"name": "a", "text": EVIL}],
        "per_attack": {EVIL: {"steps": 3}},
        "accuracy": [None, 0.5],
        "path": "\udcff.pt",
    }
    section = Section([(EVIL, "n"), (EVIL, 3)], [EVIL])
    picture = Picture(".svg", b"<svg/>", EVIL)
    Page(EVIL, EVIL, document, [section], [picture]).write(tmp_path / "a.html")
    found = read(tmp_path / "a.html")
    assert found.text.count('<script>alert("1")</script>') > 6
    assert "-, 0.5" in found.text
    assert "\x1b" not in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEAT_DEVICE", "cpu")
    for number, name in enumerate(("first", "second")):
        save_run(name, seed=number)


def test_a_title_names_a_few_runs_and_counts_many() -> None:
    assert headline(["a", "b", "a"]) == "a, b"
    assert headline([f"run-{number}" for number in range(10)] * 2) == "10 runs"


def test_an_attack_of_two_runs(runs: None, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    words = (
        "attack",
        "first",
        "second",
        "-n",
        "4",
        "--steps",
        "1",
        "-o",
        page,
        "--figsize",
        "3",
        "2",
    )
    printed = one(*words)
    assert printed["outputs"]["report"] == str(page)
    found = read(page)
    tags = [tag for tag, _ in found.tags]
    assert tags.count("table") == 2
    assert tags.count("img") == 1
    for word in (
        "Robustness of first, second",
        "jeat attack first second",
        "pgd, n = 4",
        '"norm": ',
    ):
        assert word in found.text
    assert done(*words).splitlines()[-1] == str(page)
    page.write_text("<p>mine</p>")
    refused(here(*words), 1, "was not written by `jeat attack`")


def test_what_an_attack_did_is_told_radius_by_radius(runs: None, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ask = ("attack", "first", "-n", "4", "--steps", "1", "--eps", "0.1", "--eps", "0.2")
    done(*ask, "-o", page)
    # In the table of accuracies and in that of what the attacks did.
    for radius in ("linf 0.1", "linf 0.2"):
        assert page.read_text().count(f"<td>{radius}</td>") == 2
    seconds = re.findall(r'<td class="number">([\d.]+)</td></tr>', page.read_text())
    assert len(seconds) == 2
    assert all(re.fullmatch(r"\d+\.\d\d", each) for each in seconds)


def test_a_score_in_doubt_has_the_name_of_the_table(runs: None) -> None:
    few = ("-n", "4", "--steps", "1", "--kid-subset-size", "4")
    found = one("score", "first", "--features", "second", *few)
    names = {each["text"].partition(":")[0] for each in found["warnings"]}
    assert {"Fréchet distance", "kernel distance"} <= names
    assert not names & {"fid", "kid", "inception_score"}


def test_a_landscape_and_scores(runs: None, tmp_path: Path) -> None:
    few = ("-n", "20", "--kid-subset-size", "10", "--kid-subsets", "2", "--splits", "2")
    near = ("--neighbours", tmp_path / "near.png", "--steps", "1", "--metric", "vendi")
    commands = {
        "landscape": ("landscape", "first", "--grid", "3"),
        "images": ("score", "first", "--features", "second", *few, *near),
        "classifier": ("score", "first", "-n", "20", "--calibration", "--ood", "digits"),
    }
    for name, words in commands.items():
        page = tmp_path / f"{name}.html"
        assert str(page) in done(*words, "-o", page, "--json")
        shown = done(*words, "-o", page)
        assert shown.splitlines()[-1] == str(page)
        assert ("\nvendi reference " in shown) == (name == "images")
        found = read(page)
        assert [tag for tag, _ in found.tags].count("img") == 1
        assert "How it was measured" in found.text
    assert (tmp_path / "landscape.npz").is_file()
    refused(here("score", "first", "-o", tmp_path / "a.txt"), 2, "ends in `.html`")
    refused(here("attack", "first", "--title", "a"), 2, "name its file with `--plot`")


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [400, 1200])
def test_a_browser_shows_it_without_scrolling_sideways(
    runs: None, tmp_path: Path, width: int
) -> None:
    page = tmp_path / "report.html"
    done("attack", "first", "-n", "4", "--steps", "1", "-o", page)
    # The policy of the page forbids its own scripts; this one measures from outside.
    probe = tmp_path / "probe.html"
    probe.write_text(
        f'<iframe src="{page.name}" width="{width}" height="900"></iframe><script>onload = () => '
        "{ const page = document.querySelector('iframe').contentDocument.documentElement;"
        " const cells = [...page.querySelectorAll('thead + tbody td')];"
        " document.title = [page.scrollWidth, page.querySelector('img').naturalWidth,"
        " Math.max(...cells.map((cell) => cell.offsetHeight))] }</script>"
    )
    flags = "--headless --no-sandbox --disable-gpu --allow-file-access-from-files --dump-dom"
    said = subprocess.run(
        [str(BROWSER), *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    sizes = re.search(r"<title>(\d+),(\d+),(\d+)</title>", said.stdout)
    assert sizes, said.stderr[-2000:]
    assert int(sizes[1]) <= width
    assert int(sizes[2]) > 100
    assert 0 < int(sizes[3]) < 50  # a line: below a header nothing is broken
