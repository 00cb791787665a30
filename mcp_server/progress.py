"""Telling a client how far a tool is, now and then: a notification for every token makes a call 40 times as long."""

from collections.abc import Awaitable, Callable

import anyio

PROGRESS_SECONDS = 0.25

Progress = Callable[[float], Awaitable[None]]


class Meter:
    """Counts something that grows, and reports it; values that don't grow are not sent."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._count = 0.0
        self._reported = 0.0
        self._due = 0.0

    async def add(self, more: float) -> None:
        self._count += more
        if anyio.current_time() >= self._due:
            await self.report()

    async def report(self) -> None:
        if self._count > self._reported:
            self._reported = self._count
            self._due = anyio.current_time() + PROGRESS_SECONDS
            await self._progress(self._count)
