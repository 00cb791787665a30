"""Which parts of a text have a time of their own, and times that can't be → times that can. Pure."""

import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from engines.text.characters import SPACELESS

# Of what stands between spaces: one character of a script that has none, or all up to the next such.
_PART = re.compile(rf"{SPACELESS.pattern}|(?:(?!{SPACELESS.pattern}).)+", re.DOTALL)
_APOSTROPHES = "'’"


class Unit(msgspec.Struct, frozen=True):
    """A word, or a character of a script without spaces: as it is written, and what of it is spoken."""

    text: str
    spoken: str


def units(text: str) -> list[Unit]:
    """All words and characters that are spoken, in order; marks around them are left out."""
    found: list[Unit] = []
    for word in unicodedata.normalize("NFC", text).split():
        for part in _PART.findall(word):
            unit = _unit(part)
            found += [unit] if unit.text else []
    return found


def mended(times: Sequence[float], end: float) -> list[float]:
    """Times in [0, end] that never go back, most of which are the given ones.

    Of the given ones those of the longest rising row stay. Others lie evenly between their neighbours.
    """
    kept = _longest_rising(times)
    if not kept:
        return []
    anchors = [(-1, times[kept[0]]), *((place, times[place]) for place in kept), (len(times), times[kept[-1]])]
    result: list[float] = []
    for (before, low), (after, high) in itertools.pairwise(anchors):
        step = (high - low) / (after - before)
        result += [low + step * count for count in range(1, after - before)]
        result.append(high)
    return [min(max(time, 0.0), end) for time in result[: len(times)]]


def _unit(part: str) -> Unit:
    """Without the marks around it; what is spoken is without those in it, but for that of "don't"."""
    kept = [place for place, character in enumerate(part) if unicodedata.category(character)[0] in "LMN"]
    text = part[kept[0] : kept[-1] + 1] if kept else ""
    spoken = "".join(one for one in text if one in _APOSTROPHES or unicodedata.category(one)[0] in "LMN")
    return Unit(text, spoken.replace("’", "'"))


def _longest_rising(times: Sequence[float]) -> list[int]:
    """The places of a longest row of times that never falls; of several, the one that ends lowest."""
    tops: list[float] = []  # the lowest end of a row of each length, and its place
    places: list[int] = []
    before: list[int] = []
    for place, time in enumerate(times):
        length = bisect_right(tops, time)
        before.append(places[length - 1] if length else -1)
        tops[length : length + 1] = [time]
        places[length : length + 1] = [place]
    return list(_back(before, places[-1]))[::-1] if places else []


def _back(before: Sequence[int], place: int) -> Iterator[int]:
    while place >= 0:
        yield place
        place = before[place]
