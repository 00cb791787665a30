"""Asks a server for chat."""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from bench.client.connection import Chunk, StreamProgress, events, post
from bench.streams import Ask, BenchFailed, Stream

TRIES = 6
AGAIN_SECONDS = 0.01


class ChatClient:
    """Of one server."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model

    async def run(self, asks: Sequence[Ask]) -> list[Stream]:
        """Each ask is submitted when the first one has produced its `after` tokens."""
        progress = StreamProgress()
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

    async def _stream(self, ask: Ask, body: bytes, progress: StreamProgress, *, leading: bool) -> Stream:
        await progress.reached(ask.after)
        submitted = time.monotonic()
        for attempt in range(TRIES):
            try:
                chunks = await post(self._url, "/v1/chat/completions", body, progress if leading else None)
            except ConnectionError:
                # A server with a short queue of connections refuses some: its client tries again.
                await asyncio.sleep(AGAIN_SECONDS * 2**attempt)
                continue
            return stream_of(submitted, chunks, retries=attempt)
        raise BenchFailed(f"{self._url} doesn't take the connection")


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
