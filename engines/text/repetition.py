"""Hallucination loops: found in a text, and cut to one repetition.

Transcription models fall into loops on bad sound: a word or phrase over and over, up to the limit of tokens.
People repeat themselves too. So a loop is a phrase of 1 to 40 units (a word, or a character of a script without
spaces) that is repeated in a row: 24 times for one unit (laughter, 哈哈哈, counting "no no no"), 12 for two,
8 for three, and 6 for four or more (chants, choruses). Case and marks between don't matter. Figures and words of more
than 30 letters are taken letter by letter: 88888888 is a number, a hundred 8s are a loop.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from engines.text.characters import UNIT
from engines.types.audio import Segment, Word

LONGEST_PHRASE = 40  # units
_FEWEST_UNITS, _FEWEST_TIMES = 24, 6
_LONGEST_WORD = 30  # letters
_SEPARATOR = "\n"
_MARKS = re.compile(r"[^\w\n]*")


class TextLoop(msgspec.Struct, frozen=True):
    """`text[start:end]` repeats `text[start:once]`. Cutting it to one repetition removes `text[once:end]`."""

    start: int
    once: int
    end: int
    times: int


def find(text: str) -> tuple[TextLoop, ...]:
    """The loops in a text, in order; they don't overlap. Takes time in proportion to its length."""
    spans = [span for word in UNIT.finditer(text) for span in units_in(word)]
    units = [text[start:end].casefold() for start, end in spans]
    periods = [(period, _repeated(units, period)) for period in range(1, min(LONGEST_PHRASE, len(units) // 2) + 1)]
    found: list[TextLoop] = []
    at = 0
    while at < len(units):
        period = next((period for period, repeated in periods if _is_loop(repeated, at, period)), 0)
        if not period:
            at += 1
            continue
        end = at + period + dict(periods)[period][at + period]
        if end < len(units):
            end -= (end - at) % period  # what is broken off by the text's end belongs to the loop
        once, last = _with_marks(text, spans[at + period - 1][1], spans[end - 1][1])
        found.append(TextLoop(spans[at][0], once, last, (end - at) // period))
        at = end
    return tuple(found)


def collapsed(text: str, told: int = 0) -> str:
    """The text with each loop cut to one repetition; itself when there is none. Its first `told` characters stay."""
    while loops := _behind(told, find(text)):
        for loop in reversed(loops):
            text = text[: loop.once] + text[loop.end :]
    return text


def collapsed_segments(segments: Sequence[Segment], told: int = 0) -> tuple[Segment, ...]:
    """Loops cut to one, also across segments; segments that a loop covers are marked `looped`.

    The remaining words keep their times; empty segments are removed. The first `told` characters of the first segment
    stay.
    """
    kept = tuple(segments)
    while loops := _behind(told, find(_SEPARATOR.join(segment.text for segment in kept))):
        kept = _without(kept, loops)
    return kept


def has_loop(segments: Sequence[Segment]) -> bool:
    """Whether there is a loop in the segments' joined text."""
    return bool(find(_SEPARATOR.join(segment.text for segment in segments)))


def _behind(told: int, loops: Sequence[TextLoop]) -> list[TextLoop]:
    """The loops, moved so that cutting them keeps the first `told` characters."""
    return [msgspec.structs.replace(loop, once=max(loop.once, told)) for loop in loops if loop.end > told]


def fewest_repeated(period: int) -> int:
    """How many units in a row make a loop if each is the same as `period` before it."""
    return period * (max(_FEWEST_TIMES, _FEWEST_UNITS // period) - 1)


def units_in(word: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Where the units begin and end in what `UNIT` has found: one, or each letter of a word that is too long."""
    start, end = word.span()
    yield from [(start, end)] if end - start <= _LONGEST_WORD else ((at, at + 1) for at in range(start, end))


def _with_marks(text: str, once: int, end: int) -> tuple[int, int]:
    """Where a line or the text ends with a repetition, the first one keeps its own marks instead of the last one's."""
    if end < len(text) and (marks := _MARKS.match(text, once)) and text[marks.end()] != _SEPARATOR:
        return once, end
    first, last = _MARKS.match(text, once), _MARKS.match(text, end)
    return first.end() if first else once, last.end() if last else end


def _repeated(units: Sequence[str], period: int) -> list[int]:
    """For each index, how many units in a row, starting there, equal the unit `period` before them."""
    repeated = [0] * (len(units) + 1)
    for at in range(len(units) - 1, period - 1, -1):
        repeated[at] = repeated[at + 1] + 1 if units[at] == units[at - period] else 0
    return repeated


def _is_loop(repeated: Sequence[int], at: int, period: int) -> bool:
    return at + period < len(repeated) and repeated[at + period] >= fewest_repeated(period)


def _without(segments: Sequence[Segment], loops: Sequence[TextLoop]) -> tuple[Segment, ...]:
    left: list[Segment] = []
    offset = 0
    for segment in segments:
        end = offset + len(segment.text)
        touching = [loop for loop in loops if loop.start < end and loop.end > offset]
        if not touching:
            left.append(segment)
        else:
            cuts = [(max(loop.once - offset, 0), min(loop.end, end) - offset) for loop in touching if loop.once < end]
            if kept := _cut(segment, [(first, last) for first, last in cuts if first < last]):
                left.append(kept)
        offset = end + len(_SEPARATOR)
    return tuple(left)


def _cut(segment: Segment, cuts: Sequence[tuple[int, int]]) -> Segment | None:
    """The segment without these stretches of its text, nor the words in them; None if no unit is left."""
    text, words = segment.text, list(_located(segment))
    for start, end in reversed(cuts):
        text = text[:start] + text[end:]
    if not UNIT.search(text):
        return None
    kept = tuple(word for word, at in words if not any(start <= at < end for start, end in cuts))
    return msgspec.structs.replace(segment, text=text, words=kept, looped=True)


def _located(segment: Segment) -> list[tuple[Word, int]]:
    """The words, each with where it stands in the segment's text; words that aren't found there are at -1."""
    found: list[tuple[Word, int]] = []
    cursor = 0
    for word in segment.words:
        at = segment.text.find(word.text.strip(), cursor)
        found.append((word, at))
        cursor = max(cursor, at + len(word.text.strip()))
    return found
