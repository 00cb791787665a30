"""What the loop says of a sequence: to its client, to the schedule, and to the log."""

import time
from collections.abc import Collection, Mapping

from engines.ipc import runner_protocol
from engines.runner.generation.sampling.sampler import Choices
from engines.runner.generation.scheduler import Waiting
from engines.runner.generation.sequence import SequenceState
from engines.runner.row_engine import Report, guarded_row
from engines.types.chat import Delta, FinishReason
from engines.types.common import Timings


def deliver(sequence: SequenceState, choices: Choices, row: int, eos: Collection[int]) -> tuple[list[Report], bool]:
    """What the next token lets the client see, and whether it was the last. Its failure is its row's alone."""

    def accepted() -> tuple[list[Report], bool]:
        choice = sequence.choose(choices, row)
        delta, reason = sequence.accept(choice, choice.token in eos)
        said = said_by(sequence, delta)
        return (said, False) if reason is None else ([*said, finished(sequence, reason)], True)

    return guarded_row(sequence, accepted)


def said_by(sequence: SequenceState, delta: Delta | None) -> list[Report]:
    """What a step lets its client see, if anything; it costs one credit."""
    if delta is None:
        return []
    sequence.credit -= 1
    return [runner_protocol.Said(sequence.id, delta)]


def finished(sequence: SequenceState, reason: FinishReason) -> runner_protocol.Finished:
    timings = Timings(0.0, sequence.first - sequence.began, time.monotonic() - sequence.first)
    return runner_protocol.Finished(sequence.id, sequence.answer.done(reason, sequence.usage(), timings))


def waiting(begins: Mapping[SequenceState, int]) -> list[Waiting]:
    """Those in prefill, by where each begins."""
    return [
        Waiting(one.id, one.positions - begin, one.computed, begin, one.prompt.background)
        for one, begin in begins.items()
    ]
