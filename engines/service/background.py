"""Background work waits while the machine is short of memory, hot, or low on battery; nothing waits for ever."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from engines.host.clock import AwakeClock
from engines.host.conditions import HEAVY, THERMAL_LEVELS, WARN, Conditions
from engines.service.condition import Condition

LONGEST_PAUSE_SECONDS = 60.0  # for each piece of work: then it runs
READ_SECONDS = 2.0

log = logging.getLogger("runtime")


class Advice(NamedTuple):
    """`unload_idle`: models that nobody uses are to give their memory back. `pauses` are the reasons, for people, why
    background work waits; it doesn't where there are none."""

    unload_idle: bool = False
    pauses: tuple[str, ...] = ()


def advise(conditions: Conditions, battery_floor: float) -> Advice:
    """What the conditions call for; `battery_floor` in percent, 0 for any. What isn't known calls for nothing."""
    memory, heat, battery, on_mains = conditions
    pauses = []
    if scarce := memory is not None and memory >= WARN:
        pauses.append("memory is scarce")
    if heat is not None and heat >= HEAVY:
        pauses.append(f"the machine is hot (thermal pressure: {THERMAL_LEVELS[heat]})")
    if battery is not None and on_mains is False and battery < battery_floor:
        pauses.append(f"the battery is below {battery_floor:g} %")
    return Advice(scarce, tuple(pauses))


class Background:
    """Owns what is known of the conditions. Where it `is_due`, its owner gives what `read` says to `take`; a piece of
    background work awaits `go_ahead` before it starts."""

    def __init__(self, clock: AwakeClock, read: Callable[[], Conditions], battery_floor: float) -> None:
        self._clock = clock
        self._read = read
        self._battery_floor = battery_floor
        self._read_at: float | None = None
        self._changes = Condition()
        self._is_ended = False
        self.conditions = Conditions()
        self.advice = Advice()

    @property
    def is_due(self) -> bool:
        """Whether the conditions are to be read again."""
        return self._read_at is None or self._clock.now - self._read_at >= READ_SECONDS

    def read(self) -> Conditions:
        """The conditions, as the system tells them; for any thread."""
        return self._read()

    def take(self, conditions: Conditions) -> None:
        """What `read` gave."""
        self._read_at = self._clock.now
        before, self.advice = self.advice, advise(conditions, self._battery_floor)
        self.conditions = conditions
        if self.advice.pauses != before.pauses:
            log.info("background work %s", paused(self.advice.pauses) or "goes on")
            self.wake()

    def wake(self) -> None:
        """Time has passed, or conditions changed: who waits looks again."""
        self._changes.announce()

    def end(self) -> None:
        """Nobody waits any more: the server stops, and what is inside is to be finished."""
        self._is_ended = True
        self._changes.announce()

    async def go_ahead(self) -> None:
        """Until nothing speaks against background work, or it has waited for long enough."""
        until = self._clock.now + LONGEST_PAUSE_SECONDS
        while self.advice.pauses and not self._is_ended and self._clock.now < until:
            await self._changes.next()


def paused(reasons: tuple[str, ...]) -> str:
    """A sentence's end about background work; "" when it isn't paused."""
    return f"is paused: {', '.join(reasons)}" if reasons else ""
