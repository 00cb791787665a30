"""Where frames belong in time: the silence that their times leave in front of them, and what of it is loss. Pure."""

import math
from collections.abc import Callable
from typing import NamedTuple

GAP_SECONDS = 0.15  # more than encoders' delays and rounded times make up
LOST_SECONDS = 0.005  # where something is known to be lost, it is as long as it is
JUMP_SECONDS = 0.04  # between two frames: less is a clock that runs differently, and adds up to gaps as well
REWIND_SECONDS = 1.0  # times that go back further begin anew
LONGEST_GAP = 3600.0  # within a recording; times that jump further begin anew, too
MOST_GAPS = 1000
MERGED_SECONDS = 0.1

Span = tuple[float, float]


class Moment(NamedTuple):
    """A frame's time as the file has it, None if it has none, and its length; in seconds."""

    time: float | None
    seconds: float


class GapLimits(NamedTuple):
    """How long a gap may be at most; and how long it is taken to be where times jump further."""

    most: float
    instead: float


class Clock:
    """Times of frames against the sound so far.

    `origin` is the time with which the file begins, pictures included; `latest` how late the first frame may be, and
    `least` the shortest gap.
    """

    def __init__(self, origin: float, latest: float, least: float = GAP_SECONDS) -> None:
        self._origin = origin
        self._least = least
        self._latest = latest
        self._done = 0.0
        self._expected: float | None = None  # the time of the next frame

    def gap(
        self, now: Moment, after: Moment | None, is_loss: bool, room: Callable[[], GapLimits]
    ) -> tuple[float, bool]:
        """Seconds of silence that belong in front of a frame, and whether the file jumps there.

        `after` is what follows: a time that it doesn't agree with is wrong. `room` is asked where a frame is late.
        """
        gap, jumps = 0.0, False
        if now.time is not None:
            gap = now.time - self._origin - self._done
            jumps = self._expected is not None and now.time - self._expected > JUMP_SECONDS
            gap = self._allowed(gap, now, after, is_loss, room)
            self._expected = now.time + now.seconds
        self._done += gap + now.seconds
        return gap, gap > 0 and (jumps or is_loss)

    def _allowed(
        self, gap: float, now: Moment, after: Moment | None, is_loss: bool, room: Callable[[], GapLimits]
    ) -> float:
        if -REWIND_SECONDS <= gap <= (LOST_SECONDS if is_loss else self._least):
            return 0.0
        if not _agree(now, after, abs(gap)):
            return 0.0
        kept = 0.0
        if gap > 0:
            most, instead = GapLimits(self._latest, 0.0) if self._expected is None else room()
            kept = gap if gap <= most else instead
        self._origin += gap - kept  # where times begin anew, what follows is told from here
        return kept


def _agree(now: Moment, after: Moment | None, jump: float) -> bool:
    if after is None or after.time is None or now.time is None:
        return True
    return abs(after.time - now.time - now.seconds) < max(GAP_SECONDS, jump / 2)


class Gaps:
    """Stretches in which sound is missing. What is close to the last one becomes one with it."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, start: float, end: float) -> None:
        if self._spans and (start - self._spans[-1][1] < MERGED_SECONDS or len(self._spans) >= MOST_GAPS):
            self._spans[-1] = (self._spans[-1][0], end)
        else:
            self._spans.append((start, end))

    @property
    def spans(self) -> tuple[Span, ...]:
        """To a tenth of a second, outwards."""
        return tuple(
            (math.floor(start * 10 + 1e-6) / 10, math.ceil(end * 10 - 1e-6) / 10) for start, end in self._spans
        )
