"""Asks a server to transcribe a recording, or to speak."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.client.connection import Chunk, connected, events, head, post
from bench.libraries.jobs import AudioAnswer
from bench.streams import BenchFailed

BOUNDARY = "----bench"
VOICE_RATE = 24_000
SAMPLE_BYTES = 2


async def transcribe(url: str, model: str, path: Path) -> AudioAnswer:
    """By a server that streams as OpenAI's does."""
    return transcribed(*await uploaded(url, {"model": model, "language": "en", "stream": "true"}, path))


async def speak(url: str, model: str, text: str, voice: str) -> AudioAnswer:
    """As samples without a header, streamed."""
    fields = {"model": model, "input": text, "voice": voice, "response_format": "pcm", "language": "en"}
    return spoken(*await posted(url, fields))


async def uploaded(url: str, fields: Mapping[str, str], path: Path) -> tuple[float, list[Chunk]]:
    """When the form was sent, and what came: the file goes as it is read. Raises `BenchFailed` for another status."""
    before = _fields(fields)
    before += _part(f'name="file"; filename="{path.name}"\r\nContent-Type: audio/wav')
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    submitted = time.monotonic()
    with path.open("rb") as file, _lost_connections_fail():
        length = len(before) + os.fstat(file.fileno()).st_size + len(after)
        async with connected(url) as (transport, receiver):
            kind = f"multipart/form-data; boundary={BOUNDARY}"
            transport.write(head(url, "/v1/audio/transcriptions", kind, length) + before)
            await asyncio.get_running_loop().sendfile(transport, file)
            transport.write(after)
            return submitted, await receiver.body()


async def posted(url: str, fields: Mapping[str, object]) -> tuple[float, list[Chunk]]:
    """The same for a text to speak."""
    body = json.dumps(fields).encode()
    submitted = time.monotonic()
    with _lost_connections_fail():
        return submitted, await post(url, "/v1/audio/speech", body)


def transcribed(submitted: float, chunks: Sequence[Chunk]) -> AudioAnswer:
    """Raises `BenchFailed` for an answer that isn't whole."""
    first = 0.0
    for moment, event in events(chunks):
        data = json.loads(event) if event != "[DONE]" else {}
        if data.get("delta"):  # an empty one tells progress alone
            first = first or moment
        elif data.get("type") == "transcript.text.done":
            if data.get("incomplete") or not first:
                raise BenchFailed(f"a transcript isn't whole: {data.get('incomplete') or 'it is empty'}")
            return AudioAnswer(submitted, first, moment, data["text"])
        elif "error" in data:
            raise BenchFailed(f"a transcription failed: {data['error']}")
    raise BenchFailed("a transcript broke off")


def spoken(submitted: float, chunks: Sequence[Chunk]) -> AudioAnswer:
    """Raises `BenchFailed` for an answer without sound."""
    if not chunks:
        raise BenchFailed("no sound came")
    samples = sum(len(data) for _, data in chunks) // SAMPLE_BYTES
    return AudioAnswer(submitted, chunks[0][0], chunks[-1][0], sound=samples / VOICE_RATE)


@contextlib.contextmanager
def _lost_connections_fail() -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        raise BenchFailed(f"no whole answer came: {error}") from error


def _fields(fields: Mapping[str, str]) -> bytes:
    return b"".join(_part(f'name="{name}"') + value.encode() + b"\r\n" for name, value in fields.items())


def _part(disposition: str) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
