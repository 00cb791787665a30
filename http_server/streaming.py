"""Answers that are sent as they are made."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engines.types.errors import InternalError, ServiceError
from http_server.boundary import body_of, log
from http_server.disconnect import disconnected

T = TypeVar("T")
KEEP_ALIVE = ": keep-alive\n\n"


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
    """Server-sent events. An error within `admission` seconds has its true status; then 200, and a comment at least
    every `keepalive` seconds. A later error is an event, and `ending` isn't sent behind it."""

    def __init__(self, trace: str, headers: dict[str, str], admission: float, keepalive: float) -> None:
        super().__init__(trace, headers, "text/event-stream")
        self._admission = admission
        self._keepalive = keepalive

    @abstractmethod
    def said(self, item: T) -> Iterable[dict[str, Any]]:
        """The events to send for an item."""

    @property
    def knows_headers(self) -> bool:
        """Whether the headers have all that they are to tell. As long as not, `keepalive` seconds are waited."""
        return True

    def admits(self, item: T) -> bool:
        """Whether it is settled, with this item, that the request is a good one."""
        return True

    def opening(self) -> Iterable[dict[str, Any]]:
        """What is sent before anything."""
        return ()

    def ending(self) -> bytes:
        """What is sent behind everything, if it went well."""
        return b""

    async def talk(self, items: "asyncio.Queue[T | ServiceError | None]", send: Send) -> None:
        item = await self._first(items)
        if isinstance(item, ServiceError):
            raise item
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for event in self.opening():
            await _send(send, written(event))
        while item is not None:
            if isinstance(item, ServiceError):
                await _send(send, written(body_of(item)))
                await send({"type": "http.response.body", "body": b""})
                return
            for text in (item,) if isinstance(item, str) else map(written, self.said(item)):
                await _send(send, text)
            item = await _next(items, self._keepalive)
        await send({"type": "http.response.body", "body": self.ending()})

    async def _first(self, items: "asyncio.Queue[T | ServiceError | None]") -> T | ServiceError | str | None:
        """What settles the status. What says nothing of it is passed over; it says nothing to the client either."""
        began = asyncio.get_running_loop().time()
        while True:
            patience = self._admission if self.knows_headers else self._keepalive
            item = await _next(items, began + patience - asyncio.get_running_loop().time())
            if item is None or isinstance(item, ServiceError | str) or self.admits(item):
                return item


def written(data: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _next(items: "asyncio.Queue[T | ServiceError | None]", seconds: float) -> T | ServiceError | str | None:
    """The next item, or a comment when there is none for so long. The queue alone is waited for: nothing is lost."""
    try:
        async with asyncio.timeout(seconds):
            return await items.get()
    except TimeoutError:
        return KEEP_ALIVE


async def _send(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
