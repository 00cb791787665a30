"""Work that is done ahead of who takes its results, in order, some pieces at a time."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class OrderedTasks(Generic[T]):
    """The results of `make(0)`, `make(1)`, …, of which at most `most` are in work or wait to be taken.

    A task group can't stand around the `yield` of a generator that others close: so tasks are owned here, and `close`
    (in a `finally`) ends those that run, and waits until they have.
    """

    def __init__(self, make: Callable[[int], Coroutine[Any, Any, T]], first: int, count: int, most: int) -> None:
        self._make = make
        self._numbers: Iterator[int] = iter(range(first, count))
        self._most = most
        self._tasks: deque[asyncio.Task[T]] = deque()

    def begin(self) -> None:
        """Have as many in work as may be."""
        while len(self._tasks) < self._most and (number := next(self._numbers, None)) is not None:
            self._tasks.append(asyncio.create_task(self._make(number)))

    @property
    def head(self) -> "asyncio.Task[T]":
        """The work whose result is the next."""
        return self._tasks[0]

    async def next(self) -> T:
        """The next result; raises what its making raised."""
        self.begin()
        result = await asyncio.shield(self._tasks[0])
        self._tasks.popleft()
        self.begin()
        return result

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
