"""Text of any length → one file of sound: pieces that a model speaks, each judged, made again if it can't be whole."""

import asyncio
import math
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol

import msgspec

from engines.audio_types import (
    VOICE_RATE,
    Sound,
    SoundFormat,
    SpeechData,
    SpeechDone,
    SpeechEvent,
    SpeechProgress,
    SpeechRequest,
    UtteranceDone,
    UtteranceRequest,
)
from engines.errors import InternalError, InvalidRequest, RunnerDied
from engines.types import Started, Usage
from engines.voice import lengths, reference, seams, sentences
from engines.voice.ahead import Ahead
from engines.voice.lengths import Verdict
from engines.voice.sentences import Piece
from engines.voice.speakable import speakable
from engines.voice.store import VoiceStore

SLOWEST, FASTEST = 0.25, 4.0
TRIES = 3
# Pieces in work at a time: a file that is sent whole comes sooner when the engine's batch has more rows; one that is
# sent as it is made needs the next piece alone.
AHEAD_STREAMED, AHEAD_WHOLE = 1, 3
SHOWN = 40  # characters of a piece, in what is said of it
_WRONG: dict[Verdict, str] = {
    "silent": "nothing is heard of it",
    "short": "its sound is too short to be all of it",
    "long": "its sound is too long to be it alone",
    "cut": "its sound was cut off, for it didn't end",
}
# What is better than what, of tries that all went wrong.
_ORDER: tuple[Verdict, ...] = ("whole", "long", "short", "cut", "silent")

UtteranceEvents = AsyncGenerator[Started | Sound | UtteranceDone]
Utter = Callable[[UtteranceRequest], UtteranceEvents]
Transcribe = Callable[[str, str], Awaitable[str]]


class Clip(Protocol):
    """A recording's samples, float32."""

    @property
    def samples(self) -> bytes: ...

    @property
    def seconds(self) -> float: ...

    @property
    def cut(self) -> bool: ...

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]: ...


class Encoder(Protocol):
    async def feed(self, samples: bytes) -> bytes: ...

    async def finish(self) -> bytes: ...


class Media(Protocol):
    """What is needed of the media process."""

    async def decode(self, path: str, rate: int, longest_seconds: float) -> Clip: ...

    def encoder(
        self, format: SoundFormat, rate_in: int, rate_out: int | None = None, speed: float = 1.0, whole: bool = True
    ) -> AbstractAsyncContextManager[Encoder]: ...


