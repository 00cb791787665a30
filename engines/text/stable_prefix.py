"""How much of a text that a model still writes may be told: nothing of it is ever taken back. Pure.

If the model falls into a loop, that is cut to one repetition. So what is the same as some units before, up to the end
of what is there, waits until it is known to be no loop; and a word waits until it has ended.
"""

import re
from collections import deque
from collections.abc import Iterator

from engines.text.characters import ALONE, UNIT, WITHIN_WORDS, WORD_GOES_ON
from engines.text.repetition import LONGEST_PHRASE, fewest_repeated, units_in

_LONG = 64  # characters; a word beyond isn't searched again with each of its parts


class Telling:
    """A text in the making, part by part. `told` is as much of its beginning as may be told.

    It ends where a part does, but for the white space behind it: from between two of its tokens a model goes on best.
    From a loop on nothing more may be told. Takes time in proportion to what is fed.
    """

    def __init__(self, told: str = "") -> None:
        """`told` is the text's beginning, and was told before."""
        self.told = told
        self._looped = False
        self._text = ""  # from the place `_base` on
        self._base = 0
        self._read = 0  # the place behind the last unit that is counted
        self._units: deque[str] = deque(maxlen=LONGEST_PHRASE)
        self._repeated = [0] * (LONGEST_PHRASE + 1)  # by period, how many of the last units are as that many before
        self._ends: deque[int] = deque()  # the places where units end: the last one that is safe, and those behind it
        self._stops: deque[int] = deque()  # the places behind `told` where parts end
        self._take(told)

    def feed(self, part: str) -> str:
        """What more may be told, with this part."""
        if part.strip():
            self._stops.append(self._base + len(self._text) + len(part.rstrip()))
        safe = 0 if self._looped else self._take(part)
        until = len(self.told)
        while not self._looped and self._stops and self._stops[0] <= safe:
            until = self._stops.popleft()
        more = self._text[len(self.told) - self._base : until - self._base]
        self.told += more
        return more

    def _take(self, text: str) -> int:
        """The place up to which no loop that may come can cut anything."""
        gone = min(self._read, len(self.told)) - self._base
        self._text, self._base = self._text[gone:] + text, self._base + gone
        for unit, end in self._ended(text):
            self._count(unit)
            self._ends.append(end)
        while len(self._ends) > max(self._repeated) + 1:
            self._ends.popleft()
        return self._ends[0] if self._ends else 0

    def _ended(self, more: str) -> Iterator[tuple[str, int]]:
        """The units that have ended, with `more` at the text's end, each with the place of its end."""
        if self._base + len(self._text) - self._read > _LONG and WORD_GOES_ON.fullmatch(more):
            return
        for word in UNIT.finditer(self._text, self._read - self._base):
            if _goes_on(self._text, word):
                self._read = self._base + word.start()
                return
            for start, end in units_in(word):
                yield self._text[start:end].casefold(), self._base + end
        self._read = self._base + len(self._text)

    def _count(self, unit: str) -> None:
        for period in range(1, len(self._units) + 1):
            same = self._units[-period] == unit
            self._repeated[period] = self._repeated[period] + 1 if same else 0
            self._looped = self._looped or self._repeated[period] >= fewest_repeated(period)
        self._units.append(unit)


def _goes_on(text: str, word: re.Match[str]) -> bool:
    """Whether what follows the text may belong to this unit."""
    behind = text[word.end() : word.end() + 2]
    return len(behind) < 2 and behind in WITHIN_WORDS and not ALONE.fullmatch(word[0])
