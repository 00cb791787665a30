"""A streamed answer: server-sent events, as they are made."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engines.errors import InternalError, ServiceError
from engines.inference import Inference
from engines.types import Delta, Done
from openai_compat.answers import answer
from openai_compat.boundary import body_of, log
from openai_compat.choices import Numbered, events
from openai_compat.fields import Parsed

Item = Numbered | ServiceError | None


class AnswerStream(Response):
    """An error within `admission` seconds has its true status; then 200, and a comment at least every `keepalive`."""

    def __init__(
        self, inference: Inference, parsed: Parsed, headers: dict[str, str], admission: float, keepalive: float
    ) -> None:
        super().__init__(headers={**headers, "Cache-Control": "no-cache"}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._inference = inference
        self._parsed = parsed
        self._answer = answer(parsed)
        self._done: dict[int, Done] = {}
        self._admission = admission
        self._keepalive = keepalive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The work is a task of its own: it alone owns the generator, and is cancelled when the client leaves."""
        items: asyncio.Queue[Item] = asyncio.Queue(1)
        work = asyncio.ensure_future(self._work(items))
        gone = asyncio.ensure_future(_disconnected(receive))
        talk = asyncio.ensure_future(self._talk(items, send))
        try:
            await asyncio.wait((talk, gone), return_when=asyncio.FIRST_COMPLETED)
            if talk.done():
                talk.result()
        finally:
            for task in (work, gone, talk):
                task.cancel()
            await asyncio.gather(work, gone, talk, return_exceptions=True)

    async def _work(self, items: "asyncio.Queue[Item]") -> None:
        try:
            async with aclosing(events(self._inference, self._parsed)) as numbered:
                async for item in numbered:
                    await items.put(item)
        except ServiceError as error:
            log.warning("request %s fails: %s", self._parsed.first.trace, error.code)
            await items.put(error)
        except Exception:
            log.exception("request %s failed", self._parsed.first.trace)
            await items.put(InternalError("The request failed; the server's log says why."))
        await items.put(None)

    async def _talk(self, items: "asyncio.Queue[Item]", send: Send) -> None:
        first = await _next(items, self._admission)
        if isinstance(first, ServiceError):
            raise first
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _send(send, "".join(map(_event, self._answer.opening())))
        item: Item | str = first
        while item is not None:
            await _send(send, item if isinstance(item, str) else self._said(item))
            if isinstance(item, ServiceError):
                await send({"type": "http.response.body", "body": b""})
                return
            item = await _next(items, self._keepalive)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    def _said(self, item: Numbered | ServiceError) -> str:
        if isinstance(item, ServiceError):
            return _event(body_of(item))
        number, event = item
        match event:
            case Delta():
                return _event(self._answer.said(number, event))
            case Done():
                self._done[number] = event
                return _event(self._answer.ended(number, event)) + self._usage()
            case _:
                return ""

    def _usage(self) -> str:
        """Behind the last choice's end."""
        if not self._parsed.include_usage or len(self._done) < len(self._parsed.requests):
            return ""
        return _event(self._answer.usage_chunk(self._done.values()))


async def _next(items: "asyncio.Queue[Item]", seconds: float) -> Item | str:
    """The next item, or a comment when there is none for so long. The queue alone is waited for: nothing is lost."""
    try:
        async with asyncio.timeout(seconds):
            return await items.get()
    except TimeoutError:
        return ": keep-alive\n\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, text: str) -> None:
    if text:
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
