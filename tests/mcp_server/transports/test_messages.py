"""JSON-RPC at the border: what is wrong with a line, whose it is, ids of every kind; then the same on real roads."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as mcp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.transports import messages
from mcp_server.transports.messages import Refused
from tests.mcp_server.test_transports import RELAY, Stage, run
from tests.promises import promise

PARSE, REQUEST, METHOD, PARAMS = -32700, -32600, -32601, -32602


def call(id: str, prompt: bytes, more: bytes = b"") -> bytes:
    head = b'{"jsonrpc":"2.0","id":' + id.encode() + b',"method":"tools/call","params":{"name":"chat","arguments":'
    return head + b'{"prompt":"' + prompt + b'"' + more + b"}}}"


# What is read as wrong: the line, the code, the id.
WRONG: list[tuple[bytes, int, Any]] = [
    (b"garbage", PARSE, None),
    (b"", PARSE, None),
    (b"  ", PARSE, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"pi', PARSE, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}', PARSE, None),
    (b"\xff\xfe\x00", PARSE, None),
    (call("2", b"\xff"), PARSE, 2),
    (call("3", b"\x01"), PARSE, 3),
    (call("4", b"x", b',"seed":NaN'), PARSE, 4),
    (b"[" * 100_000, PARSE, None),
    (b"[]", REQUEST, None),
    (b"[1]", REQUEST, None),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', REQUEST, None),
    (b"5", REQUEST, None),
    (b"null", REQUEST, None),
    (b'"ping"', REQUEST, None),
    (b"{}", REQUEST, None),
    (b'{"jsonrpc":"2.0","id":5}', REQUEST, 5),
    (b'{"id":6,"method":"ping"}', REQUEST, 6),
    (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', REQUEST, 7),
    (b'{"jsonrpc":2.0,"id":7,"method":"ping"}', REQUEST, 7),
    (b'{"jsonrpc":"2.0","id":8,"method":5}', REQUEST, 8),
    (b'{"jsonrpc":"2.0","id":9,"method":null}', REQUEST, 9),
    (b'{"jsonrpc":"2.0","method":1,"params":"bar"}', REQUEST, None),
    (b'{"jsonrpc":"2.0","id":10,"method":"ping","params":"x"}', REQUEST, 10),
    (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', REQUEST, None),
    (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', REQUEST, None),
    (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', REQUEST, None),
    (b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}', REQUEST, None),
    (b'{"jsonrpc":"2.0","id":"\\ud83d","method":"ping"}', REQUEST, "\ud83d"),
    (b'{"jsonrpc":"2.0","id":11,"method":"tools/call","params":[1]}', PARAMS, 11),
    (call('"twelve"', b"\\ud83d"), PARAMS, "twelve"),
    (call("13", b"\\ude00"), PARAMS, 13),
    (call("14", b"\\ude00\\ud83d"), PARAMS, 14),
    (call("15.5", b"\xed\xa0\xbd"), PARAMS, 15.5),
    (call("16", b"\xed\xa0\xbd\xed\xb8\x80"), PARAMS, 16),
    (call("17", b"x", b',"\\ud83d":1'), PARAMS, 17),
    (call("18", b"x", b',"seed":1e999'), PARAMS, 18),
    (call('"19"', b"x", b',"messages":' + b"[" * 5000 + b"]" * 5000), PARAMS, "19"),
    (b'{"params":{"a":' + b'{"b":' * 5000 + b"1" + b"}" * 5001 + b',"method":"m","id":19.5}', PARAMS, 19.5),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + b"[" * 100_000, PARAMS, None),
    (b'{"id":1,"x":[],"params":' + b"[" * 100_000, PARAMS, None),
    (b"[" * 5000 + b"]" * 5000, PARSE, None),
]
# What only the server can tell.
UNKNOWN: list[tuple[bytes, int, Any]] = [
    (b'{"jsonrpc":"2.0","id":20,"method":"nothing/such"}', METHOD, 20),
    (b'{"jsonrpc":"2.0","id":21,"method":"prompts/list"}', METHOD, 21),
    (b'{"jsonrpc":"2.0","id":22,"method":"tools/call"}', PARAMS, 22),
    (b'{"jsonrpc":"2.0","id":23,"method":"tools/call","params":{"name":5}}', PARAMS, 23),
    (b'{"jsonrpc":"2.0","id":24,"method":"tools/call","params":{"name":"chat","arguments":[1]}}', PARAMS, 24),
    (b'{"jsonrpc":"2.0","id":25.5,"method":"tools/list","params":{"cursor":5}}', PARAMS, 25.5),
]
IDS: list[Any] = [
    0,
    -1,
    1.5,
    -2.25,
    1e300,
    2**53,
    2**63,
    10**40,
    "",
    "12",
    "早",
    'id-as-json:"x"',
    "id-as-json:1.5",
    None,
]


@promise("mcp:lines:codes")
@pytest.mark.parametrize(("line", "code", "id"), WRONG)
def test_a_wrong_line_gets_its_code_and_the_id_that_can_be_read(line: bytes, code: int, id: Any) -> None:
    refused = messages.read(line)
    assert isinstance(refused, Refused) and (refused.code, refused.id) == (code, id)
    assert json.loads(refused.encoded())["id"] == id and b"\n" not in refused.encoded()


def test_the_place_of_half_a_character_is_named() -> None:
    refused = messages.read(call("1", b"\\ud83d"))
    assert isinstance(refused, Refused) and "params.arguments.prompt" in refused.message


def test_a_notification_with_wrong_parameters_is_answered_by_nobody() -> None:
    assert messages.read(b'{"jsonrpc":"2.0","method":"notifications/x","params":{"a":"\\ud83d"}}') is None


@promise("mcp:lines:ids")
@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.none()))
def test_an_id_comes_back_as_it_was_whatever_the_sdk_makes_of_it(id: Any) -> None:
    sent = json.dumps({"jsonrpc": "2.0", "id": id, "method": "ping"}).encode()
    read: Any = messages.read(sent)
    request = mcp.jsonrpc_message_adapter.validate_python(read, by_name=False)
    assert isinstance(request, mcp.JSONRPCRequest)
    answer = mcp.JSONRPCResponse(jsonrpc="2.0", id=request.id, result={})
    assert json.loads(messages.encoded(answer))["id"] == id
    written = answer.model_dump_json(by_alias=True).encode()
    assert json.loads(messages.with_own_ids(written))["id"] == id
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}
    taken: Any = messages.read(json.dumps(cancelled).encode())
    assert taken["params"]["requestId"] == request.id or id is None


@given(st.binary())
def test_any_bytes_at_all_are_a_message_or_refused(line: bytes) -> None:
    read = messages.read(line)
    assert read is None or isinstance(read, Refused | dict)


class Line:
    """An agent's pipe to a relay; each line has one answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, line: bytes) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + b"\n")
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def relayed(folder: Path) -> AsyncIterator[Line]:
    command = [sys.executable, "-P", "-c", RELAY, "--socket", str(folder / "s"), "--no-start"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 24)
    try:
        yield Line(process)
    finally:
        process.kill()
        await process.wait()


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": "first",
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
}


