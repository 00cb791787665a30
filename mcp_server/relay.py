"""`mlx-local mcp`: stdin and stdout ⇄ the service's unix socket.

An agent starts one of these a session, so it must cost nothing: it imports built-in modules alone; what starting the
service needs, only when the service isn't there. It parses nothing but the id that an error must name.
"""

import _socket
import posix
import select
import sys

TYPE_CHECKING = False  # that of `typing`, which costs time
if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PORT = 8787
LONGEST_PATH = 100  # macOS allows 103 bytes for a unix socket's path
CHUNK = 1 << 16
MOST_PENDING = 1 << 20
ORPHAN_CHECK_MS = 5000
LAST_ANSWERS_SECONDS = 1.0
START_SECONDS = 15.0

USAGE = """usage: mlx-local mcp [--port N | --socket PATH] [--no-start]

Relays between stdin and stdout and the service on this port; starts it when there is none, unless --no-start is given
or --socket: a service finds its socket by its port, so none could be started on that one.
"""


def socket_path(port: int, environ: "dict[str, str]") -> str:
    """Where the server of this main port listens for relays: it follows from the port alone."""
    folder = environ.get("MLX_LOCAL_RUN_DIR") or (environ.get("HOME") or "/tmp") + "/.mlx-server/run"
    path = f"{folder}/{port}.sock"
    if len(path.encode()) > LONGEST_PATH:
        return f"/tmp/mlx-local-{posix.getuid()}/{port}.sock"
    return path


class _Options:
    def __init__(self, port: int, path: str, start: bool) -> None:
        self.port = port
        self.path = path
        self.start = start


def main(arguments: "list[str]") -> int:
    """The exit status: 0 when the client closed, 1 when there is no service, 2 for wrong arguments."""
    if "--help" in arguments or "-h" in arguments:
        posix.write(1, USAGE.encode())
        return 0
    environ = {name.decode(): value.decode(errors="surrogateescape") for name, value in posix.environ.items()}
    try:
        options = _parse(arguments, environ)
    except ValueError as error:
        posix.write(2, f"mlx-local mcp: {error}\n{USAGE}".encode())
        return 2
    link = _connect(options.path)
    if link is None and options.start:
        link = _start(options, environ)
    if link is None:
        return _refuse(options, environ)
    return _relay(link)


def _parse(arguments: "list[str]", environ: "dict[str, str]") -> _Options:
    port = None
    path = None
    start = True
    rest = list(arguments)
    while rest:
        word, _, value = rest.pop(0).partition("=")
        if word == "--no-start" and not value:
            start = False
        elif word in ("--port", "--socket"):
            if not value and not rest:
                raise ValueError(f"{word} needs a value")
            value = value or rest.pop(0)
            if word == "--socket":
                path = value
            else:
                port = _port(value, word)
        else:
            raise ValueError(f"there is no option {word}")
    if path is not None:
        if port is not None:
            raise ValueError("--socket and --port name two services; give one of them")
        return _Options(DEFAULT_PORT, path, False)
    if port is None:
        port = _port(environ.get("MLX_LOCAL_PORT") or str(DEFAULT_PORT), "MLX_LOCAL_PORT")
    return _Options(port, socket_path(port, environ), start)


def _port(text: str, origin: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536:
        return int(text)
    raise ValueError(f"{origin} must be a number from 1 to 65535, not {text}")


def _connect(path: str) -> "_socket.socket | None":
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        link.connect(path)
    except OSError:
        link.close()
        return None
    return link


# -- no service there -------------------------------------------------------------------------------------------------


def _log_path(environ: "dict[str, str]") -> str:
    return (environ.get("HOME") or "/tmp") + "/.mlx-server/logs/server.log"


def _start(options: _Options, environ: "dict[str, str]") -> "_socket.socket | None":
    """Start the service, detached, and wait for its socket; None if it doesn't come up."""
    import os
    import subprocess
    import time

    log = _log_path(environ)
    os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    command = [sys.executable, "-P", "-m", "mlx_local_inference", "serve", "--port", str(options.port)]
    with open(log, "ab") as out:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        link = _connect(options.path)
        # Another relay may have started one at the same moment: ours then ends, and its socket is as good.
        if link is not None:
            return link
        time.sleep(0.05 if server.poll() is None else 0.5)
    return None


def _refuse(options: _Options, environ: "dict[str, str]") -> int:
    """Answer the first request with an error that says what to do; a silent end would look like a broken program."""
    import json

    told = (
        f"The service isn't running (no answer on {options.path}). Start it with `mlx-local serve`; "
        f"its log is {_log_path(environ)}."
    )
    posix.write(2, f"mlx-local mcp: {told}\n".encode())
    for line in _lines():
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        known = isinstance(message, dict)
        # What can't be understood is answered as well, for its sender may wait; notifications and answers are not.
        if not known or ("id" in message and "method" in message):
            id = message["id"] if known else None
            error = {"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": told}}
            posix.write(1, json.dumps(error).encode() + b"\n")
            break
    return 1


def _lines() -> "Iterator[bytes]":
    """What the client sends, line by line without blank ones; what stands behind the last line's end is none."""
    rest = b""
    while len(rest) < MOST_PENDING:
        data = posix.read(0, CHUNK)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from (line for line in lines if line.strip())
    yield rest


# -- the relay --------------------------------------------------------------------------------------------------------


def _relay(link: _socket.socket) -> int:
    """Bytes both ways until one side ends. Neither side is waited for while the other has something to say."""
    for fd in (0, 1):
        posix.set_blocking(fd, False)
    link.setblocking(False)
    try:
        _pump(link)
    except (BrokenPipeError, ConnectionError):
        pass
    finally:
        for fd in (0, 1):
            # The descriptors may be shared with a terminal, which must not stay as it is here.
            posix.set_blocking(fd, True)
        link.close()
    return 0


def _pump(link: _socket.socket) -> None:
    parent = posix.getppid()
    to_server, to_client = b"", b""
    stdin_open = socket_open = True
    patience = -1
    while socket_open or to_client:
        poller = select.poll()
        if stdin_open and len(to_server) < MOST_PENDING:
            poller.register(0, select.POLLIN)
        wanted = (select.POLLIN if len(to_client) < MOST_PENDING else 0) | (select.POLLOUT if to_server else 0)
        if socket_open:
            poller.register(link.fileno(), wanted)
        if to_client:
            poller.register(1, select.POLLOUT)
        ready = dict(poller.poll(ORPHAN_CHECK_MS if patience < 0 else patience))
        if posix.getppid() != parent or (not ready and patience >= 0):
            return
        if 0 in ready:
            data = posix.read(0, CHUNK)
            to_server += data
            stdin_open = bool(data)
        if to_server and ready.get(link.fileno(), 0) & select.POLLOUT:
            to_server = to_server[link.send(to_server) :]
        if not stdin_open and not to_server and patience < 0:
            link.shutdown(_socket.SHUT_WR)
            patience = int(LAST_ANSWERS_SECONDS * 1000)
        if socket_open and ready.get(link.fileno(), 0) & (select.POLLIN | select.POLLHUP):
            data = link.recv(CHUNK)
            to_client += data
            socket_open = bool(data)
        if to_client and 1 in ready:
            to_client = to_client[posix.write(1, to_client) :]
