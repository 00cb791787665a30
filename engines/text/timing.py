"""Estimated times for text without any, by how long each character takes to say."""

import math
import re
from collections.abc import Iterator, Sequence

import msgspec

from engines.text.characters import (
    CLAUSE_MARKS,
    CLOSING,
    SENTENCE_MARKS,
    SPACELESS,
    WIDE_CLAUSE_MARKS,
    WIDE_SENTENCE_MARKS,
)
from engines.types.audio import Segment, Word

LONGEST = 32.0  # syllables or so
_LONGEST_SECONDS, _SHORTEST = 7.0, 8.0  # in slow speech no longer than this, but at least this many syllables

# An ASCII mark ends a clause only before a space or a closing mark: not in 3.14, nor in an address.
_BEHIND = rf"(?=[\s{re.escape(CLOSING)}]|{SPACELESS.pattern}|$)"
_SENTENCE_END = re.compile(rf"(?:[.!?]+{_BEHIND}|[{WIDE_SENTENCE_MARKS}]+[!?]*)[{re.escape(CLOSING)}]*|\n+")
_CLAUSE_END = re.compile(rf"(?:[,:;]{_BEHIND}|[{WIDE_CLAUSE_MARKS}])[{re.escape(CLOSING)}]*")
_ATOM = re.compile(rf"{SPACELESS.pattern}[^\w\s]*\s*|(?:(?!{SPACELESS.pattern})\S)+\s*|\s+")
_KANA = re.compile(r"[\u3041-\u30ff]")


def apportioned(text: str, start: float, end: float) -> tuple[Segment, ...]:
    """The text from `start` to `end` in seconds, as segments of a sentence, or clauses of one, that fill that time.

    Only white space is dropped. The segments have no gaps and no overlaps.
    """
    rate = weight(text) / (end - start) if end > start else LONGEST
    stretches = list(_stretches(text, min(LONGEST, max(_LONGEST_SECONDS * rate, _SHORTEST))))
    total = sum(map(weight, stretches)) or 1.0
    segments: list[Segment] = []
    done, since = 0.0, start
    for number, stretch in enumerate(stretches, 1):
        done += weight(stretch)
        until = end if number == len(stretches) else min(max(start + (end - start) * done / total, since), end)
        segments.append(Segment(since, until, stretch, approximate=True))
        since = until
    return tuple(segments)


def by_words(text: str, words: Sequence[Word]) -> tuple[Segment, ...]:
    """The text as segments of a sentence, or clauses of one, each from its first word's beginning to its last's end.

    `words` are those of the text, in order, without its marks. A segment without words ends where the one before it
    does.
    """
    segments: list[Segment] = []
    left = list(words)
    since = left[0].start if left else 0.0
    for stretch in _stretches(text, LONGEST):
        own: list[Word] = []
        letters = _letters(stretch)
        while left and letters > 0:
            letters -= max(_letters(left[0].text), 1)
            own.append(left.pop(0))
        end = own[-1].end if own else since
        segments.append(Segment(own[0].start if own else since, end, stretch, words=tuple(own)))
        since = end
    if left and segments:
        last = segments[-1]
        segments[-1] = msgspec.structs.replace(last, end=left[-1].end, words=(*last.words, *left))
    return tuple(segments)


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def placed(segments: Sequence[Segment], start: float, end: float) -> tuple[Segment, ...]:
    """Moves the times of segments from a piece to its recording, where the piece is from `start` to `end`, in seconds.

    Whatever the model returns, times are in order, without overlaps, and within the piece. Empty segments are dropped.
    """
    result: list[Segment] = []
    since = start
    for segment in segments:
        if not (text := segment.text.strip()):
            continue
        first = min(max(start + segment.start, since), end)
        last = min(max(start + segment.end, first), end)
        words = _placed_words(segment.words, start, first, last)
        result.append(msgspec.structs.replace(segment, start=first, end=last, text=text, words=words))
        since = last
    return tuple(result)


def weight(text: str) -> float:
    """The approximate number of syllables, with the pauses of marks."""
    return sum(map(_character_weight, text))


def _placed_words(words: Sequence[Word], offset: float, start: float, end: float) -> tuple[Word, ...]:
    result: list[Word] = []
    since = start
    for word in words:
        first = min(max(offset + word.start, since), end)
        last = min(max(offset + word.end, first), end)
        result.append(msgspec.structs.replace(word, start=first, end=last))
        since = last
    return tuple(result)


def _character_weight(character: str) -> float:
    if character in SENTENCE_MARKS or character == ".":
        return 1.5
    if character in CLAUSE_MARKS:
        return 0.8
    if character.isdigit():
        return 0.9
    if not character.isalpha():
        return 0.05
    if _KANA.match(character):
        return 0.7
    return 1.0 if SPACELESS.match(character) or "\uac00" <= character <= "\ud7a3" else 0.35


def _stretches(text: str, longest: float) -> Iterator[str]:
    """Stripped sentences; ones over `longest` are split into clauses, and clauses over it by length."""
    for sentence in _with_letters(_split(text, _SENTENCE_END)):
        if weight(sentence) <= longest:
            yield sentence.strip()
        else:
            clauses = [part for clause in _split(sentence, _CLAUSE_END) for part in _by_length(clause, longest)]
            yield from (stretch.strip() for stretch in _filled(_with_letters(clauses), longest))


def _split(text: str, ends: re.Pattern[str]) -> list[str]:
    """Splits after each match; the parts joined are the text."""
    cuts = [0, *(match.end() for match in ends.finditer(text)), len(text)]
    return [text[start:end] for start, end in zip(cuts, cuts[1:], strict=False) if start < end]


def _with_letters(parts: Sequence[str]) -> list[str]:
    """Joins parts of only marks or space to the part before, or, for the first, to the part after."""
    joined: list[str] = []
    for part in parts:
        if joined and not (any(map(str.isalnum, part)) and any(map(str.isalnum, joined[-1]))):
            joined[-1] += part
        else:
            joined.append(part)
    return [part for part in joined if part.strip()]


def _by_length(text: str, longest: float) -> Iterator[str]:
    """Parts of about the same weight, not over `longest`, cut at spaces or between characters written without."""
    total = weight(text)
    share = total / max(math.ceil(total / longest), 1)
    part, done, limit = "", 0.0, share
    for atom in _ATOM.findall(text):
        if part and done + weight(atom) / 2 > limit:
            yield part
            part, limit = "", limit + share
        part += atom
        done += weight(atom)
    if part:
        yield part


def _filled(parts: Sequence[str], longest: float) -> Iterator[str]:
    """Joins neighbours while their weight stays within `longest`."""
    whole = ""
    for part in parts:
        if whole and weight(whole) + weight(part) > longest:
            yield whole
            whole = ""
        whole += part
    if whole:
        yield whole
