"""`mlx-local mcp`: stdin and stdout ⇄ the service's unix socket.

An agent starts one of these a session, so it must cost nothing: it imports built-in modules alone. It lives as long as
the agent: when the service ends, the next request finds or starts it again, and the session goes on.
"""

import _socket
import posix
import select

from mcp_server.relay.service import Seeker, say, socket_path
from mcp_server.relay.session import ABSENT, Session

DEFAULT_PORT = 8787
CHUNK = 1 << 16
MOST_PENDING = 1 << 20
LONGEST_LINE = 64 << 20  # whole lines are read, also those that are too long for the service: their ids stand in them
ORPHAN_CHECK_SECONDS = 5.0
LAST_ANSWERS_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 0.05

USAGE = """usage: mlx-local mcp [--port N | --socket PATH] [--no-start]

Relays between stdin and stdout and the service on this port; starts it when there is none, unless --no-start is given
or --socket: a service finds its socket by its port, so none could be started on that one. When the service ends, the
relay stays: what was under way is answered with an error, and the next request finds or starts the service again.
"""

ON_A_TERMINAL = (
    "this speaks MCP on stdin and stdout, a message of JSON a line: agents start it. To talk to a model yourself, use "
    "'mlx-local chat'. Ctrl-D ends it."
)


def main(arguments: "list[str]") -> int:
    """The exit status: 0 when the client closed, 1 when there is no service, 2 for wrong arguments."""
    if "--help" in arguments or "-h" in arguments:
        try:
            posix.write(1, USAGE.encode())
        except OSError:
            return 1  # nobody reads it
        return 0
    environ = {name.decode(): value.decode(errors="surrogateescape") for name, value in posix.environ.items()}
    try:
        seeker = _parse(arguments, environ)
    except ValueError as error:
        say(f"{error}\n{USAGE}")
        return 2
    if posix.isatty(0):
        say(ON_A_TERMINAL)
    try:
        for fd in (0, 1):
            posix.set_blocking(fd, False)
    except OSError:
        say("stdin or stdout is closed: agents start this command with both, and speak MCP over them.")
        return 1
    relay = Relay(seeker)
    try:
        relay.run()
    except BrokenPipeError:
        pass  # nobody reads the answers any more
    except OSError as error:
        say(f"can't go on: {error}")
        return 1
    finally:
        for fd in (0, 1):
            # The descriptors may be shared with a terminal, which must not stay as it is here.
            posix.set_blocking(fd, True)
    return 0 if relay.found else 1


def _parse(arguments: "list[str]", environ: "dict[str, str]") -> Seeker:
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
        return Seeker(path, None, environ)
    if port is None:
        port = _port(environ.get("MLX_LOCAL_PORT") or str(DEFAULT_PORT), "MLX_LOCAL_PORT")
    return Seeker(socket_path(port, environ), port if start else None, environ)


def _port(text: str, origin: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536:
        return int(text)
    raise ValueError(f"{origin} must be a number from 1 to 65535, not {text}")


class Relay:
    """Moves bytes between the agent, the session and the service. No side is waited for while another has something."""

    def __init__(self, seeker: Seeker) -> None:
        self.found = False  # whether the last look for the service found it
        self._seeker = seeker
        self._session = Session()
        self._link: _socket.socket | None = None
        self._client_open = True
        self._half_closed = False
        self._looking = True  # before anything is asked, so that the first request needn't wait as long
        self._client_rest = bytearray()
        self._service_rest = bytearray()

    def run(self) -> None:
        """Until the agent has closed and has its last answers, or is gone."""
        parent = posix.getppid()
        while self._goes_on():
            if self._link is None and (self._looking or self._session.wants_service):
                self._look()
            readable, writable = self._wait()
            self._seeker.running()  # one that has ended is no zombie for as long as this agent lives
            # A service that takes nothing any more, or says nothing, is not waited for once the agent has closed.
            hangs = not (readable or writable) and not self._client_open and self._link is not None
            if posix.getppid() != parent or hangs:
                break
            if 0 in readable:
                self._hear_client()
            if self._link is not None:
                number = self._link.fileno()
                self._serve(self._link, number in readable, number in writable)
            if self._session.to_client and 1 in writable:
                self._answer_client()
        self._leave()

    def _goes_on(self) -> bool:
        session = self._session
        return self._client_open or self._link is not None or session.wants_service or bool(session.to_client)

    def _wait(self) -> "tuple[list[int], list[int]]":
        """Descriptors that can be read, and written. By select, because Darwin's poll knows no devices: terminals,
        /dev/null."""
        session = self._session
        reads: list[int] = []
        writes = [1] if session.to_client else []
        if self._client_open and max(session.holds, len(session.to_client)) < MOST_PENDING:
            reads.append(0)
        timeout = LAST_ANSWERS_SECONDS if self._half_closed else ORPHAN_CHECK_SECONDS
        if self._link is not None:
            reads += [self._link.fileno()] if len(session.to_client) < MOST_PENDING else []
            writes += [self._link.fileno()] if session.to_service else []
        elif self._looking or session.wants_service:
            timeout = LOOK_AGAIN_SECONDS
        readable, writable, _ = select.select(reads, writes, [], timeout)
        return readable, writable

    # -- the agent ----------------------------------------------------------------------------------------------------

    def _hear_client(self) -> None:
        try:
            data = posix.read(0, CHUNK)
        except BlockingIOError:
            return
        lines = _lines(self._client_rest, data)
        if not data or len(self._client_rest) > LONGEST_LINE:
            self._client_open = False
            lines.append(bytes(self._client_rest))
        for line in lines:
            if line.strip():  # a blank one is a manner of speaking, and no message
                self._session.from_client(line)

    def _answer_client(self) -> None:
        try:
            del self._session.to_client[: posix.write(1, self._session.to_client)]
        except BlockingIOError:
            pass

    # -- the service --------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._link = self._seeker.look()
        if self._link is not None:
            self.found, self._looking = True, False
            self._session.connected()
        elif self._seeker.gave_up():
            told = self._seeker.no_service()
            say(told)
            self.found = self._looking = False
            self._session.unreachable(told)

    def _serve(self, link: _socket.socket, readable: bool, writable: bool) -> None:
        session = self._session
        if session.to_service and writable:
            try:
                del session.to_service[: link.send(session.to_service)]
            except ConnectionError:
                pass  # what it said before it went is still to be read
        if not self._client_open and not session.holds and not self._half_closed:
            self._half_closed = True
            _half_close(link)
        if readable:
            data = _received(link)
            for line in _lines(self._service_rest, data):
                session.from_service(line)
            if not data:
                self._lose()
        if session.phase == ABSENT:
            self._leave()

    def _lose(self) -> None:
        self._leave()
        self._seeker.lost()
        # An agent that has closed has ended the session itself.
        if not self._half_closed:
            self._session.lost(self._seeker.service_ended())

    def _leave(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None
        self._service_rest.clear()


def _half_close(link: _socket.socket) -> None:
    try:
        link.shutdown(_socket.SHUT_WR)
    except OSError:
        pass  # the other side is gone, which reading tells


def _received(link: _socket.socket) -> bytes:
    try:
        return link.recv(CHUNK)
    except ConnectionError:
        return b""


def _lines(rest: bytearray, data: bytes) -> "list[bytes]":
    """The lines that end in this data; what follows them is the new rest."""
    if b"\n" not in data:
        rest += data
        return []
    *lines, last = (bytes(rest) + data).split(b"\n")
    rest[:] = last
    return lines
