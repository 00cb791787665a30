"""The stable prefix of a text that is still being generated: the part that can be sent, as it can't change. Pure.

A hallucination loop is cut to one repetition. So units that repeat earlier ones, up to the end of the text, are held
back until it is known that they are no loop, and a word is held back until it has ended.
"""

import re
from collections import deque
from collections.abc import Iterator

from engines.text.characters import ALONE, UNIT, WITHIN_WORDS, WORD_GOES_ON
from engines.text.repetition import LONGEST_PHRASE, fewest_repeated, units_in

_LONG = 64  # characters; a word beyond isn't searched again with each of its parts


class StablePrefix:
    """A text that arrives in parts. `stable` is its stable prefix.

    The prefix ends at the end of a part, without trailing white space: a model continues best from a token's end.
    Once a loop is found it never grows. Takes time linear in the length of the parts.
    """

    def __init__(self, stable: str = "") -> None:
        """`stable` is the beginning of the text, sent before."""
        self.stable = stable
        self._looped = False
        self._text = ""  # from the index `_base` on
        self._base = 0
        self._read = 0  # the index after the last unit that is counted
        self._units: deque[str] = deque(maxlen=LONGEST_PHRASE)
        self._repeated = [0] * (LONGEST_PHRASE + 1)  # by period: how many last units equal the one that far before
        self._ends: deque[int] = deque()  # where units end: the last stable end, and those after it
        self._stops: deque[int] = deque()  # the indices after `stable` where parts end
        self._take(stable)

    def feed(self, part: str) -> str:
        """Adds a part; returns the text by which the stable prefix grows, which may be empty."""
        if part.strip():
            self._stops.append(self._base + len(self._text) + len(part.rstrip()))
        safe = 0 if self._looped else self._take(part)
        until = len(self.stable)
        while not self._looped and self._stops and self._stops[0] <= safe:
            until = self._stops.popleft()
        more = self._text[len(self.stable) - self._base : until - self._base]
        self.stable += more
        return more

    def _take(self, text: str) -> int:
        """The index up to which no later loop can cut anything."""
        gone = min(self._read, len(self.stable)) - self._base
        self._text, self._base = self._text[gone:] + text, self._base + gone
        for unit, end in self._ended(text):
            self._count(unit)
            self._ends.append(end)
        while len(self._ends) > max(self._repeated) + 1:
            self._ends.popleft()
        return self._ends[0] if self._ends else 0

    def _ended(self, more: str) -> Iterator[tuple[str, int]]:
        """The units that have ended, with `more` at the text's end, each with the index of its end."""
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
    """Whether the text that follows may belong to this unit."""
    after = text[word.end() : word.end() + 2]
    return len(after) < 2 and after in WITHIN_WORDS and not ALONE.fullmatch(word[0])
