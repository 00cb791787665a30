"""Background tasks with an owner: none is lost, and none fails unseen."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from contextvars import Context

log = logging.getLogger("tasks")


class RecurringFault:
    """What goes wrong in work that is repeated: told when it begins, and when it is over; never the end of the work."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = ""

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Around each repetition."""
        try:
            yield
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            if told != self._last:
                log.exception("%s failed; it is tried again", self._what)
            self._last = told
        else:
            if self._last:
                log.info("%s works again", self._what)
            self._last = ""


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
