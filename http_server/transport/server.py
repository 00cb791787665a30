"""Apps on listening sockets: from the first connection to the last answer."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from email.utils import formatdate

import msgspec
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from http_server.transport.accepting import Acceptor
from http_server.transport.protocol import Guard, GuardedProtocol

STOP_SECONDS = 2.0  # that requests get to end once no new ones are taken
CANCEL_SECONDS = 2.0  # that they get to say that they were broken off
FLUSH_SECONDS = 0.1  # for the last bytes of answers

log = logging.getLogger("http")


class Site(msgspec.Struct, frozen=True):
    """An app and the sockets on which it is reached, bound and listening."""

    app: ASGIApp
    listeners: Sequence[socket.socket]


@contextlib.asynccontextmanager
async def serving(sites: Sequence[Site], guard: Guard) -> AsyncIterator[None]:
    """Answer while the context lasts; then take no more, let what runs end, break off the rest."""
    state = ServerState()
    acceptors = [_acceptor(site, listener, state, guard) for site in sites for listener in site.listeners]
    clock = asyncio.create_task(_tell_date(state))
    for acceptor in acceptors:
        acceptor.start()
    try:
        yield
    finally:
        for acceptor in acceptors:
            acceptor.close()
        await _end(state)
        clock.cancel()


def _acceptor(site: Site, listener: socket.socket, state: ServerState, guard: Guard) -> Acceptor:
    config = Config(
        site.app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=guard.limits.idle_seconds,  # type: ignore[arg-type]
    )
    return Acceptor(listener, lambda: GuardedProtocol(config, state, guard), guard.connections)


async def _tell_date(state: ServerState) -> None:
    """Keep the `Date` of answers right to the second."""
    while True:
        state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        await asyncio.sleep(1.0)


async def _end(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(list(state.tasks), timeout=STOP_SECONDS)
    running = list(state.tasks)
    for task in running:
        task.cancel()
    if running:
        log.warning("%d requests are broken off: the server stops", len(running))
        await asyncio.wait(running, timeout=CANCEL_SECONDS)
    if state.connections:
        for connection in list(state.connections):
            connection.transport.close()  # what was answered still leaves
        await asyncio.sleep(FLUSH_SECONDS)
    for connection in list(state.connections):
        connection.transport.abort()
