"""Segments as subtitles: cues that can be read in the time that they stand, as SubRip (srt) or WebVTT (vtt).

A cue has at most two lines of 42 columns (20 Han characters) and stands for at most seven seconds; where the next one
allows it, it stands long enough to be read. Cues are in order and never overlap, except those of channels that are
transcribed separately.
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from unicodedata import category, combining, east_asian_width

import msgspec

from engines.text.characters import CLAUSE_MARKS, CLOSING, SENTENCE_MARKS, SPACELESS
from engines.text.joining import join, labelled
from engines.text.timing import weight
from engines.types.audio import Segment

COLUMNS = 420  # a line, in tenths of a column
LONGEST = 7_000  # milliseconds, as what follows
_SHORTEST, _GAP, _LEAST = 1_000, 80, 100
_NARROW, _WIDE = 1_000 / 17, 1_000 / 9  # to read a character
_PAUSE = 2_000  # within a segment: a longer one begins a new cue
_NEAR = 500  # a cue joins a short one that ends less than this before it

_OPENING = "“‘「『（([【《〈"
_ATOM = re.compile(rf"{SPACELESS.pattern}[^\w\s]*|(?:(?!{SPACELESS.pattern})\S)+|\s+")
_ENDS = tuple(SENTENCE_MARKS + CLAUSE_MARKS + ".")
_NOT_FIRST = CLOSING + SENTENCE_MARKS + CLAUSE_MARKS + "."


class Cue(msgspec.Struct, frozen=True):
    """One or two lines, and when they stand, in milliseconds. `channel` as in `Segment`."""

    start: int
    end: int
    lines: tuple[str, ...]
    channel: int = 0


class _Atom(msgspec.Struct, frozen=True):
    """Text that is never split, with the space after it."""

    text: str
    start: int
    end: int


def cues(segments: Sequence[Segment]) -> tuple[Cue, ...]:
    """The cues for all segments, in order. Their text is the segments', but for space. For a thread if it is long."""
    made: list[Cue] = []
    for channel in sorted({segment.channel for segment in segments}):
        own = [segment for segment in segments if segment.channel == channel]
        drafts = [draft for segment in own for draft in _drafts(_atoms(segment))]
        made += (msgspec.structs.replace(cue, channel=channel) for cue in _timed(_merged(drafts)))
    return tuple(sorted(made, key=lambda cue: cue.start))


