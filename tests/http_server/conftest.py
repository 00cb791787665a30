"""A server of its own for each test, on a socket, with an app that says what it got."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from engines.types.errors import ServiceError
from http_server.transport.connections import Connections
from http_server.transport.limits import TransportLimits
from http_server.transport.protocol import Guard
from http_server.transport.server import Site, serving


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection, as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def sent(self) -> None:
        """Waits while much is on its way."""
        await self._writer.drain()

    async def reply(self) -> Reply:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return Reply(int(head[0].split()[1]), headers, body)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def closed(self) -> bool:
        """Waits for the server to end the connection; what came before is read away."""
        try:
            while await self._reader.read(1 << 16):
                pass
        except ConnectionError:
            pass
        return True


class Echo:
    """Answers with the request, as JSON. `/wait` is answered when `let_go` is set, `/early` before its body is read."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b"" if scope["path"] == "/early" else await self._body(receive)
        if scope["path"] == "/wait":
            await self.let_go.wait()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        told = {"method": scope["method"], "path": scope["path"], "headers": headers, "body": body.decode("latin-1")}
        content = json.dumps(told).encode()
        start: Message = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", str(len(content)).encode())]})
        await send({"type": "http.response.body", "body": content})

    async def _body(self, receive: Receive) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                raise asyncio.CancelledError
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body


class RunningServer(msgspec.Struct):
    address: tuple[str, int]
    echo: Echo
    clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address))
        self.clients.append(client)
        return client


Test = Callable[[RunningServer], Awaitable[None]]
Serve = Callable[..., None]


@pytest.fixture
def serve() -> Serve:
    """`serve(test, limits, most)` runs an async test beside a server."""

    def describe(error: ServiceError) -> object:
        return {"error": {"code": error.code, "message": error.message}}

    async def run(test: Test, limits: TransportLimits, most: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        echo = Echo()
        guard = Guard(limits, Connections(most, asyncio.get_running_loop().time), describe)
        async with serving([Site(echo, [listener])], guard), asyncio.timeout(20):
            running = RunningServer(address, echo)
            await test(running)
        for client in running.clients:
            await client.close()

    return lambda test, limits=None, most=100: asyncio.run(run(test, limits or TransportLimits(), most))
