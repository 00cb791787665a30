"""All connections of the process: how many there may be, and which one makes room for a new one."""

import logging
from collections.abc import Callable
from typing import Protocol

IDLE_ENOUGH = 1.0  # seconds after which a connection that asks nothing gives way to a new one
TOLD_SECONDS = 60.0  # between two lines about the same shortage
MOST_REFUSED = 32  # connections beyond the limit that may be told so at a time

log = logging.getLogger("http")


class Connection(Protocol):
    """A connection, as far as making room goes."""

    def expendable_since(self, now: float) -> float | None:
        """Since when nothing would be lost with it; None while it has a request under way."""

    def give_way(self) -> None:
        """Close it now."""


class Connections:
    """`limit` connections at a time; `clock` in monotonic seconds."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._inside: set[Connection] = set()
        self._refused: set[Connection] = set()
        self._told: dict[str, float] = {}

    def admit(self, connection: Connection) -> bool:
        """Whether it may come in; where all places are taken, one that is idle makes room."""
        if len(self._inside) < self._limit or self.make_room():
            self._inside.add(connection)
            return True
        self.tell_once("connections", f"{self._limit} connections are open; further ones are refused (max_connections)")
        return False

    def hear_out(self, connection: Connection) -> bool:
        """Whether a refused one may ask before it is told so; those beyond are told, and closed at once."""
        if len(self._refused) >= MOST_REFUSED:
            return False
        self._refused.add(connection)
        return True

    def left(self, connection: Connection) -> None:
        self._inside.discard(connection)
        self._refused.discard(connection)

    def make_room(self) -> bool:
        """Close the connection that has been idle longest, if there is one."""
        now = self._clock()
        idle = [(since, id(one), one) for one in self._inside if (since := one.expendable_since(now)) is not None]
        if not idle:
            return False
        since, _, longest = min(idle)
        if now - since < IDLE_ENOUGH:
            return False
        self._inside.discard(longest)
        longest.give_way()
        return True

    def tell_once(self, what: str, sentence: str) -> None:
        """A warning in the log, once a minute at most."""
        now = self._clock()
        if now - self._told.get(what, -TOLD_SECONDS) >= TOLD_SECONDS:
            self._told[what] = now
            log.warning(sentence)
