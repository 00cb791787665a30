"""MCP over HTTP: streamable HTTP at /mcp, and SSE at /sse with /messages/, as routes of another app.

Host, Origin and keys are checked by the app that these routes stand in; the SDK's own check is off.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

IDLE_SECONDS = 600.0
MAX_SESSIONS = 256

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def routes(server: Server[Any]) -> tuple[list[BaseRoute], Lifespan]:
    """The routes, and what must be entered while they are served (once)."""
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    manager = StreamableHTTPSessionManager(
        server, security_settings=unchecked, session_idle_timeout=IDLE_SECONDS, max_sessions=MAX_SESSIONS
    )
    sse = SseServerTransport("/messages/", security_settings=unchecked)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with manager.run():
            yield

    return [
        Route("/mcp", CancelOnLeave(manager.handle_request)),
        Route("/sse", _Sse(server, sse)),
        Mount("/messages/", sse.handle_post_message),
    ], lifespan


class _Sse:
    """The SDK's own endpoint answers a second time when the stream has ended; this one doesn't."""

    def __init__(self, server: Server[Any], transport: SseServerTransport) -> None:
        self._server = server
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as (read, write):
            await self._server.run(read, write, self._server.create_initialization_options())


class CancelOnLeave:
    """A client that closes its POST before the answer has left: its request is cancelled in its name.

    The SDK lets the tool run on, in case the client resumes the stream; there is no event store here to resume from.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        left = ended = False

        # The SDK reads on while it answers; what it reads is looked at here, and what reading raises stays its matter.
        async def heard() -> Message:
            nonlocal left
            message = await receive()
            body.extend(message.get("body", b""))
            left = left or (message["type"] == "http.disconnect" and not ended)
            return message

        async def observed(message: Message) -> None:
            nonlocal ended
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        await self._app(scope, heard, observed)
        if left:
            await self._cancel(scope, bytes(body))

    async def _cancel(self, scope: Scope, body: bytes) -> None:
        id = _request_id(body)
        if id is None:
            return
        notice = {
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": id, "reason": "the client left"},
        }
        content = json.dumps(notice).encode()
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        length = (b"content-length", str(len(content)).encode())
        messages = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive() -> Message:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: Message) -> None:
            """Nobody is there to read it."""

        await self._app({**scope, "headers": [*headers, length]}, receive, send)


def _request_id(body: bytes) -> str | int | None:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    if isinstance(message, dict) and "method" in message and isinstance(id := message.get("id"), str | int):
        return id
    return None
