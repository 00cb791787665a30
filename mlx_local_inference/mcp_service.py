"""MCP in the server's process: imported in a thread once the ports are bound, because that takes a second."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from engines.types.inference import Inference
from mlx_local_inference.settings import Settings

RETRY_SECONDS = 1.0

log = logging.getLogger("mcp")

Parts = tuple[ASGIApp, Callable[[], AbstractAsyncContextManager[None]], AbstractAsyncContextManager[None]]


class McpService:
    """An app for all paths of MCP that may be called from the start; `run` makes it ready and keeps it so."""

    def __init__(self, files: Path, scratch: Path, settings: Settings, only_read: Sequence[Path] = ()) -> None:
        """`files` is for what tools make, `scratch` for what they hold for a while; clients over HTTP may also read the
        files in `only_read`."""
        self._files = files
        self._scratch = scratch
        self._settings = settings
        self._only_read = only_read
        self._app: asyncio.Future[ASGIApp] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await asyncio.shield(self._app)
        await app(scope, receive, send)

    async def run(self, inference: Inference, listener: socket.socket) -> None:
        """Serve until cancelled: HTTP and SSE through `__call__`, relays through the listener."""
        app, lifespan, sessions = await self._built(inference, listener)
        async with lifespan(), sessions:
            self._app.set_result(app)
            await asyncio.Event().wait()

    async def _built(self, inference: Inference, listener: socket.socket) -> Parts:
        """Imports may fail for want of descriptors, and work a moment later."""
        told = False
        while True:
            try:
                return await asyncio.to_thread(self._build, inference, listener)
            except OSError as error:
                if not told:
                    log.warning("MCP can't be imported yet, and is tried again: %s", error)
                told = True
                await asyncio.sleep(RETRY_SECONDS)

    def _build(self, inference: Inference, listener: socket.socket) -> Parts:
        from mcp_server import server
        from mcp_server.access import Below
        from mcp_server.options import McpOptions
        from mcp_server.transports import http, stream

        settings = self._settings
        models = (settings.audio_transcription_model, settings.speech_model, settings.imitation_model)
        roots = [Path(root).expanduser() for root in settings.file_roots]
        below = Below([*roots, self._files], self._scratch, self._only_read)
        routes, lifespan = http.routes(server.build(inference, McpOptions(self._files, *models, access=below)))
        for_relays = server.build(inference, McpOptions(self._files, *models))
        return Router(routes), lifespan, stream.serve_unix(for_relays, listener)
