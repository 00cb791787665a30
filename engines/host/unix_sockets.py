"""Unix sockets that take large frames."""

import socket
from typing import Protocol

BUFFER_BYTES = 1 << 18  # macOS gives 8 KiB; a minute of sound has 3.8 MB


class _Options(Protocol):
    def setsockopt(self, level: int, name: int, value: int, /) -> None: ...


def widen(link: _Options) -> None:
    """Have the system keep a frame's worth each way, so that a large one takes few turns of the event loop."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        link.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    ours, theirs = socket.socketpair()
    widen(ours)
    widen(theirs)
    return ours, theirs
