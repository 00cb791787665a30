"""A clock for patience: time during which the process could not run doesn't count."""

from collections.abc import Callable


class AwakeClock:
    """Seconds in which the process was awake. After a sleep of the machine, timers don't fire all at once."""

    def __init__(self, monotonic: Callable[[], float], longest_tick: float = 2.0) -> None:
        self._monotonic = monotonic
        self._longest_tick = longest_tick
        self._last = monotonic()
        self._now = 0.0

    @property
    def now(self) -> float:
        """The value of the last tick."""
        return self._now

    def tick(self) -> float:
        """Advance by the time since the last tick, at most by `longest_tick`."""
        real = self._monotonic()
        self._now += min(max(0.0, real - self._last), self._longest_tick)
        self._last = real
        return self._now
