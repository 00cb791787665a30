"""Text of any length → pieces that a model speaks well in one go. Pure.

Pieces end where sentences do; where those are too long, at commas, at blanks, and last between any two characters that
aren't part of one number, word or address. Short sentences share a piece. Lengths are seconds of reading.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from engines.synthesis.duration_check import BEFORE, usual_seconds
from engines.text.speakable import is_spoken

TARGET, LONGEST, LAST_RESORT = 10.0, 16.0, 40.0
FIRST = 4.0  # so that the first sound can follow soon
LEAST_FILLED = 0.7
PARAGRAPH, SENTENCE, COMMA, NOWHERE = 0.45, 0.25, 0.1, 0.0  # pauses

_CLOSING = "”’\"'」』）)】》〉］\\]}»"
_ENDS = re.compile(
    rf"(?:[。！？；｡！？؟۔।॥]|…+|\.{{3,}})+[{_CLOSING}]*(?=\S|\s|$)"  # these end a sentence whatever follows
    rf"|[.!?;]+[{_CLOSING}]*(?=\s|$)"  # these only before a blank
    rf"|[!?;]+[{_CLOSING}]*(?=[\u2e80-\u9fff\uac00-\ud7ff\uff00-\uffef])"
)
_COMMAS = re.compile(rf"[，、：—–][{_CLOSING}]*|[,:][{_CLOSING}]*(?=\s)")
# A title or an initial before the blank, or a numeral that opens a line: no end of a sentence.
_ABBREVIATED = re.compile(
    r"(?:\b(?i:mr|mrs|ms|dr|prof|st|vs|fig|vol|jr|sr|inc|ltd|bzw|e\.g|i\.e|z\.b|d\.h)|\b[A-Z]|^\s*\d{1,3})\.$"
)
# What is never cut in two: addresses, numbers with all that belongs to them, words, characters with their marks.
_ATOMS = re.compile(
    r"(?:https?://|www\.)[!-~]+|[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,64}(?:\.[A-Za-z0-9-]{1,64})+"
    r"|[+\-−$€£¥#]?\d+(?:[.,:/\-–'’]\d+)*(?:\s?[%‰°])?"
    r"|[^\W\d_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+(?:['’\-][^\W\d_]+)*"
    r"|.[\u0300-\u036f\u0900-\u0903\u093a-\u094f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u200c\u200d\ufe00-\ufe0f]*",
    re.DOTALL,
)


class TextPiece(msgspec.Struct, frozen=True):
    """What is spoken in one go, and the seconds of silence after it."""

    text: str
    pause: float


def split(text: str, *, soon: bool = False) -> tuple[TextPiece, ...]:
    """Of `speakable` text. `soon`: the first piece is short where a sentence is.

    Nothing but blanks is lost; the last piece has no pause.
    """
    pieces: list[TextPiece] = []
    for line in text.split("\n"):
        sentences = [part for whole in _parts(line, _ENDS, _ends_here) for part in _shortened(whole)]
        merged = _merged(sentences, FIRST if soon and not pieces else TARGET)
        pieces += [*merged[:-1], *(TextPiece(one.text, PARAGRAPH) for one in merged[-1:])]
    spoken = _voiced(pieces)
    return (*spoken[:-1], *(TextPiece(one.text, 0.0) for one in spoken[-1:]))


def _parts(text: str, marks: re.Pattern[str], counts: Callable[[str, int, int], bool]) -> list[str]:
    """A text cut behind those of its marks that count."""
    parts, start = [], 0
    atoms = [match.span() for match in _ATOMS.finditer(text) if match.end() - match.start() > 1]
    for match in marks.finditer(text):
        if counts(text, match.start(), match.end()) and not _inside(match.start(), match.end(), atoms):
            parts.append(text[start : match.end()])
            start = match.end()
    return [part for part in (*parts, text[start:]) if part.strip()]


def _inside(start: int, end: int, atoms: Sequence[tuple[int, int]]) -> bool:
    """Whether something goes on behind the mark that may not be cut."""
    low, high = 0, len(atoms)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if atoms[middle][1] <= end else (low, middle)
    return low < len(atoms) and atoms[low][0] < end


def _ends_here(text: str, start: int, end: int) -> bool:
    """Not behind an abbreviation, and not where a sentence goes on in small letters: `"Why?" she asked`."""
    mark = text[start:end]
    if mark[0] in ".!?" and mark[-1] != ";" and text[end : end + 2].strip().islower():
        return False
    return mark != "." or not _ABBREVIATED.search(text[max(0, start - 12) : end])


def _between(text: str, start: int, end: int) -> bool:
    """A comma or colon that isn't part of a number."""
    return not (text[start - 1 : start].isdigit() and text[end : end + 1].isdigit())


