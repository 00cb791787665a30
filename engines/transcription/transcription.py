"""A whole recording, written down: its pieces are heard a few at a time and joined in order.

media process ─► _Work._read ─► a task a piece (`PieceTranscriber.piece`) ─► in order ─► `_Result.add` ─► events
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import msgspec

from engines.media.client import DecodeProgress, Ending, PieceOptions, RecordingPiece, Selection
from engines.media.decode_slots import SlotHolder
from engines.text.joining import Joiner, Span, file_cut, gaps, incompleteness, labelled, main_language
from engines.text.languages import parse
from engines.text.script import Converter
from engines.transcription.context import MOST, context
from engines.transcription.partial_text import PartialText
from engines.transcription.piece import BeforeNext, Hear, Heard, PieceTranscriber, added, at_once
from engines.transcription.piece_cache import KnownPieces, PieceCache
from engines.types.audio import (
    PieceRequest,
    Script,
    Segment,
    Transcript,
    TranscriptionEvent,
    TranscriptionRequest,
    TranscriptPart,
    TranscriptProgress,
    TranscriptText,
)
from engines.types.common import Started, Usage
from engines.types.errors import InternalError

IN_FLIGHT = 4

T = TypeVar("T")


class Transcriber(msgspec.Struct, frozen=True):
    """A model that transcribes: its main name, the pieces that it handles well, how it is asked for one (`hear`), and
    how many characters of context it takes.

    `identity` is another one whenever it may hear something else in the same piece.
    """

    model: str
    pieces: PieceOptions
    hear: Hear
    context: int = MOST
    identity: str = ""


class Recordings(Protocol):
    """What is needed of `media.client.Media`."""

    def pieces(
        self, path: str, options: PieceOptions, reader: SlotHolder | None = None
    ) -> AsyncGenerator[RecordingPiece | DecodeProgress | Ending, None]: ...


class Transcription:
    """`ear` finds the model that a request means, and loads nothing; it raises what that model can't do.

    `before_next` is awaited before each piece but the first of a recording that is background work, which may be
    paused.
    """

    def __init__(
        self,
        media: Recordings,
        ear: Callable[[TranscriptionRequest], Awaitable[Transcriber]],
        script: Script = "as-is",
        in_flight: int = IN_FLIGHT,
        cache: PieceCache | None = None,
        before_next: BeforeNext = at_once,
    ) -> None:
        self._media = media
        self._ear = ear
        self._script: Script = script
        self._in_flight = in_flight
        self._cache = cache or PieceCache(0.0, time.monotonic)
        self._before_next = before_next
        self._converter = Converter()

    async def run(self, request: TranscriptionRequest, in_flight: int = 0) -> AsyncGenerator[TranscriptionEvent]:
        """`Started`, any number of texts and parts with progress behind each, and the `Transcript`.

        If the request is `streamed`, the first piece in which something is said is told as it is written, as far as it
        is final; others are told whole, and so is each where a conversion or a search for words is still to come.

        Raises a `ServiceError` instead of the rest; before `Started` for what is wrong with the request, the file or
        the model. No model is asked before the file's first sound is there, so none for silence. Closing the generator
        cancels all work. `in_flight` is how many pieces are heard at a time, fewer for what may wait; 0: as usual.
        """
        language = parse(request.language)
        ear = await self._ear(request)
        before, left_out = context(request.prompt, request.hotwords, ear.context)
        asked = PieceRequest(
            model=request.model,
            samples=b"",
            language=language,
            context=before,
            temperature=request.temperature,
            translate=request.translate,
            words=request.words,
            trace=request.trace,
            priority=request.priority,
        )
        result = _Result(language, left_out)
        script = request.script or self._script
        known = KnownPieces(self._cache, (request.tenant, ear.model, ear.identity))
        hearing = PieceTranscriber(
            ear.hear, asked, self._converter, script, result.heard_language, known, self._before_next
        )
        as_written = request.streamed and script == "as-is" and not request.words and request.channels != "separate"
        selection = Selection(request.track, request.channels)
        reader = SlotHolder()
        pieces = self._media.pieces(request.path, msgspec.structs.replace(ear.pieces, selection=selection), reader)
        work = _Work(pieces, hearing, lambda before: as_written and result.is_silence(before))
        reader.stop = work.cancel
        try:
            async with aclosing(_events(work, ear.model, result, in_flight or self._in_flight)) as events:
                async for event in events:
                    with reader.telling():
                        yield event
        finally:
            await work.close()


async def _events(work: "_Work", model: str, result: "_Result", in_flight: int) -> AsyncGenerator[TranscriptionEvent]:
    while isinstance(item := await work.next(), DecodeProgress):
        pass  # nothing is sent yet
    yield (
        Started(model, 0) if isinstance(item, Ending) else msgspec.structs.replace(await work.begun(item), model=model)
    )
    seconds, more = 0.0, in_flight
    while not isinstance(item, Ending):
        if isinstance(item, _InFlight):
            while text := await item.early_text():
                yield result.tell(text)
            told = result.add(await item.heard, item.end - item.start, item.channel)
            if item.is_known:
                work.allow(1)
            else:  # the first is heard alone: then there is something to tell, and kept, soon
                work.allow(more)
                more = 1
            for event in told:
                yield event
        seconds = max(seconds, item.end if isinstance(item, _InFlight) else item.done)
        yield TranscriptProgress(seconds, item.total)
        item = await work.next()
    yield TranscriptProgress(item.seconds, item.seconds)
    yield result.whole(item)


class _InFlight(msgspec.Struct, frozen=True):
    """A piece that is being heard; its samples are its task's alone. `is_known`: it was heard before."""

    start: float
    end: float
    total: float | None
    is_known: bool
    heard: "asyncio.Task[Heard]"
    early: PartialText | None
    channel: int

    async def early_text(self) -> str:
        """More of what is told before it is heard; "" if there is no more."""
        return await self.early.next() if self.early is not None else ""


