"""What was spoken is written down, where a model for that is at hand: nothing is unloaded for it."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol

from engines.types.audio import EAR_RATE, VOICE_RATE, PieceDone, PieceRequest, SoundFormat
from engines.types.chat import Delta
from engines.types.common import Started
from engines.types.errors import ServiceError

PATIENCE = 5.0  # seconds in which the model must be loaded, and have heard a sentence or so
AROUND = bytes(4 * EAR_RATE // 10)  # silence before and behind, as recordings have it

Hear = Callable[[PieceRequest], AsyncGenerator[Started | Delta | PieceDone]]


class ResamplingEncoder(Protocol):
    async def feed(self, samples: bytes) -> bytes: ...

    async def finish(self) -> bytes: ...


class ResamplingMedia(Protocol):
    """What is needed of the media process."""

    def encoder(
        self, format: SoundFormat, rate_in: int, rate_out: int | None = None, speed: float = 1.0, whole: bool = True
    ) -> AbstractAsyncContextManager[ResamplingEncoder]: ...


class TranscriptionCheck:
    """`listener` gives the main name of a model that is at hand and how it is asked, None for none; `written` puts a
    text in a language into the one script in which texts are compared."""

    def __init__(
        self,
        media: ResamplingMedia,
        listener: Callable[[], Awaitable[tuple[str, Hear] | None]],
        written: Callable[[str, str], Awaitable[str]],
    ) -> None:
        self._media = media
        self._listener = listener
        self._written = written

    async def texts(self, text: str, samples: bytes, language: str, trace: str) -> tuple[str, str] | None:
        """A text and what is heard of it in float32 samples at `VOICE_RATE`, in one script; None: nobody could listen.

        Never raises, for the speech is there whoever listens.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                if (found := await self._listener()) is None:
                    return None
                model, hear = found
                sound = AROUND + await self._resampled(samples) + AROUND
                done = await _heard(hear, PieceRequest(model, sound, language, trace=trace))
                if done is None or done.finish_reason != "stop":
                    return None
                heard = " ".join(segment.text for segment in done.segments)
                return await self._written(text, done.language), await self._written(heard, done.language)
        except (TimeoutError, ServiceError):
            return None

    async def _resampled(self, samples: bytes) -> bytes:
        async with self._media.encoder("pcm", VOICE_RATE, EAR_RATE) as file:
            data = await file.feed(samples)
            data += await file.finish()
        return await asyncio.to_thread(_floats, data)


def _floats(data: bytes) -> bytes:
    """Of samples of 16 bits."""
    return array("f", [sample / 32768 for sample in array("h", data)]).tobytes()


async def _heard(hear: Hear, request: PieceRequest) -> PieceDone | None:
    async with aclosing(hear(request)) as events:
        async for event in events:
            if isinstance(event, PieceDone):
                return event
    return None
