"""The HTTP client: raw bytes with the moment they came; everything is parsed when the answer is complete.

It shares the processor with the server that it measures, so it does as little as it can: a connection and a protocol
an answer, no HTTP library at work meanwhile.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httptools

from bench.streams import Ask, BenchFailed, Stream

PATIENCE_SECONDS = 600.0
TRIES = 6
AGAIN_SECONDS = 0.01
FIELD = b"data: "

Chunk = tuple[float, bytes]


class Client:
    """Of one server."""

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._model = model

    async def run(self, asks: Sequence[Ask]) -> list[Stream]:
        """Each ask is submitted when the first one has produced its `after` tokens."""
        progress = Progress()
        bodies = [self._body(ask) for ask in asks]
        works = [
            self._stream(ask, body, progress, leading=place == 0)
            for place, (ask, body) in enumerate(zip(asks, bodies, strict=True))
        ]
        return list(await asyncio.gather(*works))

    def _body(self, ask: Ask) -> bytes:
        fields = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in ask.messages],
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(fields).encode()

    async def _stream(self, ask: Ask, body: bytes, progress: "Progress", *, leading: bool) -> Stream:
        await progress.reached(ask.after)
        submitted = time.monotonic()
        for attempt in range(TRIES):
            chunks: list[Chunk] = []
            try:
                status = await self._receive(body, chunks, progress if leading else None)
            except ConnectionError:
                if chunks:
                    raise
                # A server with a short queue of connections refuses some: its client tries again.
                await asyncio.sleep(AGAIN_SECONDS * 2**attempt)
                continue
            if status != 200:
                raise BenchFailed(f"{status}: {b''.join(data for _, data in chunks).decode()}")
            return stream_of(submitted, chunks, retries=attempt)
        raise BenchFailed(f"{self._host}:{self._port} doesn't take the connection")

    async def _receive(self, body: bytes, chunks: list[Chunk], progress: "Progress | None") -> int:
        """The status; `chunks` is filled with the body's bytes. Raises `ConnectionError`."""
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        loop = asyncio.get_running_loop()
        transport, receiver = await loop.create_connection(lambda: Receiver(progress), self._host, self._port)
        try:
            transport.write(head.encode() + body)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await receiver.ended
        finally:
            transport.close()
        answer = Parsed(receiver.received)
        chunks += answer.chunks
        return answer.status


class Receiver(asyncio.Protocol):
    """Notes what comes, and when, until the server closes the connection."""

    def __init__(self, progress: "Progress | None") -> None:
        self.received: list[Chunk] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._progress = progress

    def data_received(self, data: bytes) -> None:
        self.received.append((time.monotonic(), data))
        if self._progress is not None:
            self._progress.add(data.count(FIELD))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.ended.done():
            return
        if exc is None and self.received:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(ConnectionResetError("the connection was closed without an answer"))


class Parsed:
    """An HTTP answer: its status, and its body's pieces with the moments at which they came."""

    def __init__(self, received: Iterable[Chunk]) -> None:
        self.chunks: list[Chunk] = []
        self._moment = 0.0
        parser = httptools.HttpResponseParser(self)
        for self._moment, data in received:
            parser.feed_data(data)
        self.status = int(parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self.chunks.append((self._moment, body))


class Progress:
    """How far the first stream of a run is."""

    def __init__(self) -> None:
        self._done = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []

    async def reached(self, tokens: int) -> None:
        if self._done >= tokens:
            return
        event = asyncio.Event()
        self._waiting.append((tokens, event))
        await event.wait()

    def add(self, tokens: int) -> None:
        self._done += tokens
        for wanted, event in self._waiting:
            if self._done >= wanted:
                event.set()


def stream_of(submitted: float, chunks: Iterable[Chunk], retries: int = 0) -> Stream:
    """Raises `BenchFailed` for an answer with an error, without usage, or that ended before its last token."""
    arrivals: list[float] = []
    texts: list[str] = []
    usage: dict[str, Any] | None = None
    for moment, event in events(chunks):
        if event == "[DONE]":
            break
        data = json.loads(event)
        if "error" in data:
            raise BenchFailed(f"an answer failed: {data['error']}")
        usage = data.get("usage") or usage
        for choice in data.get("choices") or ():
            if choice.get("finish_reason") not in (None, "length"):
                raise BenchFailed(f"an answer ended early: {choice['finish_reason']}")
            text = (choice.get("delta") or {}).get("content")
            if text:
                arrivals.append(moment)
                texts.append(text)
    if usage is None:
        raise BenchFailed("an answer has no usage")
    return Stream(
        submitted, tuple(arrivals), usage["prompt_tokens"], usage["completion_tokens"], "".join(texts), retries=retries
    )


def events(chunks: Iterable[Chunk]) -> Iterator[tuple[float, str]]:
    """The data of every server-sent event, with the moment at which its last byte came; comments are left out."""
    rest = b""
    for moment, data in chunks:
        *whole, rest = (rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            lines = [line.removeprefix(FIELD) for line in event.split(b"\n") if line.startswith(FIELD)]
            if lines:
                yield moment, b"\n".join(lines).decode()
