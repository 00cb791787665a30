"""What the engine says of a sequence: to its client, and to the schedule."""

import time
from collections.abc import Mapping

from engines import wire
from engines.chat.sequence import Sequence
from engines.decoding.schedule import Waiting
from engines.errors import Failure, InternalError
from engines.types import Delta, FinishReason, Timings

Report = wire.Said | wire.Finished | wire.Failed


def said_by(sequence: Sequence, delta: Delta | None) -> list[Report]:
    """What a step lets its client see, if anything; it costs one credit."""
    if delta is None:
        return []
    sequence.credit -= 1
    return [wire.Said(sequence.id, delta)]


def finished(sequence: Sequence, reason: FinishReason) -> wire.Finished:
    timings = Timings(0.0, sequence.first - sequence.began, time.monotonic() - sequence.first)
    return wire.Finished(sequence.id, sequence.answer.done(reason, sequence.usage(), timings))


def failed(sequence: Sequence) -> wire.Failed:
    return wire.Failed(sequence.id, Failure.of(InternalError("This request failed; the server's log says why.")))


def waiting(begins: Mapping[Sequence, int]) -> list[Waiting]:
    """Those in prefill, by where each begins."""
    return [Waiting(one.id, one.positions - begin, one.computed) for one, begin in begins.items()]
