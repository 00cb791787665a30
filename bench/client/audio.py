"""Asks a server to write down a recording, or to speak; raw, as `client` asks for chat."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench.client.chat import Chunk, Parsed, Receiver, events
from bench.libraries.audio_jobs import Answer
from bench.streams import BenchFailed

PATIENCE_SECONDS = 600.0
BOUNDARY = "----bench"
VOICE_RATE = 24_000
SAMPLE_BYTES = 2


async def transcribe(url: str, model: str, path: Path) -> Answer:
    """By a server that streams as OpenAI's does."""
    return transcribed(*await uploaded(url, {"model": model, "language": "en", "stream": "true"}, path))


async def speak(url: str, model: str, text: str, voice: str) -> Answer:
    """As samples without a header, streamed."""
    fields = {"model": model, "input": text, "voice": voice, "response_format": "pcm", "language": "en"}
    return spoken(*await posted(url, fields))


async def uploaded(url: str, fields: Mapping[str, str], path: Path) -> tuple[float, list[Chunk]]:
    """When the form was sent, and what came: the file goes as it is read. Raises `BenchFailed` for another status."""
    head = _fields(fields)
    head += _part(f'name="file"; filename="{path.name}"\r\nContent-Type: audio/wav')
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    submitted = time.monotonic()
    with path.open("rb") as file:
        length = len(head) + os.fstat(file.fileno()).st_size + len(tail)
        async with _connected(url) as (transport, receiver):
            kind = f"multipart/form-data; boundary={BOUNDARY}"
            transport.write(_request(url, "/v1/audio/transcriptions", kind, length) + head)
            await asyncio.get_running_loop().sendfile(transport, file)
            transport.write(tail)
            return submitted, await _answer(receiver)


async def posted(url: str, fields: Mapping[str, object]) -> tuple[float, list[Chunk]]:
    """The same for a text to speak."""
    body = json.dumps(fields).encode()
    submitted = time.monotonic()
    async with _connected(url) as (transport, receiver):
        transport.write(_request(url, "/v1/audio/speech", "application/json", len(body)) + body)
        return submitted, await _answer(receiver)


def transcribed(submitted: float, chunks: Sequence[Chunk]) -> Answer:
    """Raises `BenchFailed` for an answer that isn't whole."""
    first = 0.0
    for moment, event in events(chunks):
        data = json.loads(event) if event != "[DONE]" else {}
        if data.get("delta"):  # an empty one tells progress alone
            first = first or moment
        elif data.get("type") == "transcript.text.done":
            if data.get("incomplete") or not first:
                raise BenchFailed(f"a transcript isn't whole: {data.get('incomplete') or 'it is empty'}")
            return Answer(submitted, first, moment, data["text"])
        elif "error" in data:
            raise BenchFailed(f"a transcription failed: {data['error']}")
    raise BenchFailed("a transcript broke off")


def spoken(submitted: float, chunks: Sequence[Chunk]) -> Answer:
    """Raises `BenchFailed` for an answer without sound."""
    if not chunks:
        raise BenchFailed("no sound came")
    samples = sum(len(data) for _, data in chunks) // SAMPLE_BYTES
    return Answer(submitted, chunks[0][0], chunks[-1][0], sound=samples / VOICE_RATE)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[tuple[asyncio.Transport, Receiver]]:
    target = urlsplit(url)
    assert target.hostname is not None and target.port is not None
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_connection(lambda: Receiver(None), target.hostname, target.port)
    try:
        yield transport, receiver
    finally:
        transport.close()


async def _answer(receiver: Receiver) -> list[Chunk]:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await receiver.ended
    except (ConnectionError, TimeoutError) as error:
        raise BenchFailed(f"no whole answer came: {error or 'it took too long'}") from error
    answer = Parsed(receiver.received)
    if answer.status != 200:
        raise BenchFailed(f"{answer.status}: {b''.join(data for _, data in answer.chunks).decode(errors='replace')}")
    return answer.chunks


def _request(url: str, path: str, kind: str, length: int) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nConnection: close\r\n"
    return f"{head}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()


def _fields(fields: Mapping[str, str]) -> bytes:
    return b"".join(_part(f'name="{name}"') + value.encode() + b"\r\n" for name, value in fields.items())


def _part(disposition: str) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
