"""What a contender is asked, what came back and when, and the figures that follow. Pure."""

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct

from engines.types.chat import Message


class BenchFailed(Exception):
    """A contender did not do what it was measured for; its figures would be lies."""


class Ask(Struct, frozen=True):
    """One request: the same conversation as messages and as token ids. Submitted once the first one of its run has
    produced `after` tokens."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    max_tokens: int
    after: int = 0


class Stream(Struct, frozen=True):
    """One answer; seconds on one clock. `arrivals` are the moments at which text (in process: a token) came."""

    submitted: float
    arrivals: tuple[float, ...]
    prompt_tokens: int
    tokens: int
    text: str = ""
    ids: tuple[int, ...] = ()
    retries: int = 0

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.arrivals[0] - self.submitted

    @property
    def step(self) -> float:
        """Seconds a token behind the first, on average: also where several came at the same moment."""
        return (self.arrivals[-1] - self.arrivals[0]) / max(1, self.tokens - 1)

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]


class Run(Struct, frozen=True):
    """What one contender did with some asks at a time, and the processor time of its whole process tree."""

    streams: tuple[Stream, ...]
    cpu_seconds: float

    @property
    def tokens(self) -> int:
        return sum(stream.tokens for stream in self.streams)

    @property
    def rate(self) -> float:
        """Output tokens ÷ seconds from the first submit to the last token."""
        began = min(stream.submitted for stream in self.streams)
        return self.tokens / (max(stream.arrivals[-1] for stream in self.streams) - began)

    @property
    def first(self) -> float:
        """The median of the streams."""
        return statistics.median(stream.first for stream in self.streams)

    @property
    def gaps(self) -> list[float]:
        return [gap for stream in self.streams for gap in stream.gaps]

    @property
    def cpu_per_token(self) -> float:
        return self.cpu_seconds / self.tokens


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` (0 to 1) of all: always one that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def check(asks: Sequence[Ask], streams: Sequence[Stream], name: str) -> None:
    """Raises `BenchFailed` unless every stream produced what was asked for, from a prompt of the same length."""
    for ask, stream in zip(asks, streams, strict=True):
        if stream.tokens != ask.max_tokens or not stream.arrivals:
            raise BenchFailed(f"{name} made {stream.tokens} tokens where {ask.max_tokens} were asked for")
        if stream.prompt_tokens != len(ask.ids):
            raise BenchFailed(f"{name} read {stream.prompt_tokens} prompt tokens where {len(ask.ids)} were meant")
