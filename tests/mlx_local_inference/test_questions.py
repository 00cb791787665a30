"""What the terminal asks, and where its output goes: real processes, pipes and a full disk; the server is played."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlx_local_inference.output import tell
from mlx_local_inference.questions import NothingAsked, composed
from tests.promises import promise

FULL = Path("/dev/full")


@pytest.mark.parametrize(
    ("words", "piped", "asked"),
    [
        (["explain", "this"], "", "explain this"),
        (["explain"], "one\n\ntwo\n", "explain\n\none\n\ntwo"),
        ([], "one\ntwo\n", "one\ntwo"),
        (["-"], "one\ntwo\n", "one\ntwo"),
        (["what", "is", "-", "in", "French?"], "tree\n", "what is\n\ntree\n\nin French?"),
        (["explain"], " \n", "explain"),
    ],
)
def test_what_is_piped_is_one_text_put_to_the_question(words: list[str], piped: str, asked: str) -> None:
    assert composed(words, piped) == asked


@pytest.mark.parametrize(("words", "piped"), [([], ""), ([], " \n\n"), (["-"], ""), ([" "], "\n")])
def test_where_nothing_is_asked_it_is_said(words: list[str], piped: str) -> None:
    with pytest.raises(NothingAsked, match="mlx-local chat"):
        composed(words, piped)


class Played(ThreadingHTTPServer):
    """A server that answers every question with many pieces, and remembers who asked what."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.keys: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Played

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body["messages"][-1]["content"])
        self.server.keys.append(self.headers["authorization"] or "")
        self.send_response(200)
        self.end_headers()
        try:
            thought = {"delta": {"reasoning_content": "hm"}, "finish_reason": None}
            self.wfile.write(b"data: " + json.dumps({"choices": [thought]}).encode() + b"\n\n")
            for _ in range(2000):
                choice = {"delta": {"content": "天 " * 20 + "\n"}, "finish_reason": None}
                self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            pass  # it left

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def played() -> Iterator[Played]:
    with Played() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def shell(line: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """`local_` in the line is `mlx-local`."""
    script = f'set -o pipefail; local_() {{ "{sys.executable}" -P -m mlx_local_inference "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", script], input=given, capture_output=True, timeout=60)


@promise("terminal:pipe")
@pytest.mark.parametrize(
    ("words", "given", "asked"),
    [
        ("explain", "第一\nsecond\n".encode(), "explain\n\n第一\nsecond"),
        ("-", b"one\ntwo\n", "one\ntwo"),
        ("", b"caf\xe9 \xed\xa0\xbd\n", "caf\ufffd \ufffd\ufffd\ufffd"),
        ("$'caf\\xe9'", b"", "caf\ufffd"),
    ],
)
def test_a_pipe_is_one_message_whatever_its_bytes(played: Played, words: str, given: bytes, asked: str) -> None:
    ended = shell(f"local_ chat --url {played.url} --api-keys clé {words}", given)
    assert (ended.returncode, ended.stderr) == (0, b"") and "天".encode() in ended.stdout
    assert played.asked == [asked]
    assert played.keys[0].encode("latin-1") == "Bearer clé".encode()


@promise("terminal:output")
@pytest.mark.parametrize("errors", ["2>&-", *(["2> /dev/full"] if FULL.exists() else [])])
def test_an_answer_comes_whatever_becomes_of_what_is_said_beside_it(played: Played, errors: str) -> None:
    ended = shell(f"local_ chat --url {played.url} hello {errors}")
    assert ended.returncode == 0 and ended.stdout.endswith("天 \n\n".encode())


def test_an_empty_pipe_and_no_question_is_a_clear_error(played: Played) -> None:
    ended = shell(f"local_ chat --url {played.url}")
    assert ended.returncode == 2 and b"nothing was asked" in ended.stderr and b"Traceback" not in ended.stderr
    assert played.asked == []


COMMANDS = ["models list", "config", "chat hello", "serve --help", "mcp --help"]


@promise("terminal:output")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_leaves_ends_a_command_in_silence(played: Played, command: str) -> None:
    url = f"--url {played.url}" if command.startswith("chat") else ""
    ended = shell(f"local_ {command} {url} | true")
    assert ended.stderr == b"" and ended.returncode in (0, 1, 141)


@promise("terminal:output")
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_said_in_a_sentence(played: Played, command: str) -> None:
    url = f"--url {played.url}" if command.startswith("chat") else ""
    ended = shell(f"local_ {command} {url} > /dev/full")
    assert ended.returncode == 1 and b"Traceback" not in ended.stderr and b"Exception" not in ended.stderr
    assert b"No space left" in ended.stderr or command == "mcp --help"


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_what_is_said_beside_the_output_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.fdopen(os.open(FULL, os.O_WRONLY), "wb", buffering=0)
    with full:
        for stream in (None, io.TextIOWrapper(full, write_through=True)):
            monkeypatch.setattr(sys, "stderr", stream)
            tell("[the answer was cut at its token limit]\n")
