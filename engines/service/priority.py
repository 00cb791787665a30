"""How runners share the device, by the requests that they run. Pure."""

from collections.abc import Collection, Mapping
from enum import IntEnum

from engines.ipc.runner_protocol import ShareDevice
from engines.types.common import Priority


class Rank(IntEnum):
    """What yields to what: the larger to the smaller. Long steps would be gaps in a stream whose steps are short."""

    STREAM = 0
    LONG_STEPS = 1
    BACKGROUND = 2


def rank(priorities: Collection[Priority], has_long_steps: bool) -> Rank | None:
    """Of a runner, by the priorities of its requests in work; None where there are none."""
    if "interactive" in priorities:
        return Rank.LONG_STEPS if has_long_steps else Rank.STREAM
    return Rank.BACKGROUND if priorities else None


def sharing(ranks: Mapping[str, Rank], key: str) -> ShareDevice:
    """What the runner of a model does, by the ranks of those that have requests in work.

    Several runners compute in turns, unless all are in the background. One that isn't of the first rank yields.
    """
    first = min(ranks.values(), default=Rank.BACKGROUND)
    if key not in ranks or len(ranks) == 1 or first == Rank.BACKGROUND:
        return ShareDevice(False)
    return ShareDevice(True, yields=ranks[key] > first)
