"""The relay as a process, between a client and a service that this test plays on a real socket."""

import json
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_server.relay import service
from mcp_server.relay.service import Seeker, socket_path
from mcp_server.transports.sockets import listen
from tests.promises import promise

RELAY = "import sys; from mcp_server.relay.main import main; sys.exit(main(sys.argv[1:]))"


class Peer:
    """The service's end of a relay's connection."""

    def __init__(self, listener: socket.socket) -> None:
        listener.settimeout(20)
        self._link, _ = listener.accept()
        self._link.settimeout(20)
        self._lines = self._link.makefile("rb")

    def hears(self) -> Any:
        return json.loads(self._lines.readline())

    def says(self, **message: Any) -> None:
        self.says_bytes(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def says_bytes(self, data: bytes) -> None:
        self._link.sendall(data)

    def at_end(self) -> bool:
        return self._lines.read() == b""

    def dies(self) -> None:
        self._lines.close()
        self._link.close()


class Agent:
    """A client of a relay, which is a process."""

    def __init__(self, path: Path, code: str = RELAY) -> None:
        command = [sys.executable, "-P", "-c", code, "--socket", str(path)]
        pipe = subprocess.PIPE
        self.relay = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)

    def asks(self, **message: Any) -> None:
        self.writes(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def writes(self, data: bytes) -> None:
        assert self.relay.stdin is not None
        self.relay.stdin.write(data)
        self.relay.stdin.flush()

    def hears(self) -> Any:
        assert self.relay.stdout is not None
        return json.loads(self.relay.stdout.readline())

    def leaves(self) -> tuple[bytes, int]:
        """What the relay still said, and its exit status."""
        said, _ = self.relay.communicate(timeout=20)
        return said, self.relay.returncode


@pytest.fixture
def agents() -> Iterator[list[Agent]]:
    """Those that a test has started; their relays end with it."""
    started: list[Agent] = []
    yield started
    for agent in started:
        agent.relay.kill()
        agent.relay.communicate()


@promise("mcp:relay:outlives")
def test_a_service_that_ends_in_mid_call_costs_that_call_and_the_next_one_works(
    agents: list[Agent], tmp_path: Path
) -> None:
    with closing(listen(tmp_path / "s")) as listener:
        agents.append(agent := Agent(tmp_path / "s"))
        first = Peer(listener)
        agent.asks(id=0, method="initialize", params={"protocolVersion": "2025-11-25"})
        opening = first.hears()
        first.says(id=0, result={"serverInfo": {}})
        assert agent.hears()["id"] == 0
        agent.asks(method="notifications/initialized")
        agent.asks(id=1, method="tools/call")
        assert [first.hears()["method"], first.hears()["method"]] == ["notifications/initialized", "tools/call"]
        first.says_bytes(b'{"jsonrpc":"2.0","method":"notifications/progress"}\n{"jsonrpc":"2.0","id":1,"resu')
        first.dies()
        assert agent.hears()["method"] == "notifications/progress"
        told = agent.hears()
        assert told["id"] == 1 and "Call again" in told["error"]["message"] and "server.log" in told["error"]["message"]

    with closing(listen(tmp_path / "s")) as listener:
        agent.asks(id=2, method="tools/call")
        second = Peer(listener)
        assert second.hears() == opening
        second.says(id=0, result={"serverInfo": {}})
        assert [second.hears()["method"], second.hears()["id"]] == ["notifications/initialized", 2]
        second.says(id=2, result={"content": []})
        assert agent.hears()["id"] == 2
        assert agent.relay.stdin is not None
        agent.relay.stdin.close()
        agent.relay.stdin = None
        assert second.at_end()
        second.dies()
        assert agent.leaves() == (b"", 0)


def test_a_service_that_is_away_for_a_moment_is_waited_for(agents: list[Agent], tmp_path: Path) -> None:
    with closing(listen(tmp_path / "s")) as listener:
        agents.append(agent := Agent(tmp_path / "s"))
        peer = Peer(listener)
        agent.asks(id=1, method="x")
        peer.hears()
    peer.dies()
    assert agent.hears()["id"] == 1
    agent.asks(id=2, method="x")
    with closing(listen(tmp_path / "s")) as listener:
        back = Peer(listener)
        assert back.hears()["id"] == 2
        back.dies()
    assert agent.hears()["id"] == 2


def test_answers_of_many_megabytes_pass_whole(agents: list[Agent], tmp_path: Path) -> None:
    with closing(listen(tmp_path / "s")) as listener:
        agents.append(agent := Agent(tmp_path / "s"))
        peer = Peer(listener)
        agent.asks(id=1, method="x", params={"text": "好" * 500_000})
        assert len(peer.hears()["params"]["text"]) == 500_000
        # The answer is more than all buffers on its way hold, so it is said while the agent reads.
        speaking = threading.Thread(target=peer.says, kwargs={"id": 1, "result": {"text": "x" * 20_000_000}})
        speaking.start()
        assert len(agent.hears()["result"]["text"]) == 20_000_000
        speaking.join()
        peer.dies()


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(agents: list[Agent], tmp_path: Path) -> None:
    code = RELAY.replace("; sys", "; import mcp_server.relay.main; mcp_server.relay.main.LONGEST_LINE = 5 << 20; sys")
    agents.append(agent := Agent(tmp_path / "s", code))
    agent.writes(b"x" * ((5 << 20) + 1))
    told = agent.hears()
    assert (told["id"], told["error"]["code"]) == (None, -32600)
    assert agent.leaves() == (b"", 1)


def test_where_none_can_be_started_a_service_is_looked_for_once_and_for_a_while_after_it_went(tmp_path: Path) -> None:
    seeker = Seeker(str(tmp_path / "s"), None, {})
    assert seeker.look() is None and seeker.gave_up()
    with closing(listen(tmp_path / "s")):
        link = seeker.look()
        assert link is not None and not seeker.gave_up()
        link.close()
    seeker.lost()
    assert seeker.look() is None and not seeker.gave_up()


def test_a_service_that_cannot_be_started_is_given_up_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".mlx-server").write_text("no folder")
    seeker = Seeker(str(tmp_path / "s"), 1, {"HOME": str(tmp_path)})
    assert seeker.look() is None and seeker.gave_up()
    assert "can't start the service" in capfd.readouterr().err


