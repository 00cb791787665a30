"""Bodies that are POSTed to MCP: checked as lines of stdio are (`messages`), before the SDK sees them.

The SDK answers what it can't read without the request's id, and over SSE not at all, so that a call never ends.
"""

import json
import re
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import mcp_types as mcp
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.types.errors import BodyTooLarge
from mcp_server.transports import messages
from mcp_server.transports.messages import Refused

LONGEST = 4 << 20  # bytes of a body that the SDK takes
_SESSION = re.compile(rb"session_id=([0-9a-f]{32})")

Refuse = Callable[[Refused, Scope, Receive, Send], Awaitable[bool]]


async def answer(refused: Refused, scope: Scope, receive: Receive, send: Send) -> bool:
    """Tell it in the answer to the POST."""
    await Response(refused.encoded(), 400, media_type="application/json")(scope, receive, send)
    return True


class RequestCheck:
    """Gives the app messages that it can read, and answers all others by `refuse` (which may leave them to the app).

    Raises `BodyTooLarge`. What the app refuses in plain text becomes an error of JSON-RPC.
    """

    def __init__(self, app: ASGIApp, refuse: Refuse = answer) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, _with_own_ids(_in_json(send)))
            return
        taken = await _taken(receive)
        body = b"".join(message.get("body", b"") for message in taken)
        if len(body) > LONGEST:
            raise BodyTooLarge(f"A message to MCP may have {LONGEST} bytes at most.")
        complete = taken[-1]["type"] == "http.request" and not taken[-1].get("more_body", False)
        if complete:
            read = messages.read(body)
            if isinstance(read, Refused) and await self._refuse(read, scope, receive, send):
                return
            if isinstance(read, dict) and _renamed(read):
                written = json.dumps(read).encode()
                taken = [{"type": "http.request", "body": written, "more_body": False}]
                scope = {**scope, "headers": _with_length(scope["headers"], len(written))}
        await self._app(scope, _again(taken, receive), _with_own_ids(_in_json(send)))


class Streams:
    """The app that opens streams of SSE: what is refused on the way to one of them is told on it, as answers are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: dict[str, Send] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = ""

        async def sent(message: Message) -> None:
            nonlocal session
            # The first event says where to POST, and so names the session.
            if not session and (found := _SESSION.search(message.get("body", b""))):
                session = found[1].decode()
                self._open[session] = send
            await send(message)

        try:
            await self._app(scope, receive, _with_own_ids(sent))
        finally:
            self._open.pop(session, None)

    async def refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> bool:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        stream = self._open.get(query.get("session_id", [""])[-1].replace("-", ""))
        if stream is None:
            return False
        event = b"event: message\r\ndata: " + refused.encoded() + b"\r\n\r\n"
        await stream({"type": "http.response.body", "body": event, "more_body": True})
        await Response("Accepted", 202)(scope, receive, send)
        return True


async def _taken(receive: Receive) -> list[Message]:
    """What is received of a body: to its end, to where it is too long, or to where its client left."""
    taken: list[Message] = []
    size = 0
    while not taken or (taken[-1]["type"] == "http.request" and taken[-1].get("more_body", False) and size <= LONGEST):
        taken.append(await receive())
        size += len(taken[-1].get("body", b""))
    return taken


def _again(taken: list[Message], receive: Receive) -> Receive:
    rest = iter(taken)

    async def again() -> Message:
        return next(rest, None) or await receive()

    return again


def _renamed(read: messages.Body) -> bool:
    """Whether there is an id in it that the SDK is given under another name."""
    params = read.get("params")
    ids = (read.get("id"), params.get("requestId") if isinstance(params, dict) else None)
    return any(isinstance(id, str) and messages.is_foreign(id) for id in ids)


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    framing = (b"content-length", b"transfer-encoding")
    return [*(one for one in headers if one[0] not in framing), (b"content-length", str(length).encode())]


def _with_own_ids(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if b"id" in message.get("body", b""):
            message = {**message, "body": messages.with_own_ids(message["body"])}
        await send(message)

    return sent


def _in_json(send: Send) -> Send:
    """Refusals in plain text, in the protocol's shape."""
    held: Message | None = None

    async def sent(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start" and message["status"] >= 400:
            if not Headers(raw=message["headers"]).get("content-type", "").startswith("application/json"):
                held = message
                return
        elif held is not None:
            why = message.get("body", b"").decode("utf-8", "replace") or "This request is refused."
            message = {"type": "http.response.body", "body": Refused(None, mcp.INVALID_REQUEST, why).encoded()}
            headers = MutableHeaders(raw=list(held["headers"]))
            headers["content-type"] = "application/json"
            headers["content-length"] = str(len(message["body"]))
            start, held = {**held, "headers": headers.raw}, None
            await send(start)
        await send(message)

    return sent
