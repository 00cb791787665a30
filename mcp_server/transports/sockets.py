"""The service's unix socket. Apart from the sessions on it, because it is bound before `mcp` is imported (a second)."""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

PROBES, PROBE_SECONDS = 3, 0.05


class SocketTaken(OSError):
    """Another server answers on that socket."""


def connect(path: Path) -> None:
    """Connect and leave. Raises `OSError`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        probe.connect(str(path))


def is_served(path: Path, probe: Callable[[Path], None] = connect, pause: Callable[[float], None] = time.sleep) -> bool:
    """Whether a server listens on a socket.

    More clients at a moment than a server's backlog holds get EAGAIN on Linux. On macOS they are refused, as if the
    server were dead; so a refusal counts when it comes several times.
    """
    for _ in range(PROBES):
        try:
            probe(path)
        except ConnectionRefusedError:
            pause(PROBE_SECONDS)
        except FileNotFoundError:
            return False
        except (BlockingIOError, TimeoutError):
            return True
        else:
            return True
    return False


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
        if is_served(path):
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
