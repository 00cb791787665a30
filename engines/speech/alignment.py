"""When the words of a given text are spoken in a recording."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from engines.audio_types import EAR_RATE, Aligned, AlignmentDone, AlignmentRequest, AlignRequest
from engines.errors import InternalError, InvalidRequest, RunnerDied
from engines.media.client import Decoded
from engines.speech.joining import clock
from engines.speech.languages import parse
from engines.types import Started

MOST_SECONDS = 300.0

Place = Callable[[AlignmentRequest], AsyncGenerator[Started | AlignmentDone]]

_KANA = re.compile(r"[\u3041-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_CANTONESE = re.compile(r"[嘅咗喺啲唔冇佢嚟嗰哋嘢咁㗎]")


class Clips(Protocol):
    """What is needed of `media.client.Media`."""

    async def decode(self, path: str, rate: int, longest_seconds: float) -> Decoded: ...


class Alignment:
    """`name` gives a model's main name; it raises `UnknownModel` or `WrongCapability`, and loads nothing."""

    def __init__(self, media: Clips, name: Callable[[str], Awaitable[str]], place: Place) -> None:
        self._media = media
        self._name = name
        self._place = place

    async def run(self, request: AlignRequest) -> Aligned:
        """The words with their times. Raises `InvalidRequest` for a text without words, or a file that is no recording,
        is cut, or is longer than `MOST_SECONDS`; no model is loaded for those."""
        language = parse(request.language)
        if not any(map(str.isalnum, request.text)):
            raise InvalidRequest("The text has no words to find in the recording: give what is spoken.", param="text")
        model = await self._name(request.model)
        clip = await self._media.decode(request.path, EAR_RATE, MOST_SECONDS)
        if clip.cut:
            raise InvalidRequest(
                f"The file is damaged or cut off: only {clock(clip.seconds)} could be read. Send it again whole.",
                param="file",
            )
        asked = AlignmentRequest(
            model, clip.samples, request.text, language or guessed_language(request.text), request.trace
        )
        done = await aligned(self._place, asked)
        return Aligned(done.words, asked.language, clip.seconds)


async def aligned(place: Place, request: AlignmentRequest) -> AlignmentDone:
    """What a model says of one piece. A runner that died is asked once more."""
    try:
        return await _once(place, request)
    except RunnerDied:
        return await _once(place, request)


async def _once(place: Place, request: AlignmentRequest) -> AlignmentDone:
    async with aclosing(place(request)) as events:
        async for event in events:
            if isinstance(event, AlignmentDone):
                return event
    raise InternalError("The model's answer broke off. Try again.")


def guessed_language(text: str) -> str:
    """The language that a text's script speaks for: how it is cut into words depends on no more than that."""
    if _KANA.search(text):
        return "ja"
    if _HANGUL.search(text):
        return "ko"
    if _HAN.search(text):
        return "yue" if _CANTONESE.search(text) else "zh"
    return "en"