@promise("mcp:lines:codes", "mcp:lines:ids")
def test_over_stdio_each_line_is_answered_with_its_own_id(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        async with relayed(tmp_path) as agent:
            await agent.ask(json.dumps(INITIALIZE).encode())
            for line, code, id in WRONG + UNKNOWN:
                if not line.strip():
                    continue  # between messages, it is none
                answer = await agent.ask(line)
                assert (answer["error"]["code"], answer["id"]) == (code, id), line[:100]
            for id in IDS:
                answer = await agent.ask(json.dumps({"jsonrpc": "2.0", "id": id, "method": "ping"}).encode())
                assert (answer["id"], answer["result"]) == (id, {})
                asked = json.loads(call("0", b"say: hello"))
                answer = await agent.ask(json.dumps({**asked, "id": id}).encode())
                assert (answer["id"], answer["result"]["content"][0]["text"]) == (id, "hello")

    run(tmp_path, body)


def sse_data(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


@promise("mcp:lines:codes", "mcp:lines:ids")
def test_over_http_each_post_is_answered_with_its_own_id(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        async with httpx2.AsyncClient(base_url=it.url, headers=headers, timeout=20) as http:
            http.headers["Mcp-Session-Id"] = (await http.post("/mcp", json=INITIALIZE)).headers["mcp-session-id"]
            for line, code, id in WRONG:
                answer = await http.post("/mcp", content=line)
                assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (400, code, id)
            for line, code, id in UNKNOWN:
                (told,) = sse_data((await http.post("/mcp", content=line)).text)
                assert (told["error"]["code"], told["id"]) == (code, id)
            for id in IDS:
                (told,) = sse_data((await http.post("/mcp", json={**json.loads(call("0", b"say: hi")), "id": id})).text)
                assert (told["id"], told["result"]["content"][0]["text"]) == (id, "hi")

    run(tmp_path, body)


@promise("mcp:lines:codes", "mcp:lines:ids")
def test_over_sse_each_post_is_answered_on_the_stream_with_its_own_id(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        http = httpx2.AsyncClient(base_url=it.url, headers={"Content-Type": "application/json"}, timeout=20)
        async with http, http.stream("GET", "/sse") as stream:
            lines = stream.aiter_lines()

            async def heard() -> str:
                while not (line := await anext(lines)).startswith("data: "):
                    pass
                return line.removeprefix("data: ")

            where = await heard()
            assert (await http.post(where, json=INITIALIZE)).status_code == 202
            assert json.loads(await heard())["id"] == "first"
            for line, code, id in WRONG + UNKNOWN:
                assert (await http.post(where, content=line)).status_code == 202
                told = json.loads(await heard())
                assert (told["error"]["code"], told["id"]) == (code, id)
            for id in IDS:
                await http.post(where, json={"jsonrpc": "2.0", "id": id, "method": "ping"})
                assert json.loads(await heard()) == {"jsonrpc": "2.0", "id": id, "result": {}}
            nowhere = f"/messages/?session_id={'0' * 32}"
            assert (await http.post(nowhere, content=b"garbage")).status_code == 404

    run(tmp_path, body)
