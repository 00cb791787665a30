"""Telling a client how far a tool is, now and then: a notification for every token makes a call 40 times as long."""

from typing import Protocol

import anyio

PROGRESS_SECONDS = 0.25


class Progress(Protocol):
    """Sends a notification; `total` None says that nobody knows."""

    async def __call__(self, progress: float, total: float | None = None) -> None: ...


class ProgressMeter:
    """Follows something that grows, and reports it; values that don't grow are not sent."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reached = 0.0
        self._total: float | None = None
        self._reported = 0.0
        self._due = 0.0

    async def add(self, more: float) -> None:
        await self.reach(self._reached + more)

    async def reach(self, value: float, total: float | None = None) -> None:
        self._reached, self._total = value, total
        if anyio.current_time() >= self._due:
            await self.report()

    async def report(self) -> None:
        if self._reached > self._reported:
            self._reported = self._reached
            self._due = anyio.current_time() + PROGRESS_SECONDS
            await self._progress(self._reached, self._total)
