"""One piece of a recording, from sound to segments: asks a model, and asks again where it failed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec

from engines.text.joining import Span, join
from engines.text.repetition import collapsed_segments, has_loop
from engines.text.script import Converter
from engines.text.timing import apportioned, placed
from engines.transcription.partial_text import NOBODY, PartialText
from engines.transcription.piece_cache import KnownPieces
from engines.transcription.word_times import reckoned
from engines.types.audio import EAR_RATE, PieceDone, PieceRequest, PieceText, Script, Segment
from engines.types.chat import Delta
from engines.types.common import Started, Usage
from engines.types.errors import InternalError
from engines.types.streams import retry_on_death

Hear = Callable[[PieceRequest], AsyncGenerator[Started | Delta | PieceDone]]
BeforeNext = Callable[[], Awaitable[None]]

PENALTY = 1.15
SHORTEST_HALVED = 4.0  # seconds
MOST_GIVEN_UP = 2  # times that nobody waits for the same piece, before it is heard in halves
_SAMPLE = 4  # bytes
_WINDOW, _STRIDE = EAR_RATE // 10, 8  # samples


async def at_once() -> None:
    """Nothing has to be waited for."""


class Heard(msgspec.Struct, frozen=True):
    """A piece as text, with times of the recording; and where in it the model repeated itself, or met its limit, or
    where times of words were asked for and are reckoned."""

    text: str
    segments: tuple[Segment, ...]
    language: str
    usage: Usage
    looped: tuple[Span, ...] = ()
    cut: tuple[Span, ...] = ()
    reckoned: tuple[Span, ...] = ()


class PieceTranscriber:
    """Hears the pieces of one recording, several at a time. `asked` is the request for a piece, but for its samples.

    `known_language` says what was heard in the recording so far, "" at first. `known` is what was heard in the same
    pieces before. `before_next` is awaited before each background piece but the first. `started` is set when the model
    began with the first piece, or none has to.
    """

    def __init__(
        self,
        hear: Hear,
        asked: PieceRequest,
        converter: Converter,
        script: Script,
        known_language: Callable[[], str],
        known: KnownPieces,
        before_next: BeforeNext = at_once,
    ) -> None:
        self._hear = hear
        self._asked = asked
        self._converter = converter
        self._script = script
        self._known_language = known_language
        self._known = known
        self._before_next = before_next
        self.started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()

    def knows(self, samples: bytes) -> bool:
        """Whether no model has to be asked first of what is spoken in this piece."""
        return self._known.find(msgspec.structs.replace(self._asked, samples=samples)) is not None

    async def piece(self, samples: bytes, start: float, early: PartialText | None = None) -> Heard:
        """What is spoken in the piece that begins at `start`, in seconds. Raises what the model's runner raises.

        A piece whose text is cut or runs in a loop is heard again with a penalty on repetition, then in halves; what
        stays so is marked. A runner that died is asked once more. What `early` has told by then stays: the model goes
        on behind it, and there are no halves, since it doesn't say where in the sound it is. One that takes longer than
        its client waits is heard in halves too, or no retry would ever come further.
        """
        if self._asked.priority == "background" and self.started.done() and not self.knows(samples):
            await self._before_next()
        seconds = _seconds(samples)
        asked = msgspec.structs.replace(self._asked, samples=samples)
        if early is None and seconds >= SHORTEST_HALVED and self._known.given_up(asked) >= MOST_GIVEN_UP:
            return _together([await self.piece(*half) for half in _halves(samples, start)], Usage(0, 0))
        try:
            done, usage = await self._twice(samples, early)
        except asyncio.CancelledError:
            self._known.give_up(asked)
            raise
        told = len(early.told) if early else 0
        if _is_fine(done) or told or seconds < SHORTEST_HALVED:
            return await self._heard(done, usage, start, seconds, told)
        halves = []
        for half, begins in _halves(samples, start):
            half_done, half_usage = await self._twice(half)
            halves.append(await self._heard(half_done, half_usage, begins, _seconds(half)))
        return _together(halves, usage)

    async def _twice(self, samples: bytes, early: PartialText | None = None) -> tuple[PieceDone, Usage]:
        """The better of one or two answers, and what both took. The second goes on behind what was told of the first;
        where that is nothing, it isn't told early."""
        asked = msgspec.structs.replace(self._asked, samples=samples)
        done = await self._ask(asked, early)
        if (other := asked_again(asked, done, self._known_language())) is None:
            return done, done.usage
        if early is not None and early.told:
            again = better = await self._ask(early.continued(other), early)
        else:
            again = await self._ask(other)
            better = _better(done, again)
        return better, added(done.usage, again.usage)

    async def _ask(self, request: PieceRequest, early: PartialText | None = None) -> PieceDone:
        def again() -> Awaitable[PieceDone]:
            nonlocal request
            request = early.continued(request) if early is not None else request
            return self._ask_once(request, early)

        done = await retry_on_death(lambda: self._ask_once(request, early), again)
        return msgspec.structs.replace(done, language=request.language or done.language)

    async def _ask_once(self, request: PieceRequest, early: PartialText | None) -> PieceDone:
        if known := self._known.find(request):
            if not self.started.done():
                self.started.set_result(Started(request.model, 0))
            return known
        if early is not None:
            early.begin()
        async with aclosing(self._hear(request)) as events:
            async for event in events:
                if isinstance(event, PieceDone):
                    self._known.keep(request, event)
                    return event
                if isinstance(event, PieceText) and early is not None:
                    early.take(event)
                elif isinstance(event, Started) and not self.started.done():
                    self.started.set_result(event)
        raise InternalError("The model's answer broke off. Try again.")

    async def _heard(self, done: PieceDone, usage: Usage, start: float, seconds: float, told: int = 0) -> Heard:
        """The text's first `told` characters stay as they are."""
        span = (start, start + seconds)
        looped = has_loop(done.segments)
        segments = collapsed_segments(done.segments, told) if looped else done.segments
        segments = await self._converter.segments(segments, self._script, done.language)
        if len(segments) == 1 and segments[0].approximate:
            whole = msgspec.structs.replace(segments[0], looped=looped)
            text, timed = whole.text, _apportioned(whole, span)
        else:
            timed = placed(segments, *span)
            text = join(segment.text for segment in timed)
        if done.misaligned:
            timed = tuple(msgspec.structs.replace(one, words=reckoned(one)) for one in timed)
        is_cut = done.finish_reason == "length" and not looped
        return Heard(text, timed, done.language, usage, (span,) * looped, (span,) * is_cut, (span,) * done.misaligned)


