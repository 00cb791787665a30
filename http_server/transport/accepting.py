"""Takes connections off a listening socket. asyncio's own loop tells a shortage of descriptors thousands of times."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from http_server.transport.connections import Connections

AT_ONCE = 64  # connections that are accepted before others get their turn of the loop
PAUSE_SECONDS = 0.25
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger("http")


class Acceptor:
    """Accepts from `start` until `close`. Where the process can open no more files it pauses, says so, and goes on."""

    def __init__(
        self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], connections: Connections | None = None
    ) -> None:
        """`connections` may make room in a shortage."""
        self._listener = listener
        self._protocol = protocol
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._coming: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._short = False

    def start(self) -> None:
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more, and close the listening socket."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                link, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in SHORTAGES:
                    log.exception("a connection can't be accepted")
                self._rest(error)
                return
            self._short = False
            link.setblocking(False)
            task = self._loop.create_task(self._attach(link))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _attach(self, link: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, link)
        except OSError as error:
            link.close()
            log.warning("a connection is dropped: %s", error)

    def _rest(self, error: OSError) -> None:
        """Look away from the socket for a moment: it stays readable, and would be asked without end."""
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(PAUSE_SECONDS, self.start)
        if self._connections is not None:
            self._connections.make_room()
            self._connections.tell_once("descriptors", f"no connection can be accepted now: {error.strerror}")
        elif not self._short:
            log.warning("no connection can be accepted now: %s", error.strerror)
        self._short = True
