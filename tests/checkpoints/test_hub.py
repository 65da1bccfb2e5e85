"""`hf-hub:OWNER/NAME`: models of the hub, from a server of this test."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.cli import environment, jeat, parsed
from helpers.runs import save_run

pytest.importorskip("huggingface_hub")

PATHS = """
import json, sys, time
time.sleep = lambda seconds: None  # between the library's attempts
from jeatcli.checkpoints.runs import resolve
from jeatcli.errors import JeatError
found = []
for run in sys.argv[1:]:
    try:
        found.append(str(resolve(run)))
    except JeatError as problem:
        found.append([problem.message, problem.hint])
print(json.dumps(found))
"""


class Hub(BaseHTTPRequestHandler):
    """Serve one file of one model, as the hub does."""

    content = b""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        if self.answer():
            self.wfile.write(self.content)

    def answer(self) -> bool:
        _, owner, name, *rest = self.path.partition("?")[0].split("/")
        there = (owner, name) == ("someone", "digits")
        found = there and rest[0] == "resolve" and rest[2] == "model.safetensors"
        self.send_response(200 if found else 404)
        self.send_header("X-Error-Code", "EntryNotFound" if there else "RepoNotFound")
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()
        return found

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Serve the model of an untrained run; return the environment of its users."""
    Hub.content = save_run("uploaded").read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    server.shutdown()
    server.server_close()


def resolved(hub: dict[str, str], *runs: str) -> list[object]:
    """Resolve RUNs in a process of their own, as the library reads its settings once."""
    said = subprocess.run(
        [sys.executable, "-c", PATHS, *runs],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**hub),
    )
    assert said.returncode == 0, said.stderr
    return list(json.loads(said.stdout))


def test_a_model_is_downloaded_once_and_named_by_its_page(
    hub: dict[str, str], tmp_path: Path
) -> None:
    found = resolved(
        hub,
        "hf-hub:someone/digits",
        "hf-hub:someone/digits@main",
        "hf-hub:someone/other",
        "hf-hub:someone/digits/best.safetensors",
        "hf-hub:someone",
    )
    path = Path(str(found[0]))
    assert path == tmp_path / "jeat-cache" / "hub" / "someone" / "digits.safetensors"
    assert path.read_bytes() == Hub.content
    assert Path(str(found[1])).name == "digits-main.safetensors"
    assert found[2][0] == "cannot fetch `hf-hub:someone/other`: there is no such model"
    assert "has no file `best.safetensors`" in found[3][0]
    assert found[4][1] == "write `hf-hub:OWNER/NAME`"
    # Without the server the model is still there, and another one is not.
    gone = hub | {"HF_HUB_OFFLINE": "1"}
    again = resolved(gone, "hf-hub:someone/digits", "hf-hub:someone/other")
    assert again[0] == str(path)
    assert "the hub cannot be reached" in again[1][0]


def test_its_results_go_into_the_working_directory(
    hub: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ("-n", "2", "--steps", "1", "--json")
    drawn = parsed(jeat("sample", "hf-hub:someone/digits", *few, JEAT_DEVICE="cpu", **hub))
    assert drawn["run"] == "digits"
    assert Path(drawn["outputs"]["images"]).parent == tmp_path / "digits" / "samples"
    names = {path.name for path in (tmp_path / "jeat-cache" / "hub").rglob("*")}
    assert names == {"someone", "digits.safetensors"}


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    (found,) = resolved(nowhere, "hf-hub:someone/digits")
    assert "the hub cannot be reached" in found[0]
    assert "check the network" in found[1]