def srt(cues: Iterable[Cue]) -> str:
    """SubRip: numbered cues. It has no escapes, so an arrow of its syntax in the text becomes a real one."""
    blocks = []
    for number, cue in enumerate(cues, 1):
        named = f"{labelled(cue.channel)}: " if cue.channel else ""
        text = named + "\n".join(cue.lines).replace("-->", "→")
        blocks.append(f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{text}\n")
    return "\n".join(blocks)


def vtt(cues: Iterable[Cue]) -> str:
    """WebVTT, with `&`, `<` and `>` escaped; a channel is its voice."""
    blocks = ["WEBVTT\n"]
    for cue in cues:
        named = f"<v {labelled(cue.channel)}>" if cue.channel else ""
        text = named + html.escape("\n".join(cue.lines), quote=False)
        blocks.append(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _clock(milliseconds: int, point: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"


# -- text with times ----------------------------------------------------------------------------------------------


def _atoms(segment: Segment) -> list[_Atom]:
    text = " ".join("".join(" " if category(c) == "Cc" else c for c in segment.text).split())
    spans = _spans_of_words(segment, text) or [(text, segment.start, segment.end)]
    return [atom for part, start, end in spans for atom in _divided(part, round(start * 1_000), round(end * 1_000))]


def _spans_of_words(segment: Segment, text: str) -> list[tuple[str, float, float]]:
    """The text in stretches that begin with a word, with its times; none if the words aren't those of the text."""
    spans: list[tuple[str, float, float]] = []
    begins: list[int] = []
    cursor = 0
    for word in segment.words:
        if not (spoken := " ".join(word.text.split())):
            continue
        at = text.find(spoken, cursor)
        if at < 0:
            return []
        begins.append(at)
        spans.append(("", word.start, word.end))
        cursor = at + len(spoken)
    begins = [0, *begins[1:], len(text)]
    return [
        (text[begin:stop], start, end)
        for (_, start, end), begin, stop in zip(spans, begins, begins[1:], strict=False)
        if begin < stop
    ]


def _divided(text: str, start: int, end: int) -> Iterator[_Atom]:
    """Words, or characters of scripts without spaces, no wider than a line, with times by what they take to say."""
    parts: list[str] = []
    for found in _ATOM.findall(text):
        if parts and (found.isspace() or (found[0] in _NOT_FIRST and not parts[-1].endswith(" "))):
            parts[-1] += found
        else:
            parts.append(found)
    parts = [narrow for part in parts for narrow in _narrow(part)]
    total = sum(map(weight, parts)) or 1.0
    done, since = 0.0, start
    for part in parts:
        done += weight(part)
        until = min(start + round((end - start) * done / total), max(end, start))
        yield _Atom(part, since, until)
        since = until


def _narrow(word: str) -> Iterator[str]:
    line, used = "", 0
    for character in word:
        if line and used + _columns(character) > COLUMNS:
            yield line
            line, used = "", 0
        line += character
        used += _columns(character)
    yield line


# -- cues out of atoms --------------------------------------------------------------------------------------------


def _drafts(atoms: Sequence[_Atom]) -> Iterator[Cue]:
    """As much as fits in each cue, which ends at a mark rather than where it is full."""
    first = 0
    while first < len(atoms):
        stop = first + 1
        while stop < len(atoms) and _fits(atoms[first : stop + 1]):
            stop += 1
        if stop < len(atoms):
            stop = _at_a_mark(atoms, first, stop)
        together = atoms[first:stop]
        if lines := _lines("".join(atom.text for atom in together)):
            yield Cue(together[0].start, together[-1].end, lines)
        first = stop


def _fits(atoms: Sequence[_Atom]) -> bool:
    if atoms[-1].end - atoms[0].start > LONGEST or atoms[-1].start - atoms[-2].end > _PAUSE:
        return False
    return bool(_lines("".join(atom.text for atom in atoms)))


def _at_a_mark(atoms: Sequence[_Atom], first: int, stop: int) -> int:
    """After the last sentence, or else clause, that ends past the first third of the text that would fit."""
    for marks in (SENTENCE_MARKS + ".", CLAUSE_MARKS):
        for at in range(stop, first + (stop - first) // 3, -1):
            if atoms[at - 1].text.rstrip().rstrip(CLOSING).endswith(tuple(marks)):
                return at
    return stop


def _lines(text: str) -> tuple[str, ...]:
    """The text on one line, or on two that are about as long; nothing if it needs more, or is none.

    A line ends within a word only where there is nothing but this word.
    """
    text = text.strip()
    widths = list(accumulate(map(_columns, text), initial=0))
    if widths[-1] <= COLUMNS:
        return (text,) if text else ()
    best: tuple[int, int] | None = None
    for at in [at for at in range(1, len(text)) if _breaks(text[at - 1], text[at])] or range(1, len(text)):
        one = widths[at] - (10 if text[at - 1].isspace() else 0)
        other = widths[-1] - widths[at] - (10 if text[at].isspace() else 0)
        if one <= COLUMNS and other <= COLUMNS:
            cost = abs(one - other) + _ugliness(text, at)
            best = min(best, (cost, at)) if best else (cost, at)
    return (text[: best[1]].rstrip(), text[best[1] :].lstrip()) if best else ()


def _ugliness(text: str, at: int) -> int:
    """What a line that ends here costs, in tenths of a column of difference."""
    return 0 if text[:at].rstrip()[-1] in _ENDS else 150


def _breaks(before: str, after: str) -> bool:
    """Whether a line may end between two characters."""
    if before.isspace() or after.isspace():
        return True
    if after in _NOT_FIRST or before in _OPENING or combining(after):
        return False
    return bool(SPACELESS.match(before) or SPACELESS.match(after))


def _columns(character: str) -> int:
    """Tenths of a column."""
    if combining(character):
        return 0
    return 21 if east_asian_width(character) in "WF" else 10


def _merged(drafts: Sequence[Cue]) -> list[Cue]:
    """With cues that are too short to stand alone joined to the next one, if that comes at once and there is room."""
    merged: list[Cue] = []
    for cue in drafts:
        last = merged[-1] if merged else None
        if last and min(last.end - last.start, cue.end - cue.start) < _SHORTEST and cue.start - last.end <= _NEAR:
            lines = _lines(join([*last.lines, *cue.lines]))
            if lines and cue.end - last.start <= LONGEST:
                merged[-1] = Cue(last.start, cue.end, lines)
                continue
        merged.append(cue)
    return merged


def _timed(drafts: Sequence[Cue]) -> Iterator[Cue]:
    """Each cue as long as it takes to read, if the next one lets it; a little gap before that, and no overlap."""
    ended = 0
    for number, cue in enumerate(drafts):
        start = max(cue.start, ended)
        following = drafts[number + 1].start if number + 1 < len(drafts) else start + LONGEST + _GAP
        wanted = max(cue.end, start + _reading(cue), start + _SHORTEST)
        end = min(wanted, following - _GAP, start + LONGEST)
        ended = max(end, start + _LEAST)
        yield msgspec.structs.replace(cue, start=start, end=ended)


def _reading(cue: Cue) -> int:
    return round(sum(_WIDE if _columns(c) > 10 else _NARROW for line in cue.lines for c in line))
