"""Which addresses a host means, and listening sockets on them."""

import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence

import psutil

from http_server import callers

BOTH_LOOPBACKS = ("127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::")
BACKLOG = 512
PROBE_SECONDS = 0.5
TRIES = 50  # to find a port that is free on all addresses
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)  # this machine has no such address

log = logging.getLogger("serve")


class PortTaken(Exception):
    """Names the address and, where it can be seen, the program that has it."""


def plain(host: str) -> str:
    """Without the brackets that IPv6 has in URLs."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def addresses(host: str) -> tuple[str, ...]:
    """Where to listen for a host of the settings: `localhost` is both loopbacks."""
    name = plain(host)
    return BOTH_LOOPBACKS if _is_localhost(name) else (name,)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches it, in any spelling."""
    name = plain(host)
    if _is_localhost(name) or callers.is_loopback(name):
        return True
    with contextlib.suppress(OSError):  # 127.1, as the C library reads it
        return ipaddress.ip_address(socket.inet_aton(name)).is_loopback
    return False


def _is_localhost(name: str) -> bool:
    return name.lower().rstrip(".") == "localhost"


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def local_url(host: str, port: int) -> str:
    """Where a client on this machine finds a server that listens on `host`."""
    address = addresses(host)[0]
    near = dict(zip(EVERYWHERE, BOTH_LOOPBACKS, strict=True)).get(address, address)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets on all addresses of `host`, on the same port; 0 is one that is free on all. Raises `PortTaken`.

    A loopback that this machine doesn't have is left out, and the log says so; a program that answers on one of them
    is refused beside, since it depends on the client which of the two `localhost` reaches.
    """
    wanted = addresses(host)
    if port and (answering := _answering(wanted, port)):
        raise PortTaken(f"can't listen on port {port}: another program answers on {answering}.{_owner(port)}")
    for attempt in range(TRIES):
        try:
            return _listen(wanted, port)
        except PortTaken:
            if port or attempt == TRIES - 1:
                raise
    raise AssertionError


def _listen(wanted: Sequence[str], port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    absent: list[str] = []
    for address in wanted:
        chosen = listeners[0].getsockname()[1] if listeners else port
        try:
            listeners.append(_bound(address, chosen))
        except OSError as error:
            absent.append(f"{address}, port {chosen}: {error.strerror or error}")
            if len(wanted) > 1 and error.errno in ABSENT:
                continue
            for listener in listeners:
                listener.close()
            owner = _owner(chosen) if error.errno == errno.EADDRINUSE else ""
            raise PortTaken(f"can't listen on {absent[-1]}.{owner}") from error
    if not listeners:
        raise PortTaken(f"can't listen on {' or '.join(absent)}.")
    for one in absent:
        log.warning("not listening on %s", one)
    return listeners


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # By its protocol asyncio knows that it may send at once: else small writes wait for the client's ACK, 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _answering(wanted: Sequence[str], port: int, connect: Callable[[str, int], bool] | None = None) -> str | None:
    """The address at which a program answers already. macOS would let us listen beside it, and share its clients:
    also on one address of this machine beside a program that listens on all."""
    probed = BOTH_LOOPBACKS if set(wanted) & set(EVERYWHERE) else wanted
    return next((address for address in probed if (connect or _connects)(address, port)), None)


def _connects(address: str, port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.settimeout(PROBE_SECONDS)
            probe.connect((address, port))
            # A free port of the range for clients can be connected to itself.
            return bool(probe.getsockname() != probe.getpeername())
    except OSError:
        return False


def _owner(port: int) -> str:
    for process in psutil.process_iter(["pid", "name"]):
        with contextlib.suppress(psutil.Error):
            for link in process.net_connections("tcp"):
                if link.status == psutil.CONN_LISTEN and link.laddr.port == port:
                    return f" It is taken by process {process.pid} ({process.name()})."
    return ""
