"""Listening with a model that does as it is told."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engines.synthesis import transcription_check
from engines.synthesis.transcription_check import Hear, TranscriptionCheck
from engines.types.audio import EAR_RATE, PieceDone, PieceRequest, Segment, SoundFormat
from engines.types.chat import Delta
from engines.types.common import Started, Timings, Usage
from engines.types.errors import DoesNotFit, RunnerDied, ServiceError

SAMPLES = array("f", [0.5] * 24_000).tobytes()


class File:
    async def feed(self, samples: bytes) -> bytes:
        return array("h", [16384] * (len(samples) // 6)).tobytes()

    async def finish(self) -> bytes:
        return b""


class Studio:
    @asynccontextmanager
    async def encoder(
        self, format: SoundFormat, rate_in: int, rate_out: int | None = None, speed: float = 1.0, whole: bool = True
    ) -> AsyncIterator[File]:
        assert (format, rate_in, rate_out) == ("pcm", 24_000, EAR_RATE)
        yield File()


class Ear:
    def __init__(self, error: ServiceError | None = None, reason: str = "stop", hangs: bool = False) -> None:
        self.error, self.reason, self.hangs = error, reason, hangs
        self.requests: list[PieceRequest] = []
        self.left = False

    async def hear(self, request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        self.requests.append(request)
        try:
            yield Started("asr", 1)
            if self.hangs:
                await asyncio.sleep(3600)
            if self.error is not None:
                raise self.error
            segments = (Segment(0, 1, "Hello"), Segment(1, 2, "there"))
            yield PieceDone(segments, "en", self.reason, Usage(1, 1), Timings(0, 0, 0))  # type: ignore[arg-type]
        finally:
            self.left = True


async def heard(ear: Ear, model: str = "asr") -> tuple[str, str] | None:
    async def listener() -> tuple[str, Hear] | None:
        return (model, ear.hear) if model else None

    async def written(text: str, language: str) -> str:
        return f"{text}/{language}"

    return await TranscriptionCheck(Studio(), listener, written).texts("Hello there.", SAMPLES, "", "t")


def test_sound_is_heard_at_the_listeners_rate_and_both_texts_are_written_alike() -> None:
    ear = Ear()
    assert asyncio.run(heard(ear)) == ("Hello there./en", "Hello there/en")
    (request,) = ear.requests
    sound = array("f", request.samples)
    assert request.model == "asr" and len(sound) == EAR_RATE * 12 // 10 and max(sound) == 0.5


def test_where_no_model_is_at_hand_nobody_listens() -> None:
    ear = Ear()
    assert asyncio.run(heard(ear, "")) is None and ear.requests == []


@pytest.mark.parametrize("error", [DoesNotFit("No room."), RunnerDied("It died.")])
def test_what_goes_wrong_with_listening_is_no_fault_of_the_speech(error: ServiceError) -> None:
    assert asyncio.run(heard(Ear(error))) is None
    assert asyncio.run(heard(Ear(reason="length"))) is None


def test_nobody_waits_long_for_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcription_check, "PATIENCE", 1.0)  # enough to come to the model on a busy machine
    ear = Ear(hangs=True)
    assert asyncio.run(heard(ear)) is None and ear.left
