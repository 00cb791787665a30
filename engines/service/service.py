"""`Inference` for real: requests to one model, and recordings and speech, which are made of such requests."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Self

import msgspec

from engines.host.awake import KeepAwake
from engines.host.conditions import Conditions
from engines.media.client import Media, PieceOptions
from engines.models.catalog import Catalog, Entry
from engines.models.registry import DEFAULTS, Pieces
from engines.service.options import RuntimeOptions
from engines.service.runtime import Runtime
from engines.synthesis.synthesis import Synthesis
from engines.synthesis.transcription_check import TranscriptionCheck
from engines.synthesis.voice_store import VoiceStore
from engines.text.script import Converter
from engines.transcription.alignment import Alignment, Place
from engines.transcription.piece import Hear
from engines.transcription.piece_cache import PieceCache
from engines.transcription.transcription import Transcriber, Transcription
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
from engines.types.chat import ChatRequest, CompletionRequest, Delta, Event, Request, Tokenized
from engines.types.common import Started
from engines.types.errors import InvalidRequest, ModelNotInstalled, UnknownModel, UnknownVoice, WrongCapability
from engines.types.status import Health, Metric, ModelStatus
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


class Local:
    """`Inference` for real, composed over the runtime. An async context manager: leaving it ends all processes."""

    def __init__(
        self,
        catalog: Catalog,
        options: RuntimeOptions,
        audio: AudioOptions,
        awake: KeepAwake | None = None,
        read_conditions: Callable[[], Conditions] | None = None,
    ) -> None:
        self.runtime = Runtime(catalog, options, awake, read_conditions)
        self._catalog = catalog
        self._audio = audio
        self._media = Media()
        self._store = VoiceStore(audio.voices)
        self._converter = Converter()
        listening = TranscriptionCheck(self._media, self._listener, self._comparable)
        listen = listening.texts if audio.check_speech else None
        self._speaking = Synthesis(self._media, self._text_of, self._store, listen)
        self._cache = PieceCache(audio.known_seconds, time.monotonic)
        self._expiry: asyncio.TimerHandle | None = None
        wait = self.runtime.until_background_may_run
        self._transcription = Transcription(self._media, self._ear, audio.script, cache=self._cache, before_next=wait)
        self._alignment = Alignment(self._media, self._aligner)

    async def __aenter__(self) -> Self:
        await self.runtime.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(0.0)

    async def close(self, grace: float) -> None:
        """Accept no new request, let the others finish for `grace` seconds, fail the rest, end every process."""
        await self.runtime.close(grace)
        await self._media.close()
        self._cache.clear()
        if self._expiry is not None:
            self._expiry.cancel()

    # -- one request to one model -------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event]:
        return self.runtime.run(request)

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event]:
        return self.runtime.run(request)

    async def tokenize(self, request: Request) -> Tokenized:
        return await self.runtime.tokenize(request)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        return await self.runtime.detokenize(model, tokens)

    # -- what there is, and how it is ---------------------------------------------------------------------------

    def models(self) -> Sequence[ModelStatus]:
        return self.runtime.models()

    def model(self, name: str) -> ModelStatus:
        return self.runtime.model(name)

    async def load(self, model: str) -> None:
        await self.runtime.load(model)

    async def unload(self, model: str) -> None:
        await self.runtime.unload(model)

    def metrics(self) -> Sequence[Metric]:
        return self.runtime.metrics()

    def health(self) -> Health:
        known = self.runtime.health()
        if not self._media.is_late:
            return known
        problem = "the process that reads and writes sound: no answer for more than 10 s"
        return msgspec.structs.replace(known, ok=False, problems=(*known.problems, problem))

    # -- composite requests -------------------------------------------------------------------------------------

    async def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[TranscriptionEvent]:
        with self.runtime.composite():
            try:
                async with aclosing(self._transcription.run(request)) as events:
                    async for event in events:
                        yield event
            finally:
                self._forget_in_time()

    async def align(self, request: AlignRequest) -> Aligned:
        with self.runtime.composite():
            return await self._alignment.run(request)

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[SpeechEvent]:
        with self.runtime.composite():
            entry = await self.runtime.resolve(request.model, "speech")
            async with aclosing(self._speaking.speak(request, lambda work: self.runtime.run(work, entry))) as events:
                async for event in events:
                    yield event

    async def voices(self, model: str) -> Sequence[Voice]:
        entry = await self.runtime.resolve(model, "speech")
        known = entry.checkpoint.entry
        own = await asyncio.to_thread(known.voices, Path(entry.checkpoint.folder)) if known is not None else ()
        return (*own, *await asyncio.to_thread(self._store.voices))

    async def store_voice(self, name: str, path: str, text: str, consent: str) -> Voice:
        with self.runtime.composite():
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

    async def _ear(self, request: TranscriptionRequest) -> Transcriber:
        entry = await self.runtime.resolve(request.model, "transcription")
        made_for, tokens = _pieces(entry), entry.checkpoint.context_length
        if request.translate and not entry.checkpoint.translates:
            raise await asyncio.to_thread(self._no_translator, request.model)
        identity = [_identity(entry)]

        def hear(work: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
            return self.runtime.run(work, entry)

        asked: Hear = hear
        if request.words and not made_for.word_times:
            aligner = await self._aligner_for_words(entry.names[0])
            identity.append(_identity(aligner))
            asked = WithWords(hear, lambda work: self.runtime.run(work, aligner), self._audio.aligner).hear
        pieces = PieceOptions(longest=made_for.seconds, limit=self._audio.longest_recording)
        context = min(made_for.context, tokens // CONTEXT_A_CHARACTER) if tokens else made_for.context
        return Transcriber(entry.names[0], pieces, asked, context, "\n".join(identity))

    def _no_translator(self, asked: str) -> WrongCapability:
        """Names those that can."""
        there = self._catalog.translators()
        fetch = f"mlx-local models pull {DEFAULTS[TRANSLATOR][0]} ({TRANSLATOR})"
        others = f"ask {' or '.join(there)}" if there else f"none that can is installed; fetch one: {fetch}"
        return WrongCapability(f"{asked} writes down what is spoken and can't translate: {others}.", param="model")

    async def _aligner_for_words(self, listener: str) -> Entry:
        try:
            return await self.runtime.resolve(self._audio.aligner, "alignment")
        except (UnknownModel, ModelNotInstalled) as error:
            message = f"{listener} tells no times of words by itself, and its aligner is missing: {error.message}"
            raise InvalidRequest(
                f"{message} Or ask for segments, or another model.", param="timestamp_granularities"
            ) from error

    async def _aligner(self, model: str) -> tuple[str, Place]:
        entry = await self.runtime.resolve(model, "alignment")
        return entry.names[0], lambda work: self.runtime.run(work, entry)

    async def _listener(self) -> tuple[str, Hear] | None:
        entry = await self.runtime.beside(self._audio.listener, "transcription")
        return None if entry is None else (entry.names[0], lambda work: self.runtime.run(work, entry, modest=True))

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
