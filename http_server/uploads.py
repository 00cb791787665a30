"""A folder for what a request uploads, gone when its answer is sent, whatever becomes of it."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request, Path], Awaitable[Response]]


class Spooled:
    """A route, as an app: its handler gets a folder of its own. What a killed server left lies in `scratch`."""

    def __init__(self, handler: Handler, scratch: str) -> None:
        """`scratch` is the folder for all; "" is the system's."""
        self._handler = handler
        self._scratch = scratch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with _folder(self._scratch) as folder:
            response = await self._handler(Request(scope, receive, send), folder)
            await response(scope, receive, send)


@asynccontextmanager
async def _folder(scratch: str) -> AsyncIterator[Path]:
    folder = await asyncio.to_thread(_make, scratch)
    try:
        yield folder
    finally:
        # At once in another thread, so that it is done even if this task is cancelled again.
        await asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(folder, ignore_errors=True))


def _make(scratch: str) -> Path:
    if scratch:
        os.makedirs(scratch, mode=0o700, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="mlx-local-", dir=scratch or None))
