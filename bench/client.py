"""The HTTP client: raw chunks with the moment each came; everything is parsed when the answer is complete."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import httpx2

from bench.streams import Ask, BenchFailed, Stream

PATIENCE_SECONDS = 600.0
TRIES = 6
AGAIN_SECONDS = 0.01
FIELD = b"data: "

Chunk = tuple[float, bytes]


class Client:
    """Of one server. Connections are kept where the server keeps them."""

    def __init__(self, url: str, model: str) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx2.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, limits=limits)
        self._model = model

    async def close(self) -> None:
        await self._http.aclose()

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
                await self._receive(body, chunks, progress if leading else None)
            except httpx2.TransportError:
                if chunks:
                    raise
                # A server with a short queue of connections refuses some: its client tries again.
                await asyncio.sleep(AGAIN_SECONDS * 2**attempt)
                continue
            return stream_of(submitted, chunks, retries=attempt)
        raise BenchFailed(f"{self._http.base_url} doesn't take the connection")

    async def _receive(self, body: bytes, chunks: list[Chunk], progress: "Progress | None") -> None:
        headers = {"Content-Type": "application/json"}
        async with self._http.stream("POST", "/v1/chat/completions", content=body, headers=headers) as answer:
            if answer.status_code != 200:
                raise BenchFailed(f"{answer.status_code}: {(await answer.aread()).decode()}")
            async for data in answer.aiter_raw():
                chunks.append((time.monotonic(), data))
                if progress is not None:
                    progress.add(data.count(FIELD))


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
