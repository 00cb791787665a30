"""What came, and when, is read from the bytes of an answer; a form is sent as it is."""

import asyncio
import json
from pathlib import Path

import pytest

from bench.client import audio as audio_client
from bench.client.audio import spoken, transcribed
from bench.client.connection import Chunk
from bench.streams import BenchFailed


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


DELTA, DONE = event(type="transcript.text.delta", delta="one"), event(type="transcript.text.done", text="one two")


def test_the_first_text_and_the_end_have_their_moments() -> None:
    chunks = [(1.0, event(type="transcript.text.delta", delta="", seconds=1)), (2.0, DELTA), (3.0, DELTA), (4.0, DONE)]
    answer = transcribed(0.5, chunks)
    assert (answer.wait, answer.first, answer.ended, answer.text) == (1.5, 2.0, 4.0, "one two")


@pytest.mark.parametrize(
    "chunks",
    [
        [(1.0, DELTA)],
        [(1.0, DONE)],
        [(1.0, DELTA), (2.0, event(type="transcript.text.done", text="", incomplete=["cut"]))],
        [(1.0, event(error={"message": "lost"}))],
    ],
    ids=["broken off", "without text", "incomplete", "failed"],
)
def test_what_is_no_whole_transcript_is_an_error(chunks: list[Chunk]) -> None:
    with pytest.raises(BenchFailed):
        transcribed(0.0, chunks)


def test_sound_is_counted_in_seconds() -> None:
    answer = spoken(1.0, [(1.5, bytes(24_000)), (2.0, bytes(24_000))])
    assert (answer.wait, answer.ended, answer.sound) == (0.5, 2.0, 1.0)
    with pytest.raises(BenchFailed):
        spoken(1.0, [])


def test_a_recording_is_uploaded_whole_as_a_form(tmp_path: Path) -> None:
    path, data = tmp_path / "a.wav", bytes(range(256)) * 1000
    path.write_bytes(data)
    bodies: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + DELTA + DONE)
        await writer.drain()
        writer.close()

    async def work() -> str:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return (await audio_client.transcribe(f"http://127.0.0.1:{port}", "m", path)).text

    assert asyncio.run(work()) == "one two"
    assert data in bodies[0]
    assert b'name="model"\r\n\r\nm\r\n' in bodies[0] and bodies[0].endswith(b"\r\n------bench--\r\n")
