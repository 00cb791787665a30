"""What the loop says of a sequence: to its client, to the schedule, and to the log."""

import logging
import time
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Several

from engines.ipc import runner_protocol
from engines.ipc.device_fault import pass_on
from engines.runner.generation.sampling.sampler import Choices
from engines.runner.generation.scheduler import Waiting
from engines.runner.generation.sequence import Sequence
from engines.types.chat import Delta, FinishReason
from engines.types.common import Timings
from engines.types.errors import Failure, InternalError, ServiceError

Report = runner_protocol.Said | runner_protocol.Finished | runner_protocol.Failed

log = logging.getLogger("decoding")


def deliver(sequence: Sequence, choices: Choices, row: int, eos: Collection[int]) -> tuple[list[Report], bool]:
    """What the next token lets the client see, and whether it was the last. Its failure is its row's alone."""
    try:
        choice = sequence.choose(choices, row)
        delta, reason = sequence.accept(choice, choice.token in eos)
    except ServiceError as error:
        return [runner_protocol.Failed(sequence.id, Failure.of(error))], True
    except Exception as error:
        pass_on(error)
        log.exception("request %s failed", sequence.prompt.trace)
        return [_failed(sequence)], True
    said = said_by(sequence, delta)
    return (said, False) if reason is None else ([*said, finished(sequence, reason)], True)


def said_by(sequence: Sequence, delta: Delta | None) -> list[Report]:
    """What a step lets its client see, if anything; it costs one credit."""
    if delta is None:
        return []
    sequence.credit -= 1
    return [runner_protocol.Said(sequence.id, delta)]


def finished(sequence: Sequence, reason: FinishReason) -> runner_protocol.Finished:
    timings = Timings(0.0, sequence.first - sequence.began, time.monotonic() - sequence.first)
    return runner_protocol.Finished(sequence.id, sequence.answer.done(reason, sequence.usage(), timings))


def failed_together(concerned: Several[Sequence]) -> list[Report]:
    """Of all that a forward pass concerned, while what it raised is handled."""
    log.exception("a forward pass failed, of %s", ", ".join(one.prompt.trace for one in concerned))
    return [_failed(sequence) for sequence in concerned]


def waiting(begins: Mapping[Sequence, int]) -> list[Waiting]:
    """Those in prefill, by where each begins."""
    return [Waiting(one.id, one.positions - begin, one.computed, begin) for one, begin in begins.items()]


def _failed(sequence: Sequence) -> runner_protocol.Failed:
    return runner_protocol.Failed(
        sequence.id, Failure.of(InternalError("This request failed; the server's log says why."))
    )
