"""The server's process by its signals, and what it says where it can't start."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.end_to_end.conftest import LOCAL, until
from tests.promises import promise

LONG = {"model": "qwen3-14b", "max_tokens": 3000, "messages": [{"role": "user", "content": "Tick like a clock."}]}


@contextmanager
def served(home: Path, *flags: str, before: Callable[[], object] | None = None) -> Iterator[Any]:
    """A server without models, and its ready line."""
    environ = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    command = [*LOCAL, "serve", "--json", "--port", "0", "--audio-port", "0", "--spare-runner", "false", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ, preexec_fn=before) as server:
        try:
            assert server.stdout is not None
            yield server, json.loads(server.stdout.readline())
        finally:
            server.kill()


@promise("http:loopback:both")
def test_both_loopbacks_answer_on_both_ports(service: Any) -> None:
    for url in (service.url, service.audio_url):
        port = url.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert httpx2.get(f"http://{host}:{port}/v1/models").status_code == 200


@promise("core:server:hangup")
def test_the_end_of_the_terminal_stops_the_server_in_order(tmp_path: Path) -> None:
    def attached() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup

    with served(tmp_path, before=attached) as (server, ready):
        server.send_signal(signal.SIGHUP)
        assert server.wait(20) == 0
        assert not Path(ready["socket"]).exists() and not list(tmp_path.glob("mlx-local-scratch-*"))


@promise("core:server:hangup")
def test_a_server_under_nohup_and_without_stdin_stays_and_stops_when_it_is_told(tmp_path: Path) -> None:
    """Some launchers give no stdin: sockets would get the numbers that libraries print to."""

    def detached() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.closerange(0, 1)

    with served(tmp_path, before=detached) as (server, ready):
        server.send_signal(signal.SIGHUP)
        assert httpx2.get(f"{ready['main_url']}/health").status_code == 200
        server.terminate()
        assert server.wait(20) == 0


@promise("http:descriptors:pause")
def test_idle_connections_beyond_the_open_files_shut_nobody_out(tmp_path: Path) -> None:
    """With a hard limit as low as that soft one which macOS gives a terminal."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    with served(tmp_path, before=few) as (server, ready), contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(ready["main_url"].rpartition(":")[2]))
        for _ in range(400):
            stack.enter_context(socket.create_connection(address, timeout=20))
        until(lambda: _try(lambda: httpx2.get(f"{ready['main_url']}/health").status_code == 200))
        stack.close()
        until(lambda: _try(lambda: httpx2.get(f"{ready['main_url']}/v1/models").status_code == 200))
        server.terminate()
        assert server.wait(20) == 0


@promise("core:server:interrupted-twice")
def test_a_second_interrupt_ends_it_at_once_and_leaves_nothing(start: Any) -> None:
    with start("--stop-grace", "60") as service:
        stream = threading.Thread(target=lambda: _try(lambda: service.chat(LONG)))
        stream.start()
        until(lambda: service.model("qwen3-14b")["running"])
        children, scratch = service.children(), Path(service.files).parent
        service.process.send_signal(signal.SIGINT)
        until(lambda: _stopping(service))
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(5) == 130
        assert not psutil.wait_procs(children, timeout=2)[1]
        assert not Path(service.socket).exists() and not scratch.exists()
        stream.join(10)


def _try(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except httpx2.HTTPError:
        return None


def _stopping(service: Any) -> bool:
    answer = service.http.post("/v1/chat/completions", json={**LONG, "max_tokens": 1})
    return bool(answer.status_code == 503)


def small_files() -> None:
    """What a disk of a megabyte does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


@promise("core:server:start-sentence")
@pytest.mark.parametrize(
    ("flags", "environ", "before", "named"),
    [
        (["--audio-port", "0"], {"HOME": "/dev/null"}, None, ("/dev/null/.mlx-server/files", "--files-dir")),
        (["--audio-port", "0", "--demo"], {}, small_files, ("TMPDIR", "{home}/mlx-local-scratch-")),
        (["--audio-listen", "unix:/tmp/" + "a" * 150], {}, None, ("aaaa", "--audio-listen")),
    ],
    ids=["home", "temporary", "long path"],
)
def test_what_prevents_the_start_is_one_sentence(
    tmp_path: Path, flags: list[str], environ: dict[str, str], before: Any, named: tuple[str, ...]
) -> None:
    ended = subprocess.run(
        [*LOCAL, "serve", "--port", "0", "--spare-runner", "false", *flags],
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=before,
    )
    said = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout, len(said)) == (1, "", 1), ended.stderr
    assert said[0].startswith("mlx-local: ")
    for name in named:
        assert name.format(home=tmp_path) in said[0]
    assert not list(tmp_path.glob("mlx-local-scratch-*"))


@promise("core:server:eof")
def test_a_demo_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*LOCAL, "demo"], stdout=subprocess.DEVNULL, env=environ) as demo:
        try:
            until(lambda: list(tmp_path.glob("mlx-local-scratch-*")))  # its server is starting
            server = psutil.Process(demo.pid).children()[0]
        finally:
            demo.kill()
    server.wait(30)
    assert not list(tmp_path.glob("mlx-local-scratch-*"))


@promise("core:server:eof")
def test_a_server_that_stops_at_eof_stays_while_its_stdin_is_open(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, False)
    with served(tmp_path, "--stop-at-eof", before=lambda: os.dup2(read, 0)) as (server, ready):
        os.close(read)
        assert httpx2.get(f"{ready['main_url']}/v1/models").status_code == 200
        os.write(write, b"what is written does not matter\n")
        assert httpx2.get(f"{ready['main_url']}/v1/models").status_code == 200
        os.close(write)
        assert server.wait(20) == 0
