"""The service's unix socket. Apart from the sessions on it, because it is bound before `mcp` is imported (a second)."""

import contextlib
import errno
import os
import socket
from pathlib import Path


class SocketTaken(OSError):
    """Another server answers on that socket."""


def listen(path: Path, *, private_folder: bool = True) -> socket.socket:
    """A socket of mode 0600; clients may connect at once and wait for their answers.

    Its folder is made with mode 0700; one that is there gets it if it is to be private, and is else left as it is.
    A socket that nobody answers on is a dead server's and is replaced. Raises `SocketTaken` where somebody does, and
    `OSError` for what can't be had: a path that is too long, or where another kind of file stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if private_folder:
        path.parent.chmod(0o700)
    if path.exists():
        if not path.is_socket():
            raise FileExistsError(errno.EEXIST, "a file is there that is no socket", str(path))
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            probe.connect(str(path))
            raise SocketTaken(f"another server answers on {path}")
        path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # nobody else may connect, not even in the moment before its mode is set
    try:
        listener.bind(str(path))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    os.chmod(path, 0o600)
    return listener
