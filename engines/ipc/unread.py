"""Which requests end because their clients don't read what comes of them, while others wait for their place. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

PATIENCE_SECONDS = 30.0
TOO_SLOW = (
    "The answer was given up: nothing of it had been read for half a minute, and others waited for its place. Read a "
    "stream as it comes, or ask for less at a time."
)


class Unread(msgspec.Struct, frozen=True):
    """A request that may send nothing more before its client reads, `since` when."""

    id: int
    model: str
    since: float


def to_end(unread: Iterable[Unread], waiting: Mapping[str, int], now: float) -> list[int]:
    """The ids of those that have been unread for too long, the longest first; of each model as many as are `waiting`.

    With nobody waiting a client may take all its time.
    """
    left = dict(waiting)
    ended: list[int] = []
    for one in sorted(unread, key=lambda one: (one.since, one.id)):
        if now - one.since > PATIENCE_SECONDS and left.get(one.model, 0) > 0:
            left[one.model] -= 1
            ended.append(one.id)
    return ended
