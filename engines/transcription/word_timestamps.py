"""Times of words for a model that writes text alone: another one, the aligner, finds them in the same sound."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from engines.text.repetition import has_loop
from engines.text.timing import by_words
from engines.transcription.alignment import Place, aligned, guessed_language
from engines.transcription.piece import Hear
from engines.transcription.word_times import is_plausible
from engines.types.audio import AlignmentRequest, PieceDone, PieceRequest
from engines.types.chat import Delta
from engines.types.common import Started
from engines.types.errors import InvalidRequest


class WithWords:
    """`hear` asks a model for text, then `aligner` when its words are spoken."""

    def __init__(self, hear: Hear, place: Place, aligner: str) -> None:
        self._hear = hear
        self._place = place
        self._aligner = aligner

    async def hear(self, request: PieceRequest) -> AsyncGenerator[Started | Delta | PieceDone]:
        """As the model's own; the last event's segments have words, unless it is `misaligned`."""
        async with aclosing(self._hear(msgspec.structs.replace(request, words=False))) as events:
            async for event in events:
                yield await self._timed(request, event) if isinstance(event, PieceDone) else event

    async def _timed(self, request: PieceRequest, done: PieceDone) -> PieceDone:
        """A loop isn't aligned: what was repeated was not spoken."""
        text = " ".join(segment.text for segment in done.segments)
        if not any(map(str.isalnum, text)) or has_loop(done.segments):
            return done
        language = done.language or guessed_language(text)
        asked = AlignmentRequest(self._aligner, request.samples, text, language, request.trace, request.priority)
        try:
            words = (await aligned(self._place, asked)).words
        except InvalidRequest as error:
            message = f"The times of words can't be found by {self._aligner}: {error.message} Ask for segments instead."
            raise InvalidRequest(message, param="timestamp_granularities") from error
        whole = done.segments[0]
        if not is_plausible(words, done.segments[-1].end):
            return msgspec.structs.replace(done, misaligned=True)
        segments = tuple(
            msgspec.structs.replace(
                whole, start=one.start, end=one.end, text=one.text, words=one.words, approximate=False
            )
            for one in by_words(text, words)
        )
        return msgspec.structs.replace(done, segments=segments)