def test_one_that_ends_as_soon_as_it_is_started_is_waited_for_less_and_leaves_no_zombie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(service, "RETURN_SECONDS", 0.0)
    seeker = Seeker(str(tmp_path / "s"), 1, {"HOME": str(tmp_path)})
    while not seeker.gave_up():
        assert seeker.look() is None
    assert not seeker.running() and not seeker._started


def test_another_users_socket_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeker = Seeker(str(tmp_path / "s"), None, {})
    with closing(listen(tmp_path / "s")):
        link = seeker.look()
        assert link is not None
        link.close()
        if os.getuid() == 0:
            os.chown(tmp_path / "s", 1, -1)
        else:
            monkeypatch.setattr("posix.getuid", lambda: os.geteuid() + 1)
        assert seeker.look() is None


def test_a_service_that_accepts_nobody_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        links = [Seeker(str(tmp_path / "s"), None, {}).look() for _ in range(4)]
        assert links[0] is not None and links[-1] is None
        for link in links:
            if link is not None:
                link.close()


def test_a_relay_whose_agent_has_closed_leaves_a_service_that_takes_nothing(
    agents: list[Agent], tmp_path: Path
) -> None:
    code = RELAY.replace(
        "; sys", "; import mcp_server.relay.main; mcp_server.relay.main.ORPHAN_CHECK_SECONDS = 0.1; sys"
    )
    with closing(listen(tmp_path / "s")) as listener:
        agents.append(agent := Agent(tmp_path / "s", code))
        agent.asks(id=1, method="x", params={"text": "x" * 700_000})
        hung = Peer(listener)
        assert agent.leaves() == (b"", 0)
        hung.dies()


def test_on_a_terminal_the_relay_says_what_it_is_for_and_works(tmp_path: Path) -> None:
    with closing(listen(tmp_path / "s")) as listener:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-P", "-c", RELAY, "--socket", str(tmp_path / "s")]
        with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            os.close(theirs)
            os.write(ours, b'{"jsonrpc":"2.0","id":1,"method":"initialize"}\n')
            service = Peer(listener)
            assert service.hears()["id"] == 1
            service.says(id=1, result={})
            assert process.stdout is not None and process.stderr is not None
            assert json.loads(process.stdout.readline())["id"] == 1
            os.write(ours, b"\x04")
            assert process.wait(timeout=20) == 0
            said = process.stderr.read().decode()
            service.dies()
        os.close(ours)
    assert "mlx-local chat" in said
    assert "Traceback" not in said


