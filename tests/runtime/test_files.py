"""Outputs that may be written, writing that is all or nothing, and names that come from files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jeatcli.errors import JeatError, UsageProblem
from jeatcli.runtime import files
from jeatcli.runtime.files import expand, safe_name, write_atomic
from jeatcli.runtime.outputs import ATTACK_RECORD, RUN_RESULTS, SAMPLE_PICTURE, check_output

OURS = b'\x89PNG tEXtjeat\x00{"sampler": "sgld"}'


@pytest.mark.parametrize(
    "content", [None, b"", OURS, bytes(10**6) + OURS], ids=["new", "empty", "short", "long"]
)
def test_an_output_may_be_new_empty_or_ours(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "deeper" / "grid.PNG"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    check_output(path, SAMPLE_PICTURE)


def test_an_output_is_not_somebody_elses_file(tmp_path: Path) -> None:
    path = tmp_path / "holiday.png"
    path.write_bytes(b"\x89PNG the beach")
    with pytest.raises(
        JeatError, match=r"holiday.png` exists and was not written by `jeat sample`"
    ):
        check_output(path, SAMPLE_PICTURE)


def test_the_results_of_a_run_are_no_record_of_an_attack(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{\n "schema": 1,\n "attack": [\n  {\n   "per_attack": {}}]}')
    with pytest.raises(JeatError, match="was not written by `jeat attack`"):
        check_output(path, ATTACK_RECORD)
    check_output(path, RUN_RESULTS)
    path.write_text('{"schema": "mine"}')
    with pytest.raises(JeatError, match="was not written by `jeat`"):
        check_output(path, RUN_RESULTS)


def test_an_output_is_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "device.png").symlink_to("/dev/null")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    for name, reason in {
        "folder.png": "it is a directory",
        "fifo.png": "it is not a regular file",
        "device.png": "it is a link",
        "dangling.png": "it is a link",
    }.items():
        with pytest.raises(JeatError, match=f"{name}`: {reason}") as caught:
            check_output(tmp_path / name, SAMPLE_PICTURE, "--trace")
        assert str(caught.value.hint).endswith("name another place with `--trace`")


def test_an_output_has_the_ending_of_what_is_written(tmp_path: Path) -> None:
    for name in ("thesis.txt", "model.safetensors", "grid", "grid.png.gz"):
        with pytest.raises(UsageProblem, match=f"`-o` writes a `.png` file, not `.*{name}`"):
            check_output(tmp_path / name, SAMPLE_PICTURE)


def test_a_temporary_file_is_new_and_removed(tmp_path: Path) -> None:
    seen: list[Path] = []

    def fail(temporary: Path) -> None:
        seen.append(temporary)
        assert (temporary.parent.parent, temporary.stat().st_size) == (tmp_path, 0)
        temporary.write_text("half")
        temporary.with_name(".of-a-library").touch()
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            write_atomic(tmp_path / "file", fail)
    assert seen[0] != seen[1]
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_name_that_is_taken_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "0" * 2 * size)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    files.temporary_beside(tmp_path / "file").symlink_to(victim)
    with pytest.raises(JeatError, match="cannot write"):
        write_atomic(tmp_path / "file", lambda path: path.write_text("new"))
    assert victim.read_text() == "precious"


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """Of processes that live, and of other machines, nothing is."""
    kill = (
        "import os, sys; from pathlib import Path; from jeatcli.runtime.files import write_atomic\n"
        "def write(path): path.with_name('.of-a-library').touch(); os.kill(os.getpid(), 9)\n"
        "write_atomic(Path(sys.argv[1]), write)"
    )
    subprocess.run([sys.executable, "-c", kill, str(tmp_path / "grid.png")])
    (left,) = tmp_path.iterdir()
    alive = files.temporary_beside(tmp_path / "grid.png")
    elsewhere = tmp_path / left.name.replace(files._machine(), "0" * 8)
    theirs = tmp_path / ".grid.png.tmp"
    for path in (alive, elsewhere, theirs):
        path.touch()
    write_atomic(tmp_path / "other.png", lambda path: path.write_text("new"))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"other.png", alive.name, elsewhere.name, theirs.name}


def test_a_directory_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    gone = tmp_path / f".cifar.{files._machine()}-{2**22 + 1}-{'0' * 16}.tmp"
    gone.mkdir()
    (gone / "batch").touch()
    write_atomic(tmp_path / "other.png", lambda path: path.write_text("new"))
    assert [path.name for path in tmp_path.iterdir()] == ["other.png"]


def test_an_empty_variable_names_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEAT_DATA_DIR", "")
    assert files.data_dir() == files.cache_dir() / "data"


def test_an_output_is_called_by_a_text(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match=r"a\\xff.png` is not UTF-8"):
        check_output(tmp_path / "a\udcff.png", SAMPLE_PICTURE)


def test_an_old_file_of_another_machine_is_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / f".grid.png.{'0' * 8}-1-{'0' * 16}.tmp"
    elsewhere.touch()
    os.utime(elsewhere, (0, 0))
    write_atomic(tmp_path / "other.png", lambda path: path.write_text("new"))
    assert [path.name for path in tmp_path.iterdir()] == ["other.png"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dog", "dog"),
        ("T-shirt/top", "T-shirt_top"),
        ("../../etc/passwd", "_.__._etc_passwd"),
        ("..", "_"),
        ("", "_"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\x1b[31m\n\0b", "a__31m__b"),
        ("\udcff", "_"),
        ("Füchse 0.5", "Füchse_0.5"),
        ("é" * 100, "é" * 40),
    ],
)
def test_a_name_from_a_file_is_one_part_of_a_path(text: str, name: str) -> None:
    assert safe_name(text) == name
    assert (Path("x") / safe_name(text)).parent == Path("x")


def test_a_home_directory_of_nobody() -> None:
    with pytest.raises(UsageProblem, match="is not the home directory of any user"):
        expand("~nobody-of-that-name/x")


def test_a_failed_write_leaves_no_directory(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "there").mkdir()
    for place in ("new/deeper/x.png", "there/x.png"):
        with pytest.raises(JeatError, match="No space left"):
            write_atomic(tmp_path / place, full)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    assert write_atomic(tmp_path / "new/x.png", lambda path: path.write_bytes(b"")).exists()
