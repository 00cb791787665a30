"""Finding the service by its socket, and starting it where there is none; what only that needs is imported then."""

import _socket
import posix
import sys
import time

TYPE_CHECKING = False  # that of `typing`, which costs time
if TYPE_CHECKING:
    import subprocess

LONGEST_PATH = 100  # macOS allows 103 bytes for a unix socket's path
START_SECONDS = 60.0  # macOS checks every library once, after an installation: up to half a minute
BUFFER_BYTES = 1 << 18
RETURN_SECONDS = 5.0


def socket_path(port: int, environ: "dict[str, str]") -> str:
    """Where the server of this main port listens for relays: it follows from the port alone."""
    folder = environ.get("MLX_LOCAL_RUN_DIR") or (environ.get("HOME") or "/tmp") + "/.mlx-server/run"
    path = f"{folder}/{port}.sock"
    if len(path.encode()) > LONGEST_PATH:
        return f"/tmp/mlx-local-{posix.getuid()}/{port}.sock"
    return path


class Seeker:
    """Looks for the service, and starts it if it may. It never waits: it is asked again until it `gave_up`."""

    def __init__(self, path: str, port: int | None, environ: "dict[str, str]") -> None:
        """A `port` to start a service on, or None: then it can only be found."""
        self._path = path
        self._port = port
        self._log = (environ.get("HOME") or "/tmp") + "/.mlx-server/logs/server.log"
        self._started: list[subprocess.Popen[bytes]] = []
        self._until: float | None = None
        self._lost = -RETURN_SECONDS

    def look(self) -> "_socket.socket | None":
        """A connection, if somebody answers now."""
        link = self._connect()
        if link is not None:
            self._until = None
        elif self._until is None:
            self._until = self._begin(time.monotonic())
        elif self._port is not None and not self.running():
            # Another relay may have started one at the same moment: ours then ends, and its socket is as good.
            self._until = min(self._until, time.monotonic() + RETURN_SECONDS)
        return link

    def gave_up(self) -> bool:
        """Whether it is no use to look on; the next look begins anew."""
        if self._until is None or time.monotonic() < self._until:
            return False
        self._until = None
        return True

    def lost(self) -> None:
        """The service that was found is gone. Whoever looks after it may bring it back soon, and is given time."""
        self._lost = time.monotonic()

    def no_service(self) -> str:
        """What is told to a request that reached nobody."""
        return (
            f"The service isn't running (no answer on {self._path}). Start it with `mlx-local serve`; "
            f"its log is {self._log}."
        )

    def service_ended(self) -> str:
        """What is told to a request that somebody had begun."""
        again = "it is then started" if self._port is not None else "once it is back (`mlx-local serve` starts it)"
        return (
            "The service ended while it worked on this; files that it had written by then are there. "
            f"Call again, {again}. Its log is {self._log}."
        )

    def _connect(self) -> "_socket.socket | None":
        """Not to another user's socket, who would be told all; nor does it wait for one that accepts nobody."""
        link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        link.setblocking(False)
        try:
            if posix.stat(self._path).st_uid not in (posix.getuid(), 0):
                raise PermissionError(self._path)
            link.connect(self._path)
            for option in (_socket.SO_SNDBUF, _socket.SO_RCVBUF):  # macOS gives 8 KiB
                link.setsockopt(_socket.SOL_SOCKET, option, BUFFER_BYTES)
        except OSError:
            link.close()
            return None
        return link

    def _begin(self, now: float) -> float:
        """Until when to look."""
        if self._port is None:
            return self._lost + RETURN_SECONDS
        try:
            if not self.running():
                self._started.append(self._start(self._port))
        except OSError as error:
            say(f"can't start the service: {error}")
            return now
        return now + START_SECONDS

    def _start(self, port: int) -> "subprocess.Popen[bytes]":
        """The service, detached."""
        import os
        import subprocess

        os.makedirs(os.path.dirname(self._log), mode=0o700, exist_ok=True)
        command = [sys.executable, "-P", "-m", "mlx_local_inference", "serve", "--port", str(port)]
        with open(self._log, "ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/"
            )

    def running(self) -> bool:
        """Whether a service that was started here is still there; those that have ended leave no zombie."""
        self._started = [process for process in self._started if process.poll() is None]
        return bool(self._started)


def say(text: str) -> None:
    """A line for the agent's log; an agent that has none doesn't matter."""
    try:
        posix.write(2, f"mlx-local mcp: {text}\n".encode())
    except OSError:
        pass
