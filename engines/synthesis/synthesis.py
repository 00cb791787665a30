"""Text of any length → one file of sound: pieces that a model speaks, each judged, made again if it can't be whole."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol

from engines.synthesis import duration_check, sentences
from engines.synthesis.pieces import Listen, Utter, Work
from engines.synthesis.voice_store import VoiceStore
from engines.text.speakable import speakable
from engines.types import voice_reference
from engines.types.audio import (
    VOICE_RATE,
    SoundFormat,
    SpeechData,
    SpeechDone,
    SpeechEvent,
    SpeechProgress,
    SpeechRequest,
    UtteranceRequest,
)
from engines.types.common import Started
from engines.types.errors import InvalidRequest

SLOWEST, FASTEST = 0.25, 4.0
# Pieces in work at a time: a file that is sent whole comes sooner when the engine's batch has more rows; one that is
# sent as it is made needs the next piece alone.
AHEAD_STREAMED, AHEAD_WHOLE = 1, 3

Transcribe = Callable[[str, str], Awaitable[str]]


class DecodedClip(Protocol):
    """A recording's samples, float32."""

    @property
    def samples(self) -> bytes: ...

    @property
    def seconds(self) -> float: ...

    @property
    def cut(self) -> bool: ...

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]: ...


class SoundEncoder(Protocol):
    async def feed(self, samples: bytes) -> bytes: ...

    async def finish(self) -> bytes: ...


class SpeechMedia(Protocol):
    """What is needed of the media process."""

    async def decode(self, path: str, rate: int, longest_seconds: float) -> DecodedClip: ...

    def encoder(
        self, format: SoundFormat, rate_in: int, rate_out: int | None = None, speed: float = 1.0, whole: bool = True
    ) -> AbstractAsyncContextManager[SoundEncoder]: ...


class Synthesis:
    """`transcribe` (path, language) tells what a recording says, `listen` what is heard of what was spoken.

    Without `transcribe`, a voice to imitate needs its text; without `store`, no voices are stored; without `listen`
    what was spoken is judged by its length alone.
    """

    def __init__(
        self,
        media: SpeechMedia,
        transcribe: Transcribe | None = None,
        store: VoiceStore | None = None,
        listen: Listen | None = None,
    ) -> None:
        self._media = media
        self._transcribe = transcribe
        self._store = store
        self._listen = listen

    async def speak(self, request: SpeechRequest, utter: Utter) -> AsyncGenerator[SpeechEvent]:
        """`Started`, any number of `SpeechData` (one, unless `streamed`) and of `SpeechProgress`, `SpeechDone`; raises
        `ServiceError`.

        `utter` runs one utterance on the model. Closing the generator ends the work. What is sent as it is made can't
        be made again once it was heard: of the first piece that is what it is, later ones are held until they are
        judged.
        """
        if not (math.isfinite(request.speed) and SLOWEST <= request.speed <= FASTEST):
            raise InvalidRequest(f"speed must be from {SLOWEST} to {FASTEST}.", param="speed")
        pieces = await asyncio.to_thread(lambda: sentences.split(speakable(request.text), soon=request.streamed))
        work = Work(utter, await self._asked(request), pieces, self._listen)
        ahead = AHEAD_STREAMED if request.streamed else AHEAD_WHOLE
        encoder = self._media.encoder(
            request.format, VOICE_RATE, request.sample_rate, request.speed, whole=not request.streamed
        )
        async with encoder as file, aclosing(work.run(request.streamed, ahead)) as happening:
            try:
                async for event in happening:
                    if isinstance(event, Started | SpeechProgress):
                        yield event
                    elif data := await file.feed(event):
                        yield SpeechData(data)
            except InvalidRequest as error:
                raise await self._about_voice(error, request.voice) from error
            yield SpeechData(await file.finish())
        yield SpeechDone(work.samples / VOICE_RATE / request.speed, work.usage, tuple(work.incomplete))

    async def _asked(self, request: SpeechRequest) -> UtteranceRequest:
        """What is the same for all pieces; the text is still to come."""
        path, text, voice = request.reference_path, request.reference_text, request.voice
        if path and voice:
            raise InvalidRequest("Give a voice or a recording of one, not both.", param="voice")
        if text and not path:
            raise InvalidRequest("reference_text needs the recording in which it is spoken.", param="reference_text")
        if voice and self._store is not None and (stored := await asyncio.to_thread(self._store.get, voice)):
            path, text, voice = stored.recording, stored.text, ""
        samples = b""
        if path:
            samples, text = await self.reference(path, text, request.language)
        return UtteranceRequest(
            request.model,
            "",
            voice=voice,
            language=request.language,
            instructions=request.instructions,
            seed=request.seed,
            reference=samples,
            reference_text=text,
            trace=request.trace,
            priority=request.priority,
        )

    async def reference(self, path: str, text: str, language: str) -> tuple[bytes, str]:
        """The samples of a voice to imitate, and what is spoken in them, told if it isn't given.

        Raises `InvalidRequest` for a recording that won't do, or that doesn't fit its text.
        """
        try:
            clip = await self._media.decode(path, VOICE_RATE, voice_reference.LONGEST)
        except InvalidRequest as error:
            raise InvalidRequest(f"The recording of the voice: {error.message}", param="reference_audio") from error
        await asyncio.to_thread(voice_reference.check_reference, clip.samples)
        if clip.cut or clip.gaps:
            where = "cut off at its end" if clip.cut else "damaged: sound is missing within it"
            message = f"The recording of the voice is {where}. Send it again whole."
            raise InvalidRequest(message, param="reference_audio")
        if not text.strip():
            if self._transcribe is None:
                raise InvalidRequest("reference_text is missing: say what the recording says.", param="reference_text")
            text = await self._transcribe(path, language)
            if not text.strip():
                message = "No speech was found in the recording of the voice: give one of clear speech."
                raise InvalidRequest(message, param="reference_audio")
        least, most = duration_check.bounds(text, instructed=True)
        if not least <= clip.seconds <= most:
            raise InvalidRequest(
                f"The text doesn't fit the recording of the voice: it would take about "
                f"{duration_check.usual_seconds(text):.1f} seconds, and the recording has {clip.seconds:.1f}. "
                "Give exactly what is said in it.",
                param="reference_text",
            )
        return clip.samples, text

    async def _about_voice(self, error: InvalidRequest, voice: str) -> InvalidRequest:
        """A wrong voice is told with the stored ones too; a stored one that a model can't imitate, as a wrong voice."""
        if error.param == "reference_audio" and voice:
            return InvalidRequest(f"{voice!r} is a stored voice. {error.message}", param="voice")
        if error.param != "voice" or self._store is None:
            return error
        names = [voice.name for voice in await asyncio.to_thread(self._store.stored)]
        if not names:
            return error
        return InvalidRequest(f"{error.message} Stored voices: {', '.join(names)}.", param="voice")
