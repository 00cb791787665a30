"""Waiting for something to be true that others make true."""

import asyncio


class Condition:
    """Its owner announces each change; who waits for one looks again, and waits on if that wasn't the one."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def next(self) -> None:
        await self._next.wait()
