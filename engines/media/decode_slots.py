"""How many recordings are decoded at a time: each holds as much as its longest piece. A client that doesn't read what
is heard of its recording keeps its place as long as nobody waits for one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from engines.ipc.unread import TOO_SLOW, Unread, to_end
from engines.types.errors import ClientTooSlow

TICK_SECONDS = 1.0


class SlotHolder:
    """Who is told of a recording while it is heard. `stop` is called when the place is to be free."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stop: Callable[[], None] = lambda: None
        self.unread_since: float | None = None
        self._clock = clock
        self._is_ended = False

    @contextmanager
    def telling(self) -> Iterator[None]:
        """As long as it takes what it is told. Raises `ClientTooSlow` if that was too long."""
        self.unread_since = self._clock()
        try:
            yield
        finally:
            self.unread_since = None
        if self._is_ended:
            raise ClientTooSlow(TOO_SLOW)

    def end(self) -> None:
        self._is_ended = True
        self.stop()


class DecodeSlots:
    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic, tick: float = TICK_SECONDS) -> None:
        self._free = asyncio.Semaphore(most)
        self._clock = clock
        self._tick = tick
        self._readers: list[SlotHolder] = []
        self._waiting = 0

    @asynccontextmanager
    async def place(self, reader: SlotHolder | None = None) -> AsyncIterator[None]:
        """Waits for one. Only with a `reader` can it be taken away again."""
        await self._acquire()
        readers = [] if reader is None else [reader]
        self._readers += readers
        try:
            yield
        finally:
            self._readers = [one for one in self._readers if one is not reader]
            self._free.release()

    async def _acquire(self) -> None:
        acquiring = asyncio.ensure_future(self._free.acquire())  # one turn in the queue, however long it takes
        self._waiting += 1
        try:
            while not (await asyncio.wait([acquiring], timeout=self._tick))[0]:
                self._end_unread()
        except asyncio.CancelledError:
            if not acquiring.cancel():
                self._free.release()
            raise
        finally:
            self._waiting -= 1

    def _end_unread(self) -> None:
        unread = [
            Unread(number, "", one.unread_since)
            for number, one in enumerate(self._readers)
            if one.unread_since is not None
        ]
        ended = [self._readers[number] for number in to_end(unread, {"": self._waiting}, self._clock())]
        self._readers = [one for one in self._readers if one not in ended]
        for one in ended:
            one.end()