def _shortened(sentence: str) -> Iterator[TextPiece]:
    """A sentence whole, or in parts of equal length at its commas, at blanks, or where it must be."""
    if usual_seconds(sentence) <= LONGEST:
        yield TextPiece(sentence, SENTENCE)
        return
    clauses = [part for clause in _parts(sentence, _COMMAS, _between) for part in _cut(clause)]
    packed = _packed(clauses, _even(sentence))
    yield from (TextPiece(part, COMMA if _COMMAS.search(part[-2:]) else NOWHERE) for part in packed[:-1])
    yield TextPiece(packed[-1], SENTENCE)


def _cut(clause: str) -> list[str]:
    if usual_seconds(clause) <= LONGEST:
        return [clause]
    atoms = [part for atom in _ATOMS.findall(clause) for part in _broken(atom)]
    words: list[str] = []
    for atom in atoms:  # a mark stays with what it follows, a blank too
        if words and not is_spoken(atom):
            words[-1] += atom
        else:
            words.append(atom)
    return _packed(words, _even(clause))


def _broken(atom: str) -> list[str]:
    """An atom beyond all measure, which must be cut after all."""
    seconds = usual_seconds(atom)
    if seconds <= LAST_RESORT:
        return [atom]
    size = max(1, len(atom) * int(TARGET) // math.ceil(seconds))
    return [atom[start : start + size] for start in range(0, len(atom), size)]


def _even(text: str) -> float:
    """The length of parts of a text, if all are the same."""
    seconds = usual_seconds(text)
    return seconds / math.ceil(seconds / TARGET)


def _packed(parts: Sequence[str], most: float) -> list[str]:
    """Neighbours together, of about `most` seconds; what one has too much, others behind it have less."""
    packed: list[str] = []
    position = filled = 0.0
    for part in parts:
        seconds = usual_seconds(part) - BEFORE
        due = position + seconds / 2 > most * len(packed) and filled > most * LEAST_FILLED
        if packed and not due and filled + seconds / 2 <= most:
            packed[-1] += part
            filled += seconds
        else:
            packed.append(part)
            filled = seconds
        position += seconds
    return packed


def _merged(pieces: Sequence[TextPiece], first: float) -> list[TextPiece]:
    """Neighbours that are short, in one piece."""
    merged: list[TextPiece] = []
    filled = 0.0
    for piece in pieces:
        seconds = usual_seconds(piece.text)
        most = first if len(merged) == 1 else TARGET
        if merged and merged[-1].pause == SENTENCE and filled + seconds <= most:
            merged[-1] = TextPiece(merged[-1].text + piece.text, piece.pause)
            filled += seconds
        else:
            merged.append(piece)
            filled = seconds
    return [TextPiece(piece.text.strip(), piece.pause) for piece in merged]


def _voiced(pieces: Sequence[TextPiece]) -> list[TextPiece]:
    """What holds only marks goes with what is before it, or after it at the beginning."""
    voiced: list[TextPiece] = []
    for piece in pieces:
        if voiced and not (is_spoken(piece.text) and is_spoken(voiced[-1].text)):
            voiced[-1] = TextPiece(f"{voiced[-1].text} {piece.text}", piece.pause)
        else:
            voiced.append(piece)
    return voiced
