"""`Inference` for real, in full: what `Runtime` runs piece by piece; recordings and speech made of such pieces."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec

from engines.host.awake import KeepAwake
from engines.host.conditions import Conditions
from engines.media.client import Media, PieceOptions
from engines.models.catalog import Catalog, Entry
from engines.models.registry import DEFAULTS, Pieces
from engines.service.options import Options
from engines.service.runtime import Runtime
from engines.synthesis.synthesis import Speaking
from engines.synthesis.transcription_check import Listening
from engines.synthesis.voice_store import VoiceStore
from engines.text.script import Converter
from engines.transcription.alignment import Alignment
from engines.transcription.piece import Hear
from engines.transcription.piece_cache import PieceCache
from engines.transcription.transcription import Ear, Transcription
from engines.transcription.word_timestamps import WithWords
from engines.types.audio import (
    Aligned,
    AlignRequest,
    PieceDone,
    PieceRequest,
    Script,
    SpeechEvent,
    SpeechRequest,
    Transcript,
    TranscriptionEvent,
    TranscriptionRequest,
    Voice,
)
from engines.types.chat import Delta
from engines.types.common import Started
from engines.types.errors import InvalidRequest, ModelNotInstalled, UnknownModel, UnknownVoice, WrongCapability
from engines.types.status import Health
from engines.types.streams import last
from engines.types.voice_reference import spoken_text

# Of a short context a prompt gets one character for so many tokens: mostly a character is one to three of them, and the
# rest is for the sound and its text.
CONTEXT_A_CHARACTER = 8
TRANSLATOR = "whisper-large-v3"

# How a voice to keep names what a request to speak calls so.
STORED_AS = {"reference_audio": "audio_sample", "reference_text": "text"}


class AudioOptions(msgspec.Struct, frozen=True):
    """`voices` is the folder of stored voices; `longest_recording` in seconds; `listener` is the model that tells what
    a voice to imitate says, `aligner` the one that finds the times of words. `known_seconds` is for how long what was
    heard in pieces of recordings is kept in memory, 0 for not at all."""

    voices: Path
    script: Script = "as-is"
    longest_recording: float = 24 * 3600.0
    listener: str = "qwen3-asr"
    aligner: str = "qwen3-aligner"
    known_seconds: float = 0.0
    check_speech: bool = False


class Local(Runtime):
    """All capabilities on this machine. Use as an async context manager, as `Runtime`."""

    def __init__(
        self,
        catalog: Catalog,
        options: Options,
        audio: AudioOptions,
        awake: KeepAwake | None = None,
        read_conditions: Callable[[], Conditions] | None = None,
    ) -> None:
        super().__init__(catalog, options, awake, read_conditions)
        self._audio = audio
        self._media = Media()
        self._store = VoiceStore(audio.voices)
        self._converter = Converter()
        listening = Listening(partial(self.hear, modest=True), self._media, self._listener, self._comparable)
        listen = listening.texts if audio.check_speech else None
        self._speaking = Speaking(self.utter, self._media, self._text_of, self._store, listen)
        self._cache = PieceCache(audio.known_seconds, time.monotonic)
        self._expiry: asyncio.TimerHandle | None = None
        self._transcription = Transcription(
            self._media, self._ear, self._hear, audio.script, cache=self._cache, before_next=self._background.go_ahead
        )
        self._alignment = Alignment(self._media, self._aligner, self.place)

    async def close(self, grace: float) -> None:
        await super().close(grace)
        await self._media.close()
        self._cache.clear()
        if self._expiry is not None:
            self._expiry.cancel()

    def health(self) -> Health:
        known = super().health()
        if not self._media.is_late:
            return known
        problem = "the process that reads and writes sound: no answer for more than 10 s"
        return msgspec.structs.replace(known, ok=False, problems=(*known.problems, problem))

    async def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[TranscriptionEvent]:
        with self.visit():
            try:
                async with aclosing(self._transcription.run(request)) as events:
                    async for event in events:
                        yield event
            finally:
                self._forget_in_time()

    async def align(self, request: AlignRequest) -> Aligned:
        with self.visit():
            return await self._alignment.run(request)

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[SpeechEvent]:
        with self.visit():
            await asyncio.to_thread(self._catalog.resolve, request.model, "speech")
            async with aclosing(self._speaking.speak(request)) as events:
                async for event in events:
                    yield event

    async def voices(self, model: str) -> Sequence[Voice]:
        entry = await asyncio.to_thread(self._catalog.resolve, model, "speech")
        known = entry.checkpoint.entry
        own = await asyncio.to_thread(known.voices, Path(entry.checkpoint.folder)) if known is not None else ()
        return (*own, *await asyncio.to_thread(self._store.voices))

    async def store_voice(self, name: str, path: str, text: str, consent: str) -> Voice:
        with self.visit():
            try:
                _, text = await self._speaking.reference(path, text, "")
            except InvalidRequest as error:
                raise InvalidRequest(error.message, param=STORED_AS.get(error.param or "", error.param)) from error
            stored = await asyncio.to_thread(self._store.add, name, Path(path), text, consent)
        return Voice(stored.name, stored=True, consent=stored.consent)

    async def delete_voice(self, name: str) -> None:
        if not await asyncio.to_thread(self._store.delete, name):
            known = ", ".join(voice.name for voice in await asyncio.to_thread(self._store.stored)) or "none"
            raise UnknownVoice(f"There is no stored voice {name[:60]!r}. Stored: {known}.", param="name")

    def _forget_in_time(self) -> None:
        """What was heard is private: it is gone when its time is over, whether or not somebody asks again."""
        if self._expiry is not None:
            self._expiry.cancel()
        seconds = self._cache.expire()
        loop = asyncio.get_running_loop()
        self._expiry = None if seconds is None else loop.call_later(seconds, self._forget_in_time)

    async def _ear(self, request: TranscriptionRequest) -> Ear:
        entry = await asyncio.to_thread(self._catalog.resolve, request.model, "transcription")
        made_for, tokens = _pieces(entry), entry.checkpoint.context_length
        if request.translate and not entry.checkpoint.translates:
            raise await asyncio.to_thread(self._no_translator, request.model)
        identity = [_identity(entry)]
        if request.words and not made_for.word_times:
            identity.append(_identity(await self._aligner_for_words(entry.names[0])))
        pieces = PieceOptions(longest=made_for.seconds, limit=self._audio.longest_recording)
        context = min(made_for.context, tokens // CONTEXT_A_CHARACTER) if tokens else made_for.context
        return Ear(entry.names[0], pieces, context, "\n".join(identity))

    async def _hear(self, request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        """A piece. Whisper tells when words are spoken; for other models the aligner does."""
        hear: Hear = self.hear
        if request.words:
            entry = await asyncio.to_thread(self._catalog.resolve, request.model, "transcription")
            if not _pieces(entry).word_times:
                hear = WithWords(self.hear, self.place, self._audio.aligner).hear
        async with aclosing(hear(request)) as events:
            async for event in events:
                yield event

    def _no_translator(self, asked: str) -> WrongCapability:
        """Names those that can."""
        there = self._catalog.translators()
        fetch = f"mlx-local models pull {DEFAULTS[TRANSLATOR][0]} ({TRANSLATOR})"
        others = f"ask {' or '.join(there)}" if there else f"none that can is installed; fetch one: {fetch}"
        return WrongCapability(f"{asked} writes down what is spoken and can't translate: {others}.", param="model")

    async def _aligner_for_words(self, listener: str) -> Entry:
        try:
            return await asyncio.to_thread(self._catalog.resolve, self._audio.aligner, "alignment")
        except (UnknownModel, ModelNotInstalled) as error:
            message = f"{listener} tells no times of words by itself, and its aligner is missing: {error.message}"
            raise InvalidRequest(
                f"{message} Or ask for segments, or another model.", param="timestamp_granularities"
            ) from error

    async def _aligner(self, model: str) -> str:
        return (await asyncio.to_thread(self._catalog.resolve, model, "alignment")).names[0]

    async def _listener(self) -> str:
        return await self.beside(self._audio.listener, "transcription")

    async def _comparable(self, text: str, language: str) -> str:
        """A text with its Chinese in simplified characters."""
        return await asyncio.to_thread(self._converter.text, text, "simplified", language)

    async def _text_of(self, path: str, language: str) -> str:
        """What is said in a short recording."""
        request = TranscriptionRequest(self._audio.listener, path, language, script="as-is")
        return spoken_text(await last(self._transcription.run(request), Transcript))


def _pieces(entry: Entry) -> Pieces:
    """What a model that transcribes is given."""
    known = entry.checkpoint.entry
    return known.pieces if known is not None else Pieces()


def _identity(entry: Entry) -> str:
    """Of a model in the state in which its files are."""
    return f"{entry.key} {entry.checkpoint.changed}"