class _Work:
    """The tasks of one transcription: one that reads the file, and one a piece. `close` ends them all.

    `tells_early` says whether a piece, behind so many, may be told before it is heard.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[RecordingPiece | DecodeProgress | Ending, None],
        hearing: PieceTranscriber,
        tells_early: Callable[[int], bool],
    ) -> None:
        self._pieces = pieces
        self._hearing = hearing
        self._tells_early = tells_early
        self._begun = 0
        self._slots = asyncio.Semaphore(1)
        self._order: asyncio.Queue[_InFlight | DecodeProgress | Ending | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reading = self._spawn(self._read())

    async def next(self) -> _InFlight | DecodeProgress | Ending:
        """The next piece, in order, or progress through silence, or the ending. Raises why the file can't be read."""
        if (item := await self._order.get()) is None:
            await self._reading
            raise AssertionError("a reader that ended without an ending has failed")
        return item

    async def begun(self, first: _InFlight) -> Started:
        """When the model begins with the first piece. Raises why it doesn't."""
        either: set[asyncio.Future[Any]] = {first.heard, self._hearing.started}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._hearing.started.done():
            await first.heard
        return await self._hearing.started

    def allow(self, more: int) -> None:
        """So many more pieces may be begun; one may from the start."""
        for _ in range(more):
            self._slots.release()

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        # Not a gather: a caller that is cancelled again while it waits here must not cut the tasks' own endings short.
        self.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _read(self) -> None:
        ending: Ending | None = None
        try:
            async with aclosing(self._pieces) as pieces:
                async for item in pieces:
                    if isinstance(item, RecordingPiece):
                        await self._slots.acquire()
                        self._order.put_nowait(self._begin(item))
                    elif isinstance(item, DecodeProgress):
                        self._order.put_nowait(item)
                    else:
                        ending = item
        finally:
            self._order.put_nowait(ending)

    def _begin(self, piece: RecordingPiece) -> _InFlight:
        is_known = self._hearing.knows(piece.samples)
        early = PartialText() if self._tells_early(self._begun) and not is_known else None
        self._begun += 1
        task = self._spawn(self._hearing.piece(piece.samples, piece.start, early))
        if early is not None:
            task.add_done_callback(lambda _: early.end())
        return _InFlight(piece.start, piece.end, piece.total, is_known, task, early, piece.channel)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: who waits for the task raises it, and after the first failure nobody does


class _Result:
    """What was heard so far. Keeps no sound."""

    def __init__(self, asked_language: str, left_out: tuple[str, ...]) -> None:
        self._asked_language = asked_language
        self._left_out = left_out
        self._joiner = Joiner()
        self._channel = 0
        self._text: list[str] = []
        self._early = ""
        self._pieces = 0
        self._segments: list[Segment] = []
        self._spoken: dict[str, float] = {}
        self._usage = Usage(0, 0)
        self._looped: list[Span] = []
        self._cut: list[Span] = []
        self._reckoned: list[Span] = []

    def heard_language(self) -> str:
        """A code: that of most of what was heard so far, "" while there is nothing."""
        return main_language(self._spoken.items())

    def language(self) -> str:
        """A code: the one that was asked for, unless nothing was heard in it, or that of most of what was heard."""
        if self._asked_language and (not self._spoken or self._asked_language in self._spoken):
            return self._asked_language
        return self.heard_language()

    def is_silence(self, pieces: int) -> bool:
        """Whether that is known of all of the first so many pieces."""
        return self._pieces == pieces and not self._text

    def tell(self, text: str) -> TranscriptText:
        """More of the piece with which the text begins, before it is heard."""
        text = text if self._early else text.lstrip()
        self._early += text
        return TranscriptText(text)

    def add(self, heard: Heard, seconds: float, channel: int = 0) -> list[TranscriptText | TranscriptPart]:
        """The next piece: what of it is still to be told. Nothing if nothing is spoken there."""
        self._pieces += 1
        self._usage = added(self._usage, heard.usage)
        self._looped += heard.looped
        self._cut += heard.cut
        self._reckoned += heard.reckoned
        if not heard.segments and not self._early:
            return []
        text, told, self._early = self._joined(heard.text, channel), self._early, ""
        if not text.startswith(told):
            raise InternalError("The model took back what was told of its text already. Try again.")
        if not heard.segments:
            return []
        self._spoken[heard.language] = self._spoken.get(heard.language, 0.0) + seconds
        self._text.append(text)
        segments = tuple(msgspec.structs.replace(one, channel=channel) for one in heard.segments)
        self._segments += segments
        more = [TranscriptText(text[len(told) :])] if len(told) < len(text) else []
        return [*more, TranscriptPart(segments)]

    def _joined(self, text: str, channel: int) -> str:
        """A piece's text as it goes on behind the others': on a line of its own where the channel is another one."""
        if channel == self._channel:
            return self._joiner.add(text)
        self._joiner, self._channel = Joiner(), channel
        before = "\n" if self._text else ""
        return f"{before}{labelled(channel)}: {self._joiner.add(text)}"

    def whole(self, ending: Ending) -> Transcript:
        missing = incompleteness(self._looped, self._cut, self._reckoned)
        cut = (file_cut(ending.seconds),) if ending.cut else ()
        return Transcript(
            text="".join(self._text),
            segments=tuple(self._segments),
            language=self.language(),
            seconds=ending.seconds,
            usage=self._usage,
            incomplete=self._left_out + missing + gaps(ending.gaps) + cut,
            track=ending.track,
            tracks=ending.tracks,
        )
