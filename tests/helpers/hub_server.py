"""A server of this machine that answers as the Hugging Face hub does."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from .cli import environment

RESOLVE = """
import json, sys, time
time.sleep = lambda seconds: None  # between the library's attempts
from jeatcli.checkpoints.runs import resolve
from jeatcli.errors import JeatError
from jeatcli.runtime.progress import Reporter
class Told(Reporter):
    def warn(self, text): warned.append(text)
found, warned = [], []
for run in sys.argv[1:]:
    try:
        found.append(str(resolve(run, reporter=Told())))
    except JeatError as problem:
        found.append([problem.message, problem.hint])
print(json.dumps([found, warned]))
"""


@dataclass
class Repository:
    """A model: its files, the commit of its branch `main`, and how the server fails."""

    files: dict[str, bytes]
    commit: str = "a" * 40
    status: dict[str, int] = field(default_factory=dict)  # by file, in place of it; `*` for all
    broken: dict[str, int] = field(default_factory=dict)  # by file, how often it is cut in half
    error: str = ""  # the message beside a status


class Handler(BaseHTTPRequestHandler):
    """Serve the models of this test."""

    models: ClassVar[dict[str, Repository]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].split("/")[1:]
        if parts[:2] == ["api", "models"]:
            self.tell("/".join(parts[2:4]))
            return
        model, file = self.models.get("/".join(parts[:2])), "/".join(parts[4:])
        if model is None:
            self.reply(404, code="RepoNotFound")
        elif parts[3] not in ("main", model.commit):
            self.reply(404, code="RevisionNotFound")
        elif status := model.status.get(file) or model.status.get("*"):
            self.reply(status, error=model.error)
        elif file not in model.files:
            self.reply(404, code="EntryNotFound", commit=model.commit)
        else:
            content = model.files[file]
            self.reply(200, len(content), model.commit, hashlib.sha256(content).hexdigest())
            if body and model.broken.get(file, 0):
                model.broken[file] -= 1
                content = content[: len(content) // 2]
                self.close_connection = True
            if body:
                self.wfile.write(content)

    def tell(self, name: str) -> None:
        listed = [
            {"type": "file", "path": path, "size": 9, "oid": "b"}
            for path in self.models[name].files
        ]
        content = json.dumps(listed).encode()
        self.reply(200, len(content))
        self.wfile.write(content)

    def reply(
        self,
        status: int,
        size: int = 0,
        commit: str = "",
        etag: str = "",
        code: str = "",
        error: str = "",
    ) -> None:
        self.send_response(status)
        headers = {"X-Error-Code": code, "X-Error-Message": error, "X-Repo-Commit": commit}
        for name, value in (headers | {"ETag": f'"{etag}"' if etag else ""}).items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub_of(folder: Path, **models: Repository) -> Iterator[dict[str, str]]:
    """Serve models of `someone`; yield the environment of a user, whose cache is in a folder."""
    Handler.models = {f"someone/{name}": model for name, model in models.items()}
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
    finally:
        server.shutdown()
        server.server_close()


def resolved(hub: dict[str, str], *runs: str) -> tuple[list[Any], list[str]]:
    """Resolve RUNs in a process of their own, as the library reads its settings once.

    Return the path, or message and hint, of each, and the warnings.
    """
    said = subprocess.run(
        [sys.executable, "-c", RESOLVE, *runs],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**hub),
    )
    assert said.returncode == 0, said.stderr
    found, warned = json.loads(said.stdout)
    return found, warned
