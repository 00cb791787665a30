"""What the next tokens of a sequence will probably be, so that one pass can try several of them. Pure.

A draft is tried by feeding it and choosing every token as if it hadn't been there: it costs time where it fails, never
another text. What repeats its input, such as proofreading and editing, follows an earlier place for long stretches
(prompt lookup decoding, https://github.com/apoorvumang/prompt-lookup-decoding).
"""

from collections.abc import Sequence

import msgspec

GRAM = 3  # tokens; what follows two alone is a guess
SHORTEST, LONGEST = 2, 16
LONGEST_REST = 256


class Draft(msgspec.Struct, frozen=True):
    """Tokens to try; `certain` if there is no choice but these."""

    tokens: tuple[int, ...]
    certain: bool = False


class Lookup:
    """What followed where a sequence last had the tokens that it ends with, as long as that saves time.

    What failed is tried again after a rest, which doubles with every failure; what holds whole is made longer.
    """

    def __init__(self) -> None:
        self._behind: dict[tuple[int, ...], int] = {}
        self._seen = 0
        self._length = 2 * SHORTEST
        self._resumes = 0
        self._rest = 1

    def propose(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that may follow `tokens`, which grows from call to call; none while it rests."""
        for end in range(max(self._seen, GRAM), len(tokens)):
            self._behind[tuple(tokens[end - GRAM : end])] = end
        self._seen = len(tokens)
        if len(tokens) < self._resumes or len(tokens) < GRAM:
            return ()
        start = self._behind.get(tuple(tokens[-GRAM:]))
        return () if start is None else tuple(tokens[start : start + min(self._length, most)])

    def tried(self, proposed: int, held: int, saved_seconds: float, length: int) -> None:
        """Of a proposal so many tokens held; the sequence has `length` now."""
        if held == 0 or saved_seconds < 0:
            self._resumes = length + self._rest
            self._rest = min(2 * self._rest, LONGEST_REST)
        else:
            self._rest = 1
        self._length = min(2 * self._length, LONGEST) if held == proposed else max(SHORTEST, held + 1)
