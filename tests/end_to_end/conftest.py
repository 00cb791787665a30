"""A real service, started as a user would, in a home of its own and in a folder that means it no good."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest

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
    home: Path
    environ: dict[str, str]

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


Start = Callable[..., AbstractContextManager[Service]]


@contextmanager
def started(home: Path, *flags: str) -> Iterator[Service]:
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
    command = [*LOCAL, "serve", "--demo", "--json", "--port", "0", *flags]
    if "--audio-listen" not in flags:
        command += ["--audio-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=home / "cwd", text=True, env=environ) as server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        assert ready["event"] == "ready" and Path(ready["files_dir"]).is_dir()
        yield Service(server, ready["main_url"], ready["audio_url"], ready["socket"], home, environ)
        if server.poll() is None:
            server.terminate()
            assert server.wait(20) == 0
        assert server.stdout.read() == ""


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`start(*flags)` is a service of this test's own."""
    return lambda *flags: started(tmp_path, *flags)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for a module's tests that don't harm it."""
    with started(tmp_path_factory.mktemp("home")) as made:
        yield made