def test_a_device_as_stdin_ends_the_session_at_once(tmp_path: Path) -> None:
    """Darwin's poll knows no devices, so /dev/null counted as never ready, or as an error."""
    command = [sys.executable, "-P", "-c", RELAY, "--socket", str(tmp_path / "s"), "--no-start"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [0, 1])
def test_without_stdin_or_stdout_one_sentence_says_so(tmp_path: Path, closed: int) -> None:
    code = f"import os; os.close({closed})\n{RELAY}"
    command = [sys.executable, "-P", "-c", code, "--socket", str(tmp_path / "s"), "--no-start"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert done.returncode == 1
    assert b"is closed" in done.stderr and b"Traceback" not in done.stderr


def relay(*arguments: str, given: bytes, environ: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-P", "-c", RELAY, *arguments]
    return subprocess.run(command, input=given, capture_output=True, timeout=20, env={**os.environ, **environ})


FIRST_REQUESTS = [
    (b'{"jsonrpc":"2.0","id":7,"method":"initialize"}\n', 7),
    (b'\n{"jsonrpc":"2.0","method":"notifications/x"}\r\n{"id":"a","method":"initialize"}\n', "a"),
    (b'{"jsonrpc":"2.0","id":3,"result":{}}\n{"jsonrpc":"2.0","id":0,"method":"x"}\n', 0),
    (b"garbage\n", None),
    (b'[{"jsonrpc":"2.0","id":7,"method":"initialize"}]\n', None),
    (b"x" * (2 << 20), None),
]


@promise("mcp:relay:told")
@pytest.mark.parametrize("socket", [False, True])
@pytest.mark.parametrize(("given", "id"), FIRST_REQUESTS)
def test_without_a_service_a_request_is_told_how_to_start_it(
    given: bytes, id: object, socket: bool, tmp_path: Path
) -> None:
    where = ["--socket", str(tmp_path / "s")] if socket else ["--no-start"]
    ended = relay(*where, given=given, environ={"HOME": str(tmp_path)})
    answer = json.loads(ended.stdout)
    assert (ended.returncode, answer["id"]) == (1, id)
    assert "mlx-local serve" in answer["error"]["message"] and "server.log" in answer["error"]["message"]
    assert not (tmp_path / ".mlx-server").exists()


def test_without_a_service_each_request_is_told() -> None:
    given = b'{"id":1,"method":"initialize"}\n{"id":2,"method":"x"}'
    ended = relay("--socket", "/nowhere", given=given, environ={})
    assert ended.returncode == 1
    assert [json.loads(line)["id"] for line in ended.stdout.splitlines()] == [1, 2]


def test_without_a_service_nothing_but_a_request_is_answered(tmp_path: Path) -> None:
    given = b'{"jsonrpc":"2.0","method":"notifications/x"}\n{"jsonrpc":"2.0","id":1,"result":{}}\n'
    ended = relay("--no-start", given=given, environ={"HOME": str(tmp_path)})
    assert (ended.returncode, ended.stdout) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["--prt"], {}, "--prt"),
        (["--port"], {}, "needs a value"),
        (["--port", "99999"], {}, "--port must be a number from 1 to 65535, not 99999"),
        (["--port=0"], {}, "--port must be"),
        (["--port=²"], {}, "--port must be"),
        ([], {"MLX_LOCAL_PORT": "many"}, "MLX_LOCAL_PORT must be"),
        (["--socket", "s", "--port", "1"], {}, "give one of them"),
    ],
)
def test_wrong_arguments_end_the_relay_with_its_usage(arguments: list[str], environ: dict[str, str], said: str) -> None:
    ended = relay(*arguments, given=b"", environ=environ)
    assert (ended.returncode, ended.stdout) == (2, b"") and "usage" in ended.stderr.decode()
    assert said in ended.stderr.decode() and "Traceback" not in ended.stderr.decode()


def test_the_relay_imports_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import mcp_server.relay.main; print(*(set(sys.modules) - before))"
    added = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    ours = {"mcp_server", *(f"mcp_server.relay{name}" for name in ("", ".main", ".service", ".session"))}
    assert set(added.split()) <= ours | {"select", "_socket", "_json"}


def test_the_socket_follows_from_the_port_and_stays_short() -> None:
    assert socket_path(8787, {"HOME": "/Users/me"}) == "/Users/me/.mlx-server/run/8787.sock"
    assert socket_path(1, {"HOME": "/" + "x" * 120}) == f"/tmp/mlx-local-{os.getuid()}/1.sock"
