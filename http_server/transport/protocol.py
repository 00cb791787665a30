"""One connection: uvicorn's protocol over httptools, with limits on what a client sends and how long it takes.

What is refused here never reaches an app: no key or host is looked at, no task made.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Literal, cast

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from engines.types.errors import InvalidRequest, MethodRefused, RequestTimeout, ServiceError, TooManyConnections
from http_server.transport.connections import Connections
from http_server.transport.limits import TransportLimits
from http_server.transport.meter import Meter, Place
from http_server.transport.upgrade import without_offer

PIECE = 16 << 10  # bytes that the parser is fed with at a time
SLOWEST = 100.0  # bytes a second, below which a body gives way when all connections are taken

Phase = Literal["head", "body", "drain", "answer", "idle"]


class Guard(msgspec.Struct, frozen=True):
    """What the connections of all ports share. `describe` gives an error's body, in the front's shape."""

    limits: TransportLimits
    connections: Connections
    describe: Callable[[ServiceError], Any]


class _Link:
    """A connection as an answer sees it: closed behind the last one by `close`, which may take its time."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class GuardedProtocol(HttpToolsProtocol):
    """An `Upgrade` that is offered is ignored, as HTTP allows: the request is answered in HTTP/1.1."""

    def __init__(self, config: Config, state: ServerState, guard: Guard) -> None:
        super().__init__(config, state, {})
        self._guard = guard
        self._meter = Meter(guard.limits)
        self._offers_upgrade = False
        self._deaf = False  # nothing that comes is read any more
        self._ends = False  # closed as soon as the request has come to its end
        self._admitted = True
        self._phase: Phase = "head"
        self._since = self._moved = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self._moved = self.loop.time()
        self._admitted = self._guard.connections.admit(self)
        if self._admitted:
            self._watch()
        elif self._guard.connections.hear_out(self):
            self._timer = self.loop.call_later(self._guard.limits.linger_seconds, transport.abort)
        else:
            transport.write(self._answer(_too_many()))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._guard.connections.left(self)
        self._unset_keepalive_if_required()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._moved = self.loop.time()
        if self._deaf:
            return
        try:
            if not self._admitted:
                raise _too_many()
            rest = memoryview(data)
            while rest and not self._deaf:
                self._feed(rest[:PIECE])
                rest = rest[PIECE:]
        except ServiceError as error:
            self._refuse(error)
        else:
            self._enter_phase()

    def _feed(self, piece: memoryview) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._restart_without_offer()
            self._feed(piece[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, ServiceError):
                raise error.__context__ from None
            raise InvalidRequest(f"This is no request in HTTP/1.1: {error}") from None
        else:
            self._meter.fed(len(piece))

    def _restart_without_offer(self) -> None:
        """The parser takes what follows an offer for another protocol's: a new one reads the head again without it."""
        self._offers_upgrade = False
        head = without_offer(self.scope["method"], self.url, self.parser.get_http_version(), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.parser.feed_data(head)

    # -- what the parser finds

    def on_message_begin(self) -> None:
        self._meter.began()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._meter.target(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._meter.header(len(name) + len(value))
        if self._meter.place is Place.HEAD:  # trailers are no headers: whoever checked these is done
            super().on_header(name, value.rstrip(b" \t"))  # the parser strips the front alone

    def on_headers_complete(self) -> None:
        self._meter.head_ended()
        method = self.parser.get_method().decode("ascii")
        if method == "CONNECT":
            raise MethodRefused("CONNECT: this server is no proxy.")
        if self.parser.should_upgrade():
            self._offers_upgrade = True
            self.scope["method"] = method
        else:
            super().on_headers_complete()
            self.cycle.transport = cast(asyncio.Transport, _Link(self.transport, self._close_behind))

    def on_body(self, body: bytes) -> None:
        self._meter.body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._offers_upgrade:
            self._meter.ended()
            super().on_message_complete()
            if self._ends:
                self._deaf = True
                self.transport.close()

    def _close_behind(self) -> None:
        """The answer was the last. Whoever sends a body still reads it only then, and would lose it to a reset."""
        if self._meter.place is Place.BODY and self._answering is None:
            self._ends = True
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._deaf and self._answering is None:
            self.transport.close()
        self._enter_phase()

    # -- time

    @property
    def _answering(self) -> RequestResponseCycle | None:
        """The request under way that came last."""
        return None if self.cycle is None or self.cycle.response_complete else self.cycle

    def _enter_phase(self) -> None:
        phase = self._phase_now()
        if phase != self._phase:
            self._phase, self._since = phase, self.loop.time()
            self._watch()

    def _phase_now(self) -> Phase:
        if self._meter.place is Place.BODY:
            return "body" if self._answering else "drain"
        if self._answering:
            return "answer"
        return "head" if self._meter.place is Place.HEAD or self.cycle is None else "idle"

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._deaf and self._phase in ("head", "body", "drain"):
            limits = self._guard.limits
            seconds = limits.head_seconds if self._phase == "head" else limits.body_seconds
            self._timer = self.loop.call_at(self._due(seconds), self._expire, seconds)

    def _due(self, seconds: float) -> float:
        return seconds + (self._moved if self._phase == "body" else self._since)

    def _expire(self, seconds: float) -> None:
        """Of a body, only standing still counts; not while nobody here reads it."""
        if self._phase == "body" and self.flow.read_paused:
            self._moved = self.loop.time()
        if self.loop.time() < self._due(seconds) - 0.001:
            self._watch()
        elif self._phase == "drain" or (self._phase == "head" and self._meter.place is Place.BETWEEN):
            self.transport.close()  # it never asked anything, or has its answer
        else:
            what = "headers did not end" if self._phase == "head" else "body stood still"
            self._refuse(RequestTimeout(f"The request's {what} for {seconds:g} seconds."))

    # -- refusing

    def _refuse(self, error: ServiceError) -> None:
        """Answer, and close; the client may be sending still, and would lose the answer if it were cut at once."""
        self._deaf = True
        answering = self._answering
        if self._phase == "drain" and self._meter.place is Place.BODY:
            self.transport.close()  # it has its answer
            return
        if answering is not None and not answering.more_body:
            answering.keep_alive = False  # the answer before is on its way, and the last
            return
        if answering is not None:
            answering.disconnected = True
            answering.message_event.set()
            if answering.response_started or self.pipeline:  # an answer, or one before it, can't be taken back
                self.transport.close()
                return
        self._watch()
        self.flow.resume_reading()
        self.transport.write(self._answer(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(self._guard.limits.linger_seconds, self.transport.abort)

    def _answer(self, error: ServiceError) -> bytes:
        body = json.dumps(self._guard.describe(error), ensure_ascii=False).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            "x-request-id": secrets.token_hex(12),
        }
        if error.retry_after is not None:
            headers["retry-after"] = str(max(1, round(error.retry_after)))
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [
            f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in self.server_state.default_headers
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body

    # -- making room for others

    def expendable_since(self, now: float) -> float | None:
        """Idle, still in its headers, or with a body that hardly moves."""
        if self._phase in ("head", "idle", "drain"):
            return self._since
        patience = self._guard.limits.body_seconds
        if self._phase == "body" and self._meter.body_bytes < SLOWEST * (now - self._since):
            return self._since + patience if now - self._since > patience else None
        return None

    def give_way(self) -> None:
        self.transport.abort()


def _too_many() -> TooManyConnections:
    return TooManyConnections("Too many connections are open; try again in a moment.", retry_after=1.0)
