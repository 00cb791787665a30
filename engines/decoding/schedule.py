"""How many prompt tokens of which sequence are fed in the next step. Pure; knows ids and counts alone."""

from collections.abc import Sequence

import msgspec

STEP_SECONDS = 0.05
SMALLEST, LARGEST = 32, 512


class Waiting(msgspec.Struct, frozen=True):
    """A sequence in prefill: how many tokens it still has to feed."""

    id: int
    remaining: int


class Chunk(msgspec.Struct, frozen=True):
    id: int
    tokens: int


def plan(waiting: Sequence[Waiting], budget: int, turn: int) -> list[Chunk]:
    """Chunks of at most `budget` tokens together, for sequences in order of arrival.

    Every second turn serves the shortest first, so that a short prompt isn't stuck behind a long one; the other turns
    serve the oldest, so that the long one advances as well.
    """
    order = list(waiting) if turn % 2 == 0 else sorted(waiting, key=lambda sequence: sequence.remaining)
    chunks: list[Chunk] = []
    for sequence in order:
        if budget <= 0:
            break
        chunks.append(Chunk(sequence.id, min(sequence.remaining, budget)))
        budget -= chunks[-1].tokens
    return chunks


class TokenBudget:
    """Prompt tokens a step: as many as keep it near `STEP_SECONDS` while rows decode, by the measured speed."""

    def __init__(self) -> None:
        self._speed = 0.0

    def tokens(self, decoding: bool) -> int:
        if not decoding:
            return LARGEST
        return max(SMALLEST, min(LARGEST, int(self._speed * STEP_SECONDS)))

    def measured(self, tokens: int, seconds: float) -> None:
        """A prefill of so many tokens took so long; the newest measure counts as much as all before it."""
        speed = tokens / max(seconds, 1e-6)
        self._speed = speed if self._speed == 0 else (self._speed + speed) / 2
