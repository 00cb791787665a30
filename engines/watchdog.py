"""Whether a runner still works, judged from outside it. Pure."""

from typing import Literal

import msgspec

FIRST_SECONDS = 300.0  # loading swaps, and the first step compiles
LATE_SECONDS = 10.0
STUCK_SECONDS = 60.0
STUCK_FACTOR = 10.0


class Facts(msgspec.Struct, frozen=True):
    """`since` is the time of the last step, or of the beginning of the work; `slowest_step` is in seconds."""

    phase: Literal["loading", "ready"]
    busy: bool
    since: float
    first_step_done: bool
    slowest_step: float


def answers(asked_at: float, now: float) -> bool:
    """Whether a tokenizer that was asked at some time is still worth waiting for."""
    return now - asked_at <= FIRST_SECONDS


def verdict(facts: Facts, now: float) -> Literal["well", "late", "stuck"]:
    """ "late" is worth telling, "stuck" is past hope: the runner is to be ended."""
    if facts.phase == "ready" and not facts.busy:
        return "well"
    silent = now - facts.since
    if facts.phase == "loading" or not facts.first_step_done:
        return "stuck" if silent > FIRST_SECONDS else "well"
    if silent > max(STUCK_SECONDS, STUCK_FACTOR * facts.slowest_step):
        return "stuck"
    return "late" if silent > LATE_SECONDS else "well"