class Made(msgspec.Struct, frozen=True):
    """A piece's sound, float32, and what is to be thought of it."""

    sound: bytes
    level: float
    verdict: Verdict
    usage: Usage

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller is better. Of those that are too short the longest, of those that are too long the shortest."""
        size = len(self.sound)
        return _ORDER.index(self.verdict), -size if self.verdict in ("short", "silent") else size


class Speaking:
    """`utter` runs one utterance on a model, `transcribe` (path, language) tells what a recording says.

    Without `transcribe`, a voice to imitate needs its text; without `store`, no voices are stored.
    """

    def __init__(
        self, utter: Utter, media: Media, transcribe: Transcribe | None = None, store: VoiceStore | None = None
    ) -> None:
        self._utter = utter
        self._media = media
        self._transcribe = transcribe
        self._store = store

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[SpeechEvent]:
        """`Started`, any number of `SpeechData` (one, unless `streamed`) and of `SpeechProgress`, `SpeechDone`; raises
        `ServiceError`.

        Closing the generator ends the work. What is sent as it is made can't be made again once it was heard: of the
        first piece that is what it is, later ones are held until they are judged.
        """
        if not (math.isfinite(request.speed) and SLOWEST <= request.speed <= FASTEST):
            raise InvalidRequest(f"speed must be from {SLOWEST} to {FASTEST}.", param="speed")
        pieces = await asyncio.to_thread(lambda: sentences.split(speakable(request.text), soon=request.streamed))
        work = Work(self._utter, await self._asked(request), pieces)
        encoder = self._media.encoder(
            request.format, VOICE_RATE, request.sample_rate, request.speed, whole=not request.streamed
        )
        async with encoder as file, aclosing(work.run(request.streamed)) as happening:
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
        )

    async def reference(self, path: str, text: str, language: str) -> tuple[bytes, str]:
        """The samples of a voice to imitate, and what is spoken in them, told if it isn't given.

        Raises `InvalidRequest` for a recording that won't do, or that doesn't fit its text.
        """
        try:
            clip = await self._media.decode(path, VOICE_RATE, reference.LONGEST)
        except InvalidRequest as error:
            raise InvalidRequest(f"The recording of the voice: {error.message}", param="reference_audio") from error
        await asyncio.to_thread(reference.check_reference, clip.samples)
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
        least, most = lengths.bounds(text, instructed=True)
        if not least <= clip.seconds <= most:
            raise InvalidRequest(
                f"The text doesn't fit the recording of the voice: it would take about "
                f"{lengths.usual_seconds(text):.1f} seconds, and the recording has {clip.seconds:.1f}. Give exactly "
                "what is said in it.",
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


class Work:
    """One text being spoken. What was made of it so far can be read at any time."""

    def __init__(self, utter: Utter, asked: UtteranceRequest, pieces: Sequence[Piece]) -> None:
        self._utter = utter
        self._asked = asked
        self._pieces = pieces
        self._instructed = bool(asked.instructions.strip())
        self._level = 0.0
        self._started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self.samples = 0
        self.usage = Usage(0, 0)
        self.incomplete: list[str] = []

    async def run(self, streamed: bool) -> AsyncGenerator[Started | bytes | SpeechProgress]:
        """`Started`, then the sound, joined, with progress behind each piece."""
        most = AHEAD_STREAMED if streamed else AHEAD_WHOLE
        ahead = Ahead(self._made, 1 if streamed else 0, len(self._pieces), most)
        try:
            if streamed:
                async with aclosing(self._heard(ahead)) as first:
                    async for event in first:
                        yield event
                yield SpeechProgress(1, len(self._pieces))
            else:
                ahead.begin()
                either: set[asyncio.Future[Any]] = {self._started, ahead.head}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._started.done():
                    yield self._started.result()
            for number in range(1 if streamed else 0, len(self._pieces)):
                made = await ahead.next()
                for sound in await self._joined(made, number):
                    yield sound
                yield SpeechProgress(number + 1, len(self._pieces))
        finally:
            await ahead.close()

    # -- one piece ----------------------------------------------------------------------------------------------

    async def _heard(self, ahead: Ahead[Made]) -> AsyncGenerator[Started | bytes]:
        """The first piece, as it is made. The next is begun as soon as there is sound of it."""
        running, whole = seams.Running(), array("f")
        done: UtteranceDone | None = None
        async with aclosing(self._utter(self._request(0, 0))) as events:
            async for event in events:
                match event:
                    case Started():
                        yield event
                    case Sound():
                        sound = _array(event.samples)
                        whole += sound
                        if ready := running.add(sound):
                            yield ready
                        ahead.begin()
                    case UtteranceDone():
                        done = event
        yield running.end()
        made = await asyncio.to_thread(self._judged, 0, whole, _ended(done))
        self._take(Made(b"", made.level, made.verdict, made.usage), 0, len(whole))
        yield self._pause(0)

    async def _made(self, number: int) -> Made:
        """The best of some tries."""
        tries: list[Made] = []
        while len(tries) < TRIES and not (tries and tries[-1].verdict == "whole"):
            tries.append(await self._survived(number, len(tries)))
        best = min(tries, key=lambda made: made.rank)
        return msgspec.structs.replace(best, usage=_total([made.usage for made in tries]))

    async def _survived(self, number: int, attempt: int) -> Made:
        """A try; once more if the model's process dies in it, for nobody has heard any of it."""
        try:
            return await self._tried(number, attempt)
        except RunnerDied:
            return await self._tried(number, attempt)

    async def _tried(self, number: int, attempt: int) -> Made:
        sound = array("f")
        done: UtteranceDone | None = None
        async with aclosing(self._utter(self._request(number, attempt))) as events:
            async for event in events:
                match event:
                    case Started() if not self._started.done():
                        self._started.set_result(event)
                    case Sound():
                        sound += _array(event.samples)
                    case UtteranceDone():
                        done = event
        return await asyncio.to_thread(self._judged, number, sound, _ended(done))

    def _request(self, number: int, attempt: int) -> UtteranceRequest:
        text, seed = self._pieces[number].text, self._asked.seed
        return msgspec.structs.replace(
            self._asked,
            text=text,
            max_seconds=lengths.cap(text, self._instructed),
            seed=None if seed is None else (seed + number * TRIES + attempt) % (1 << 63),
        )

    def _judged(self, number: int, sound: seams.Sound, done: UtteranceDone) -> Made:
        verdict = lengths.judge(
            self._pieces[number].text,
            len(sound) / VOICE_RATE,
            seams.loudest(sound),
            capped=done.finish_reason == "length",
            instructed=self._instructed,
        )
        return Made(sound.tobytes(), seams.level(sound), verdict, done.usage)

    # -- all of them --------------------------------------------------------------------------------------------

    async def _joined(self, made: Made, number: int) -> list[bytes]:
        """A piece at the level of those before it, and the pause after it."""
        sound = await asyncio.to_thread(seams.fitted, _array(made.sound), self._level)
        self._take(made, number, len(sound) // 4)
        return [part for part in (sound, self._pause(number)) if part]

    def _take(self, made: Made, number: int, samples: int) -> None:
        """Note what was made. The first piece with any sound sets the level."""
        self.samples += samples
        self.usage = _total([self.usage, made.usage])
        self._level = self._level or made.level
        if made.verdict != "whole":
            text = self._pieces[number].text
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
            place = f"Part {number + 1} of {len(self._pieces)} ({shown!r})"
            self.incomplete.append(f"{place} is not spoken as it stands: {_WRONG[made.verdict]}.")

    def _pause(self, number: int) -> bytes:
        pause = seams.silence(self._pieces[number].pause)
        self.samples += len(pause) // 4
        return pause


def _array(samples: bytes) -> seams.Sound:
    return array("f", samples)


def _total(usages: Sequence[Usage]) -> Usage:
    return Usage(sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages))


def _ended(done: UtteranceDone | None) -> UtteranceDone:
    if done is None:
        raise InternalError("The model's process stopped in mid-sentence. Try again.")
    return done
