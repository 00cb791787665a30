"""One HTTP request a connection: the answer's bytes with the moments at which they came, parsed when it is complete.

The client shares the processor with the server that it measures, so it does as little as it can meanwhile.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from urllib.parse import urlsplit

import httptools

from bench.streams import BenchFailed

PATIENCE_SECONDS = 600.0
FIELD = b"data: "

Chunk = tuple[float, bytes]


class StreamProgress:
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


class Receiver(asyncio.Protocol):
    """Notes what comes, and when, until the server closes the connection."""

    def __init__(self, progress: StreamProgress | None) -> None:
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

    async def body(self) -> list[Chunk]:
        """Raises `ConnectionError`, and `BenchFailed` for a status that isn't 200 or an answer that takes too long."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.ended
        except TimeoutError as error:
            raise BenchFailed("no whole answer came: it took too long") from error
        response = HttpResponse(self.received)
        if response.status != 200:
            said = b"".join(data for _, data in response.chunks).decode(errors="replace")
            raise BenchFailed(f"{response.status}: {said}")
        return response.chunks


class HttpResponse:
    """Its status, and its body's pieces with the moments at which they came."""

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


@contextlib.asynccontextmanager
async def connected(
    url: str, progress: StreamProgress | None = None
) -> AsyncIterator[tuple[asyncio.Transport, Receiver]]:
    target = urlsplit(url)
    assert target.hostname is not None and target.port is not None
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_connection(lambda: Receiver(progress), target.hostname, target.port)
    try:
        yield transport, receiver
    finally:
        transport.close()


def head(url: str, path: str, content_type: str, length: int) -> bytes:
    """Of a POST request whose body has `length` bytes."""
    line = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nConnection: close\r\n"
    return f"{line}Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n".encode()


async def post(url: str, path: str, body: bytes, progress: StreamProgress | None = None) -> list[Chunk]:
    """The body of the answer to some JSON. Raises as `Receiver.body` does."""
    async with connected(url, progress) as (transport, receiver):
        transport.write(head(url, path, "application/json", len(body)) + body)
        return await receiver.body()


def events(chunks: Iterable[Chunk]) -> Iterator[tuple[float, str]]:
    """The data of every server-sent event, with the moment at which its last byte came; comments are left out."""
    rest = b""
    for moment, data in chunks:
        *whole, rest = (rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            lines = [line.removeprefix(FIELD) for line in event.split(b"\n") if line.startswith(FIELD)]
            if lines:
                yield moment, b"\n".join(lines).decode()