def asked_again(asked: PieceRequest, done: PieceDone, known_language: str) -> PieceRequest | None:
    """What to ask instead after such an answer; None if it will do. `known_language` is what was heard before, "" at
    first.

    There is sound in every piece, so an empty answer is suspect: of the language, which models hear nothing in where it
    is the wrong one, unless others were heard in it. Not where the model says that nobody speaks: asked again in a
    language, it writes something. Nor does it write anything else than "None" where it can't say so.
    """
    if not _is_fine(done):
        return msgspec.structs.replace(asked, repetition_penalty=max(PENALTY, asked.repetition_penalty))
    if done.no_speech:
        return None
    if asked.language and NOBODY.fullmatch(_text(done)):
        return msgspec.structs.replace(asked, language="")
    if _text(done) or bool(asked.language) == bool(known_language):
        return None
    return msgspec.structs.replace(asked, language="" if asked.language else known_language)


def quietest(samples: bytes) -> int:
    """Where to cut, in bytes: within the quietest tenth of a second in the middle third."""
    sound = memoryview(samples).cast("f")
    step = _WINDOW // 2
    energy = {
        at: sum(map(abs, sound[at : at + _WINDOW : _STRIDE]))
        for at in range(len(sound) // 3, max(2 * len(sound) // 3 - _WINDOW, len(sound) // 3 + 1), step)
    }
    middle = (len(sound) - _WINDOW) // 2
    return (min(energy, key=lambda at: (energy[at], abs(at - middle))) + step) * _SAMPLE


def _halves(samples: bytes, start: float) -> tuple[tuple[bytes, float], tuple[bytes, float]]:
    """Both, with when they begin."""
    at = quietest(samples)
    return (samples[:at], start), (samples[at:], start + _seconds(samples[:at]))


def added(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
    )


def _together(halves: list[Heard], spent: Usage) -> Heard:
    one, other = halves
    return Heard(
        join((one.text, other.text)),
        one.segments + other.segments,
        one.language or other.language,
        added(added(one.usage, other.usage), spent),
        one.looped + other.looped,
        one.cut + other.cut,
        one.reckoned + other.reckoned,
    )


def _apportioned(whole: Segment, span: Span) -> tuple[Segment, ...]:
    """A segment without times as ones of about a sentence, each with its figures."""
    return tuple(
        msgspec.structs.replace(whole, start=one.start, end=one.end, text=one.text)
        for one in apportioned(whole.text, *span)
    )


def _is_fine(done: PieceDone) -> bool:
    return done.finish_reason == "stop" and not has_loop(done.segments)


def _better(done: PieceDone, again: PieceDone) -> PieceDone:
    """Somebody may say "None": that stands unless the second answer says that nobody speaks."""
    if (_is_fine(done) and not _is_fine(again)) or (NOBODY.fullmatch(_text(done)) and not again.no_speech):
        return done
    return again


def _text(done: PieceDone) -> str:
    return "".join(segment.text for segment in done.segments).strip()


def _seconds(samples: bytes) -> float:
    return len(samples) / (_SAMPLE * EAR_RATE)
