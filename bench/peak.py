"""The most memory that a process and all below it had at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psutil

from bench import processes

EVERY_SECONDS = 0.1


class Peak:
    """Of what is theirs alone, in bytes. What is gone between two looks isn't seen."""

    def __init__(self) -> None:
        self.bytes = 0

    def look(self, process: psutil.Process) -> None:
        total = 0
        for one in processes.tree(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += processes.private_bytes(one)
        self.bytes = max(self.bytes, total)


@contextlib.asynccontextmanager
async def watched(process: psutil.Process) -> AsyncIterator[Peak]:
    """Looks before the body runs, and meanwhile, in a thread."""
    peak = Peak()
    await asyncio.to_thread(peak.look, process)

    async def watch() -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await asyncio.to_thread(peak.look, process)

    watching = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
