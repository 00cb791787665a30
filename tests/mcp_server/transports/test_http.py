"""Sessions of streamable HTTP that agents leave behind, over a real socket."""

import asyncio
from pathlib import Path

import httpx2

from mcp_server.transports.http import MAX_SESSIONS
from mcp_server.transports.http_border import LONGEST
from tests.mcp_server.test_transports import Stage, run, texts, until
from tests.promises import promise

HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}

PING = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'


async def initialize(http: httpx2.AsyncClient) -> httpx2.Response:
    """A session; nobody says goodbye to it."""
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}
    asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}
    return await http.post("/mcp", json=asked)


async def call(http: httpx2.AsyncClient, session: str, prompt: str) -> httpx2.Response:
    params = {"name": "chat", "arguments": {"prompt": prompt}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return await http.post("/mcp", json=asked, headers={"Mcp-Session-Id": session})


def web(it: Stage) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=it.url, headers=HEADERS, timeout=30)


@promise("mcp:http:methods")
def test_a_method_that_a_path_is_not_for_is_refused_at_once_with_those_it_is_for(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        async with web(it) as http:
            for path, allowed in (("/sse", "GET"), ("/mcp", "DELETE, GET, POST"), ("/messages/", "POST")):
                for method in {"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"} - set(allowed.split(", ")):
                    for content in (None, b"{}"):
                        answer = await http.request(method, path, content=content)
                        told = ", ".join(sorted(answer.headers["allow"].split(", ")))
                        assert (answer.status_code, told) == (405, allowed), (method, path)

    run(tmp_path, body)


def test_whatever_is_refused_is_told_in_json(tmp_path: Path) -> None:
    """The SDK refuses some in plain text, and some as if the server had failed."""
    large = b"[" + b" " * LONGEST + b"]"
    nowhere = f"/messages/?session_id={'0' * 32}"
    expected: list[tuple[str, bytes, dict[str, str], int, object]] = [
        ("/mcp", large, {}, 413, "body_too_large"),
        (nowhere, large, {}, 413, "body_too_large"),
        ("/mcp", b"{}", {}, 400, -32600),
        ("/mcp", PING, {"Content-Type": "text/plain"}, 400, -32600),
        ("/mcp", PING, {"Accept": "text/html"}, 406, -32600),
        ("/mcp", PING, {"Mcp-Session-Id": "nobody's"}, 404, -32600),
        ("/messages/", PING, {}, 400, -32600),
        ("/messages/?session_id=x", PING, {}, 400, -32600),
        (nowhere, PING, {}, 404, -32600),
    ]

    async def body(it: Stage) -> None:
        async with web(it) as http:
            for path, content, headers, status, code in expected:
                answer = await http.post(path, content=content, headers=headers)
                assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), path
                assert answer.json()["error"]["code"] == code, answer.text

    run(tmp_path, body)


@promise("mcp:http:room")
def test_sessions_that_were_abandoned_make_room_and_those_in_mid_call_stay(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        async with web(it) as http:
            busy = (await initialize(http)).headers["mcp-session-id"]
            calling = asyncio.create_task(call(http, busy, "hang"))
            await until(lambda: it.inference.active == 1)
            answers = [await initialize(http) for _ in range(300)]
            assert {answer.status_code for answer in answers} == {200}
            async with it.client("http", "legacy") as client:
                assert texts(await client.call_tool("chat", {"prompt": "say: hello"})) == ["hello"]
            gone, here = answers[0].headers["mcp-session-id"], answers[-1].headers["mcp-session-id"]
            assert (await call(http, gone, "say: hello")).status_code == 404
            assert '"hello"' in (await call(http, here, "say: hello")).text
            assert it.inference.active == 1 and not calling.done()
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)

    assert MAX_SESSIONS < 300
    run(tmp_path, body)


def test_who_used_a_session_last_keeps_it_longest(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        async with web(it) as http:
            first, second = [(await initialize(http)).headers["mcp-session-id"] for _ in range(2)]
            assert (await call(http, first, "say: hello")).status_code == 200
            assert (await initialize(http)).status_code == 200
            assert (await call(http, second, "say: hello")).status_code == 404
            assert (await call(http, first, "say: hello")).status_code == 200

    run(tmp_path, body, max_sessions=2)


def test_a_table_full_of_calls_under_way_refuses_until_one_ends(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        async with web(it) as http:
            sessions = [(await initialize(http)).headers["mcp-session-id"] for _ in range(2)]
            calls = [asyncio.create_task(call(http, session, "hang")) for session in sessions]
            await until(lambda: it.inference.active == 2)
            assert (await initialize(http)).status_code == 503
            calls[0].cancel()
            await until(lambda: it.inference.active == 1)
            assert (await initialize(http)).status_code == 200
            assert not calls[1].done()
            calls[1].cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    run(tmp_path, body, max_sessions=2)


def test_many_that_come_at_once_all_find_room_and_what_they_replace_is_gone(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        tasks: list[int] = []

        async with web(it) as http:
            for _ in range(4):
                answers = await asyncio.gather(*(initialize(http) for _ in range(8)))
                assert {answer.status_code for answer in answers} == {200}
                await until(lambda: not tasks or len(asyncio.all_tasks()) <= tasks[0])
                tasks.append(len(asyncio.all_tasks()))

    run(tmp_path, body, max_sessions=8)
