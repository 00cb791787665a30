"""How long a piece of work may go on: until its time is up, or nobody waits for it any more."""

import time
from collections.abc import Callable


class Abandoned(Exception):
    """Whoever asked for it has left."""


class OutOfTime(Exception):
    """The time that it may take is over."""


def always() -> bool:
    return True


class Patience:
    """Work that may take long asks it every now and then. `wanted` says whether its client is still there."""

    def __init__(self, wanted: Callable[[], bool] = always, seconds: float | None = None) -> None:
        self._wanted = wanted
        self._until = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raises `Abandoned` or `OutOfTime`."""
        if not self._wanted():
            raise Abandoned
        if self._until is not None and time.monotonic() > self._until:
            raise OutOfTime

    def at_most(self, seconds: float) -> "Patience":
        """The same, for a part of the work that may take so long."""
        return Patience(self._wanted, seconds)
