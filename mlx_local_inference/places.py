"""Where a server is found and what it writes to: sockets and folders, made at the start, gone at the end."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from mcp_server.relay.service import socket_path
from mcp_server.transports.sockets import SocketTaken, listen
from mlx_local_inference import ports
from mlx_local_inference.settings import Settings

SCRATCH = "mlx-local-scratch-"  # and the number of the process that made it


class StartFailed(Exception):
    """One sentence: what can't be had, why, and the setting or variable that moves it."""


@contextlib.contextmanager
def needed(what: str, remedy: str) -> Iterator[None]:
    """What the server can't start without. Raises `StartFailed` for an `OSError` in it."""
    try:
        yield
    except SocketTaken:
        raise
    except OSError as error:
        raise StartFailed(f"{what}: {error.strerror or error}. {remedy}") from error


class Places(msgspec.Struct, frozen=True):
    """Where clients find the server: listening sockets, bound; the folders for files that it makes, and for uploads.

    `names` are those that its unix sockets have in the file system still.
    """

    main: list[socket.socket]
    audio: list[socket.socket]
    audio_url: str
    relays: socket.socket
    relay_path: Path
    files: Path
    uploads: Path
    names: list[Path]

    @property
    def main_url(self) -> str:
        return ports.url(self.main[0])

    def unlink(self) -> None:
        """Take the unix sockets' names out of the file system; once, for a next server may soon have the same."""
        while self.names:
            self.names.pop().unlink(missing_ok=True)


def bind(settings: Settings, audio_listen: str | None, files: Path, scratch: Path) -> Places:
    """Raises `StartFailed`, `PortTaken` or `SocketTaken`."""
    with needed(f"can't make {files}, the folder for files that agents ask for", "Choose another with --files-dir."):
        files.mkdir(parents=True, exist_ok=True)
    names = []
    with contextlib.ExitStack() as opened:
        main = [opened.enter_context(one) for one in ports.listen(settings.host, settings.port)]
        if audio_listen is None:
            audio = [opened.enter_context(one) for one in ports.listen(settings.audio_host, settings.audio_port)]
            audio_url = ports.url(audio[0])
        else:
            with needed(f"can't listen on {audio_listen}", "Choose another path with --audio-listen."):
                path = Path(audio_listen.removeprefix("unix:"))
                audio = [opened.enter_context(listen(path, private_folder=False))]
            audio_url = audio_listen
            names.append(path)
        relay_path = Path(socket_path(main[0].getsockname()[1], dict(os.environ)))
        with needed(f"can't listen on {relay_path}, the socket for agents", "Choose another by MLX_LOCAL_RUN_DIR."):
            relays = listen(relay_path)
        names.append(relay_path)
        opened.pop_all()
    return Places(main, audio, audio_url, relays, relay_path, files, scratch / "uploads", names)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder of this process; what a killed one left is removed. Raises `StartFailed`."""
    with needed("can't make a temporary folder", "Choose another by TMPDIR."):
        _sweep()
        folder = tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Uploads and models that a server of ours left behind when it was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        number = folder.name.removeprefix(SCRATCH).partition("-")[0]
        with contextlib.suppress(OSError):
            if number.isdecimal() and not psutil.pid_exists(int(number)) and folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
