"""One body over every transport: in memory, streamable HTTP, SSE, and the relay as a process."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from engines.types.errors import ServiceError
from mcp_server import server
from mcp_server.options import McpOptions
from mcp_server.relay.session import MAX_LINE
from mcp_server.transports import http, sockets, stream
from tests.promises import promise
from tests.scripted import Scripted

RELAY = "import sys; from mcp_server.relay.main import main; sys.exit(main(sys.argv[1:]))"


class Stage:
    """A server on every transport, over an `Inference` that obeys."""

    def __init__(self, inference: Scripted, url: str, socket: Path, memory: Any) -> None:
        self.inference = inference
        self.url = url
        self._socket = socket
        self._memory = memory

    def client(self, transport: str, mode: str) -> Client:
        arguments = ["-P", "-c", RELAY, "--socket", str(self._socket), "--no-start"]
        targets: dict[str, Any] = {
            "memory": self._memory,
            "http": f"{self.url}/mcp",
            "sse": sse_client(f"{self.url}/sse"),
            "relay": StdioServerParameters(command=sys.executable, args=arguments),
        }
        target = targets[transport]
        return Client(target, mode=mode)


async def told(request: Request, error: Exception) -> Response:
    """As the front does it whose routes these are among."""
    assert isinstance(error, ServiceError)
    return JSONResponse({"error": {"code": error.code}}, error.status)


@asynccontextmanager
async def stage(folder: Path, max_sessions: int) -> AsyncIterator[Stage]:
    inference = Scripted()
    (folder / "files").mkdir()
    built = await asyncio.to_thread(server.build, inference, McpOptions(folder / "files"))
    routes, lifespan = http.routes(built, max_sessions)
    app = Starlette(routes=routes, exception_handlers={ServiceError: told})
    web = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
    listener = await asyncio.to_thread(sockets.listen, folder / "s")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stream.serve_unix(built, listener))
        await stack.enter_async_context(lifespan())
        serving = asyncio.create_task(web._serve())
        await until(lambda: web.started)
        url = f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}"
        yield Stage(inference, url, folder / "s", built)
        web.should_exit = True
        await serving


def run(
    folder: Path, body: Callable[[Stage], Coroutine[None, None, None]], max_sessions: int = http.MAX_SESSIONS
) -> None:
    async def main() -> None:
        async with asyncio.timeout(40), stage(folder, max_sessions) as made:
            await body(made)

    asyncio.run(main())


WAYS = [
    ("memory", "legacy"),
    ("memory", "auto"),
    ("http", "legacy"),
    ("http", "auto"),
    ("sse", "legacy"),
    ("relay", "legacy"),
    ("relay", "auto"),
]


WEATHER = [{"name": "weather", "description": "Now.", "parameters": {"type": "object"}}]


def texts(result: Any) -> list[str]:
    return [block.text for block in result.content if isinstance(block, types.TextContent)]


@promise("mcp:tools:alike")
@pytest.mark.parametrize(("transport", "mode"), WAYS)
def test_tools_answer_alike_on_every_transport(transport: str, mode: str, tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        async with it.client(transport, mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == [
                "chat",
                "transcribe",
                "speak",
                "models",
            ]
            answer = await client.call_tool("chat", {"prompt": "say: 你好 world", "max_tokens": "9"})
            assert (texts(answer), answer.is_error) == (["你好 world"], False)
            cut = await client.call_tool("chat", {"prompt": "length: so far"})
            assert texts(cut)[0] == "so far" and "incomplete" in texts(cut)[1]
            assert cut.meta and cut.meta["incomplete"] == {"reason": "length"} and "decode" in cut.meta["timings"]
            asked = {"prompt": 'call: weather {"city": "Paris"}', "tools": WEATHER}
            called = await client.call_tool("chat", asked)
            message = json.loads(texts(called)[0])
            assert called.structured_content == message and message["content"] is None
            assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
            result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "24 °C"}
            turns = [{"role": "user", "content": "say: it is 24 °C"}, message, result]
            told = await client.call_tool("chat", {"messages": turns, "tools": WEATHER})
            assert texts(told) == ["it is 24 °C"] and "24 °C" in repr(it.inference.requests[-1])
            broken = await client.call_tool("chat", {**asked, "prompt": 'cut: weather {"city": "Paris"}'})
            assert texts(broken)[0].startswith("<tool_call>weather") and "incomplete" in texts(broken)[1]
            recording = tmp_path / "recording.wav"
            recording.write_text("cut: 早晨 everyone")
            heard = await client.call_tool("transcribe", {"path": str(recording)})
            assert texts(heard)[0] == "早晨 everyone" and texts(heard)[1].startswith("[incomplete: The recording ends")
            spoken = await client.call_tool("speak", {"text": "你好.", "output_format": "mp3"})
            assert spoken.meta is not None
            assert (await anyio.Path(spoken.meta["path"]).read_bytes()).decode() == "mp3:你好."
            listed = await client.call_tool("models", {})
            assert listed.structured_content == json.loads(texts(listed)[0])
            for name, given, said in [
                ("chat", {"prompt": "fail: queue_full"}, ""),
                ("chat", {"prompt": "x", "model": "nobody"}, "qwen3-14b"),
                ("chat", {"promt": "x"}, "prompt"),
                ("sing", {}, "chat, transcribe, speak, models"),
                ("transcribe", {"path": "recording.wav"}, "absolute"),
                ("speak", {"text": "x", "voice": "nobody"}, "serena"),
            ]:
                failed = await client.call_tool(name, given)
                assert failed.is_error and said in texts(failed)[0] and "Traceback" not in texts(failed)[0]

    run(tmp_path, body)


@promise("mcp:leave:frees-the-place")
@pytest.mark.parametrize(("transport", "mode"), WAYS)
def test_a_client_that_gives_up_or_leaves_frees_its_place(transport: str, mode: str, tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        async with it.client(transport, mode) as client:
            call = asyncio.create_task(client.call_tool("chat", {"prompt": "hang"}))
            await until(lambda: it.inference.active == 1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await until(lambda: it.inference.active == 0)
        assert it.inference.ended["cancelled"] == 1

    run(tmp_path, body)


def test_progress_is_told_now_and_then_and_grows_to_the_whole_length(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        seen: list[float] = []

        async def told(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)

        async with it.client("http", "legacy") as client:
            words = "word " * 500
            answer = await client.call_tool("chat", {"prompt": f"say: {words}"}, progress_callback=told)
            assert seen[-1] == len(texts(answer)[0])
        assert seen == sorted(set(seen)) and len(seen) < 100

    run(tmp_path, body)


def test_a_body_that_the_front_refuses_while_it_is_read_ends_the_request() -> None:
    class Refused(Exception):
        pass

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async def receive() -> Message:
        raise Refused

    async def send(message: Message) -> None:
        raise AssertionError("nothing to send")

    async def main() -> None:
        async with asyncio.timeout(10):
            with pytest.raises(Refused):
                await http.CancelOnLeave(app)({"type": "http", "method": "POST", "headers": []}, receive, send)

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 (what is waited for is another process's, or a library's)
            await asyncio.sleep(0.01)


def test_a_line_that_is_too_long_is_answered_and_ends_the_session(tmp_path: Path) -> None:
    async def body(it: Stage) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"x" * (MAX_LINE + 100) + b"\n")
        assert json.loads(await reader.readline())["error"]["code"] == -32600
        assert await reader.read() == b""
        writer.close()

    run(tmp_path, body)


def test_a_server_whose_backlog_is_full_for_a_moment_is_not_taken_for_dead(tmp_path: Path) -> None:
    """On macOS: a full backlog refuses."""
    answers: list[type[OSError] | None] = [ConnectionRefusedError, ConnectionRefusedError, None]
    pauses: list[float] = []

    def probe(path: Path) -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    assert sockets.is_served(tmp_path / "s", probe, pauses.append)
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("error", "served"),
    [(ConnectionRefusedError, False), (FileNotFoundError, False), (BlockingIOError, True), (TimeoutError, True)],
)
def test_a_server_is_dead_where_it_refuses_each_time(tmp_path: Path, error: type[OSError], served: bool) -> None:
    def probe(path: Path) -> None:
        raise error

    assert sockets.is_served(tmp_path / "s", probe, lambda seconds: None) is served


def test_a_dead_servers_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    sockets.listen(tmp_path / "s").close()
    living = sockets.listen(tmp_path / "s")
    with pytest.raises(sockets.SocketTaken):
        sockets.listen(tmp_path / "s")
    living.close()
