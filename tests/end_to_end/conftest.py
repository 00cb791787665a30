"""A real service, started as a user would, in a home of its own and in a folder that means it no good."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import psutil
import pytest

from tests.end_to_end.checkpoints import make_endless

LOCAL = [sys.executable, "-P", "-m", "mlx_local_inference"]
WATCH = """
import os, sys

def watch(event, arguments):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{event} {arguments}\\n")

sys.addaudithook(watch)
"""


class Service(msgspec.Struct):
    process: "subprocess.Popen[str]"
    url: str
    audio_url: str
    socket: str
    files: str
    home: Path
    environ: dict[str, str]
    http: httpx2.Client

    def local(self, *arguments: str, given: str = "", timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """`mlx-local` with these arguments, in the same home."""
        environ = {**self.environ, "CONNECTIONS": str(self.home / "connections-of-commands")}
        return subprocess.run(
            [*LOCAL, *arguments], input=given, capture_output=True, text=True, timeout=timeout, env=environ
        )

    def connections(self, of: str = "connections") -> str:
        """What the server and its runners (or commands) connected to or looked up, as their interpreters saw it."""
        log = self.home / of
        return log.read_text(encoding="utf-8") if log.exists() else ""

    def chat(self, body: dict[str, Any]) -> httpx2.Response:
        return self.http.post("/v1/chat/completions", json=body)

    def stream(self, body: dict[str, Any]) -> AbstractContextManager[httpx2.Response]:
        return self.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True})

    def model(self, name: str) -> dict[str, Any]:
        """Its status, of which tests look at `phase`, `running` and `waiting`."""
        status: dict[str, Any] = self.http.get(f"/v1/models/{name}").json()
        return status

    def children(self) -> list[psutil.Process]:
        """The server's living children: runners, the spare included, and the media process."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def runners(self) -> list[psutil.Process]:
        """The spare included."""
        return [child for child in self.children() if "engines.runner.main" in child.cmdline()]

    def all_unloaded(self) -> None:
        """No runner but the spare is left."""
        for status in self.http.get("/v1/models").json()["data"]:
            if status["installed"]:
                assert self.http.post("/v1/unload", json={"model": status["id"]}).status_code == 200


def until(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `holds` gives once it is true; what is waited for happens in other processes."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)
    return found


Start = Callable[..., AbstractContextManager[Service]]


@contextmanager
def started(home: Path, *flags: str, demo: bool = True) -> Iterator[Service]:
    for name in ("engines", "mcp_server", "demo"):
        (home / "cwd" / name).mkdir(parents=True, exist_ok=True)
        (home / "cwd" / name / "__init__.py").write_text("raise SystemExit('hostile')", encoding="utf-8")
    (home / "cwd" / "types.py").write_text("raise SystemExit('hostile')", encoding="utf-8")
    (home / "watch").mkdir(exist_ok=True)
    (home / "watch" / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    environ = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": str(home / "watch"),
        "CONNECTIONS": str(home / "connections"),
    }
    command = [*LOCAL, "serve", *["--demo"] * demo, "--json", "--port", "0", *flags]
    if "--audio-listen" not in flags:
        command += ["--audio-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=home / "cwd", text=True, env=environ) as server:
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            assert ready["event"] == "ready" and Path(ready["files_dir"]).is_dir()
            with httpx2.Client(base_url=ready["main_url"], timeout=100) as http:
                where = (ready["main_url"], ready["audio_url"], ready["socket"], ready["files_dir"])
                yield Service(server, *where, home, environ, http)
            if server.poll() is None:
                server.terminate()
                assert server.wait(20) == 0
            assert server.stdout.read() == ""
        finally:
            _end(server)


def _end(server: "subprocess.Popen[str]") -> None:
    """Whatever a test that failed left behind, stopped processes too."""
    if server.poll() is None:
        runners = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        for runner in runners:
            with contextlib.suppress(psutil.NoSuchProcess):
                runner.send_signal(signal.SIGCONT)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`start(*flags)` is a service of this test's own."""
    return lambda *flags, **options: started(tmp_path, *flags, **options)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for a module's tests that don't harm it."""
    with started(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    """For `--models-dir`: `endless`, and `slow`, which loads for half a second and steps for as long or longer."""
    folder = tmp_path_factory.mktemp("models")
    make_endless(folder / "endless", layers=12)
    make_endless(folder / "slow", layers=500)
    return str(folder)
