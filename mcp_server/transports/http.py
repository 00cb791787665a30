"""MCP over HTTP: streamable HTTP at /mcp, and SSE at /sse with /messages/, as routes of another app.

Host, Origin and keys are checked by the app that these routes stand in; the SDK's own check is off.
"""

import json
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.paths import METHODS
from mcp_server.transports.http_border import RequestCheck, Streams

IDLE_SECONDS = 600.0
MAX_SESSIONS = 256

Lifespan = Callable[[], AbstractAsyncContextManager[None]]

log = logging.getLogger("mcp")


def routes(server: Server[Any], max_sessions: int = MAX_SESSIONS) -> tuple[list[BaseRoute], Lifespan]:
    """The routes, and what must be entered while they are served (once)."""
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    manager = _Sessions(
        server, security_settings=unchecked, session_idle_timeout=IDLE_SECONDS, max_sessions=max_sessions
    )
    sse = SseServerTransport("/messages/", security_settings=unchecked)
    streams = Streams(_Sse(server, sse))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with manager.run():
            yield

    return [
        _route("/mcp", RequestCheck(CancelOnLeave(manager.handle_request))),
        _route("/sse", streams),
        Mount("/messages/", RequestCheck(sse.handle_post_message, streams.refuse)),
    ], lifespan


def _route(path: str, app: ASGIApp) -> Route:
    """Not for HEAD, which Starlette adds to GET: a stream would begin, and never end."""
    route = Route(path, app, methods=list(METHODS[path]))
    route.methods = set(METHODS[path])
    return route


class _Sessions(StreamableHTTPSessionManager):
    """A full table locks nobody out: the session that has been idle longest makes room, and its client gets a 404.

    Agents that are killed never say goodbye. Only when each session has a request under way is the answer a 503.
    """

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        if self.max_sessions is not None and len(self._server_instances) >= self.max_sessions:
            self._make_room()
        return super()._admit_session(requestor)

    def _make_room(self) -> None:
        """End one session's idle time now; it would be the first to end by itself."""
        first = min(self._server_instances, key=lambda id: _idle_until(self._server_instances[id]))
        idle = self._server_instances[first].idle_scope
        if idle is not None and idle.deadline < math.inf:
            log.info("the MCP session %s makes room for a new one", first)
            idle.cancel()
            del self._server_instances[first]  # what else there is of it goes with its task


def _idle_until(transport: StreamableHTTPServerTransport) -> float:
    """When its idle time ends, on the loop's clock; infinite while a request is under way, or the first one begins."""
    return math.inf if transport.idle_scope is None else transport.idle_scope.deadline


class _Sse:
    """The SDK's own endpoint answers a second time when the stream has ended; this one doesn't."""

    def __init__(self, server: Server[Any], transport: SseServerTransport) -> None:
        self._server = server
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as (read, write):
            try:
                await self._server.run(read, write, self._server.create_initialization_options())
            finally:
                read.close()
                write.close()


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
