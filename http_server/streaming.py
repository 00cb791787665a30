"""Answers that are sent as they are made."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Generic, NamedTuple, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engines.types.common import Json
from engines.types.errors import InternalError, ServiceError
from http_server.dialect import Dialect
from http_server.disconnect import disconnected

T = TypeVar("T")

log = logging.getLogger("http")


class StreamOptions(NamedTuple):
    """An error within `admission_seconds` has its own status; a stream that is silent for `keepalive_seconds` gets the
    dialect's keep-alive."""

    dialect: Dialect
    admission_seconds: float
    keepalive_seconds: float


class LiveAnswer(Response, ABC, Generic[T]):
    """The work is a task of its own: it alone owns the generator, and is cancelled when the client leaves."""

    def __init__(self, trace: str, headers: dict[str, str], media_type: str) -> None:
        super().__init__(headers={**headers, "Cache-Control": "no-cache"}, media_type=media_type)
        del self.headers["content-length"]
        self._trace = trace

    @abstractmethod
    def events(self) -> AsyncGenerator[T]:
        """What comes of the request."""

    @abstractmethod
    async def talk(self, items: "asyncio.Queue[T | ServiceError | None]", send: Send) -> None:
        """Send what the queue gives until it gives None; an error is its last item but that."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        items: asyncio.Queue[T | ServiceError | None] = asyncio.Queue(1)
        work = asyncio.ensure_future(self._work(items))
        gone = asyncio.ensure_future(disconnected(receive))
        talk = asyncio.ensure_future(self.talk(items, send))
        try:
            await asyncio.wait((talk, gone), return_when=asyncio.FIRST_COMPLETED)
            if talk.done():
                talk.result()
        finally:
            for task in (work, gone, talk):
                task.cancel()
            await asyncio.gather(work, gone, talk, return_exceptions=True)

    async def _work(self, items: "asyncio.Queue[T | ServiceError | None]") -> None:
        try:
            async with aclosing(self.events()) as events:
                async for item in events:
                    await items.put(item)
        except ServiceError as error:
            log.warning("request %s fails: %s", self._trace, error.code)
            await items.put(error)
        except Exception:
            log.exception("request %s failed", self._trace)
            await items.put(InternalError("The request failed; the server's log says why."))
        await items.put(None)


class EventStream(LiveAnswer[T]):
    """Server-sent events. An error in time has its own status; a later one is an event, and no `ending` follows it."""

    def __init__(self, trace: str, headers: dict[str, str], options: StreamOptions) -> None:
        super().__init__(trace, headers, "text/event-stream")
        self._options = options

    @abstractmethod
    def said(self, item: T) -> Iterable[Json]:
        """The events to send for an item."""

    @property
    def knows_headers(self) -> bool:
        """Whether the headers have all that they are to tell. As long as not, `keepalive` seconds are waited."""
        return True

    def admits(self, item: T) -> bool:
        """Whether it is settled, with this item, that the request is a good one."""
        return True

    def opening(self) -> Iterable[Json]:
        """What is sent before anything."""
        return ()

    def ending(self) -> bytes:
        """What is sent behind everything, if it went well."""
        return b""

    async def talk(self, items: "asyncio.Queue[T | ServiceError | None]", send: Send) -> None:
        item = await self._first(items)
        if isinstance(item, ServiceError):
            raise item
        dialect = self._options.dialect
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for event in self.opening():
            await _send(send, dialect.event(event))
        while item is not None:
            if isinstance(item, ServiceError):
                await _send(send, dialect.error_event(item))
                await send({"type": "http.response.body", "body": b""})
                return
            if isinstance(item, _Silence):
                await _send(send, dialect.keep_alive)
            else:
                for event in self.said(item):
                    await _send(send, dialect.event(event))
            item = await _next(items, self._options.keepalive_seconds)
        await send({"type": "http.response.body", "body": self.ending()})

    async def _first(self, items: "asyncio.Queue[T | ServiceError | None]") -> "T | ServiceError | _Silence | None":
        """What settles the status. Items before it say nothing of it, and nothing to the client."""
        began = asyncio.get_running_loop().time()
        while True:
            wait = self._options.admission_seconds if self.knows_headers else self._options.keepalive_seconds
            item = await _next(items, began + wait - asyncio.get_running_loop().time())
            if item is None or isinstance(item, ServiceError | _Silence) or self.admits(item):
                return item


class _Silence:
    """Nothing came in time."""


async def _next(items: "asyncio.Queue[T | ServiceError | None]", seconds: float) -> T | ServiceError | _Silence | None:
    """The next item. Only the queue is waited for, so a timeout loses none."""
    try:
        async with asyncio.timeout(seconds):
            return await items.get()
    except TimeoutError:
        return _Silence()


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
