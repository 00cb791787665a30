"""Background tasks with an owner: none is lost, and none fails unseen."""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context

log = logging.getLogger("tasks")


class Tasks:
    """What its owner has running. `close` ends it all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        # An empty context: what a request happens to start may outlive it, and isn't its own in the log.
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed", exc_info=error)
