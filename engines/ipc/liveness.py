"""Whether a runner still works, judged from outside it. Pure."""

from typing import Literal

import msgspec

FIRST_SECONDS = 300.0  # imports and loading swap, and the first step compiles
LATE_SECONDS = 10.0
STUCK_SECONDS = 60.0
STUCK_FACTOR = 10.0
PING_SECONDS = 2.0  # the longest that a runner goes unasked whether it lives

Verdict = Literal["well", "late", "stuck"]


class Facts(msgspec.Struct, frozen=True):
    """What a runner owes: a load, a step, an answer.

    `since` is when it was asked, or last gave a sign of life; None if it owes nothing. `is_first`: it has never done
    the like. `slowest_step` is in seconds.
    """

    since: float | None
    is_first: bool = False
    slowest_step: float = 0.0


def verdict(facts: Facts, now: float) -> Verdict:
    """ "late" is worth telling, "stuck" is past hope: the runner is to be ended."""
    if facts.since is None:
        return "well"
    silent = now - facts.since
    if facts.is_first:
        return "stuck" if silent > FIRST_SECONDS else "well"
    if silent > max(STUCK_SECONDS, STUCK_FACTOR * facts.slowest_step):
        return "stuck"
    return "late" if silent > LATE_SECONDS else "well"


def worst(verdicts: list[Verdict]) -> Verdict:
    return max(verdicts, key=("well", "late", "stuck").index, default="well")
