"""The service's unix socket. Apart from the sessions on it, because it is bound before `mcp` is imported (a second)."""

import contextlib
import os
import socket
from pathlib import Path


class SocketTaken(OSError):
    """Another server answers on that socket."""


def listen(path: Path) -> socket.socket:
    """A socket of mode 0600 in a folder of mode 0700; clients may connect at once and wait for their answers.

    A socket that nobody answers on is a dead server's and is replaced. Raises `SocketTaken` otherwise.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            probe.connect(str(path))
            raise SocketTaken(f"another server answers on {path}")
        path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    # The folder lets nobody else in, so the moment before the socket has its own mode is no gap.
    listener.bind(str(path))
    os.chmod(path, 0o600)
    listener.listen(128)
    return listener
