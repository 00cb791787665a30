"""When the words of a given text are spoken in a recording."""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from engines.media.client import WHOLE, Decoded, Selection
from engines.text.joining import clock, gaps
from engines.text.languages import parse
from engines.transcription.word_times import is_plausible, reckoned
from engines.types.audio import EAR_RATE, Aligned, AlignmentDone, AlignmentRequest, AlignRequest, Segment
from engines.types.common import Started
from engines.types.errors import InvalidRequest
from engines.types.streams import last, retry_on_death

MOST_SECONDS = 300.0

Place = Callable[[AlignmentRequest], AsyncGenerator[Started | AlignmentDone]]

_KANA = re.compile(r"[\u3041-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_CANTONESE = re.compile(r"[嘅咗喺啲唔冇佢嚟嗰哋嘢咁㗎]")
_UKRAINIAN = re.compile(r"[іїєґ]", re.IGNORECASE)
LETTERS_LOOKED_AT = 2000
# Scripts, as Unicode's names of their letters begin, and the language that most of what is written in them is in.
_SCRIPTS = {
    "CJK": "zh",
    "BOPOMOFO": "zh",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "GREEK": "el",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my",
    "TIBETAN": "bo",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "ETHIOPIC": "am",
}


class Clips(Protocol):
    """What is needed of `media.client.Media`."""

    async def decode(self, path: str, rate: int, longest_seconds: float, selection: Selection = WHOLE) -> Decoded: ...


class Alignment:
    """`model` gives a model's main name and how it is asked; it raises `UnknownModel` or `WrongCapability`, and loads
    nothing."""

    def __init__(self, media: Clips, model: Callable[[str], Awaitable[tuple[str, Place]]]) -> None:
        self._media = media
        self._model = model

    async def run(self, request: AlignRequest) -> Aligned:
        """The words with their times. Raises `InvalidRequest` for a text without words, or a file that is no recording,
        is cut, or is longer than `MOST_SECONDS`; no model is loaded for those."""
        language = parse(request.language)
        if not any(map(str.isalnum, request.text)):
            raise InvalidRequest("The text has no words to find in the recording: give what is spoken.", param="text")
        model, place = await self._model(request.model)
        selection = Selection(request.track, "mix" if request.channel is None else request.channel)
        clip = await self._media.decode(request.path, EAR_RATE, MOST_SECONDS, selection)
        if clip.cut:
            raise InvalidRequest(
                f"The file is damaged or cut off: only {clock(clip.seconds)} could be read. Send it again whole.",
                param="file",
            )
        if missing := gaps(clip.gaps):
            raise InvalidRequest(f"{missing[0]} Send it again whole.", param="file")
        asked = AlignmentRequest(
            model,
            clip.samples,
            request.text,
            language or guessed_language(request.text),
            request.trace,
            request.priority,
        )
        done = await aligned(place, asked)
        if is_plausible(done.words, clip.seconds):
            return Aligned(done.words, asked.language, clip.seconds, track=clip.track, tracks=clip.tracks)
        words = reckoned(Segment(0.0, clip.seconds, request.text))
        return Aligned(words, asked.language, clip.seconds, True, clip.track, clip.tracks)


async def aligned(place: Place, request: AlignmentRequest) -> AlignmentDone:
    """What a model says of one piece. A runner that died is asked once more."""
    return await retry_on_death(lambda: last(place(request), AlignmentDone))


def guessed_language(text: str) -> str:
    """The language that a text's script speaks for: how it is cut into words depends on no more than that.

    "" for Latin letters, which may be of too many, and for none at all.
    """
    if _KANA.search(text):
        return "ja"
    if _HANGUL.search(text):
        return "ko"
    if _HAN.search(text):
        return "yue" if _CANTONESE.search(text) else "zh"
    letters = itertools.islice(filter(str.isalpha, text), LETTERS_LOOKED_AT)
    scripts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in letters)
    code = _SCRIPTS.get(max(scripts, key=scripts.__getitem__, default=""), "")
    return "uk" if code == "ru" and _UKRAINIAN.search(text) else code
