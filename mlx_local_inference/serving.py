"""`mlx-local serve`: binds the ports, wires the floors together, runs until a signal."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil

from engines import descriptors, pool
from engines.audio_types import Script
from engines.catalog import DEFAULTS, Catalog, Roots, default_roots
from engines.local import AudioOptions, Local
from engines.options import Options
from engines.tasks import Tasks
from engines.trace import Traced
from http_server.connections import Connections
from http_server.limits import Limits, most_connections
from http_server.protocol import Guard
from http_server.server import Site, serving
from mcp_server import paths
from mcp_server.relay_service import socket_path
from mcp_server.sockets import SocketTaken, listen
from mlx_local_inference.mcp_service import McpService
from mlx_local_inference.settings import Settings
from openai_compat import app as http
from openai_compat.boundary import body_of
from openai_compat.names import Defaults

GIB = 1 << 30
BUDGET_SHARE = 0.75
SCRATCH = "mlx-local-scratch-"  # and the number of the process that made it
LOOPBACK = ("127.0.0.1", "::1", "localhost")
DEMO_NAMES = {
    "qwen3-14b": "demo-qwen3",
    "gemma-3-12b": "demo-gemma3",
    "qwen3-asr": "demo-qwen3-asr",
    "qwen3-aligner": "demo-aligner",
    "whisper-large-v3-turbo": "demo-whisper",
    "whisper-large-v3": "demo-whisper",
    "qwen3-tts": "demo-qwen3-tts",
    "qwen3-tts-base": "demo-qwen3-tts-base",
}

log = logging.getLogger("serve")


class Command(msgspec.Struct, frozen=True):
    """What `serve` was asked for beside the settings."""

    demo: bool = False
    audio_listen: str | None = None
    as_json: bool = False


class PortTaken(Exception):
    """Names the port and, where it can be seen, the program that has it."""


async def run(settings: Settings, command: Command) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    descriptors.raise_limit()
    _log_to_stderr()
    stop = _stop_on_signals()
    ready_line = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # stdout carries the ready line alone; what libraries print belongs to the log
    if settings.audio_host not in LOOPBACK and not settings.api_keys:
        sys.stderr.write("mlx-local: audio_host can leave this machine only where api_keys are set.\n")
        return 1
    if settings.host not in LOOPBACK and not settings.api_keys:
        log.warning("listening on %s without api_keys: anybody who reaches this machine may use it", settings.host)
    await asyncio.to_thread(_sweep)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-") as scratch:
        try:
            places = await asyncio.to_thread(_bind, settings, command, Path(scratch))
        except (PortTaken, SocketTaken) as error:
            sys.stderr.write(f"mlx-local: {error}\n")
            return 1
        catalog = await _catalog(settings, command, Path(scratch))
        audio = _audio_options(settings, command, Path(scratch))
        async with Local(catalog, _runtime_options(settings), audio) as runtime:
            async with _listening(runtime, settings, places):
                ready_line.write(_ready(places, command))
                ready_line.flush()
                await stop.wait()
                log.info("stopping")
                await runtime.close(settings.stop_grace)
    return 0


def _sweep() -> None:
    """Uploads and models that a server of ours left behind when it was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        number = folder.name.removeprefix(SCRATCH).partition("-")[0]
        with contextlib.suppress(OSError):
            if number.isdecimal() and not psutil.pid_exists(int(number)) and folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)


def _log_to_stderr() -> None:
    """Each line names the request that it concerns, as its client knows it."""
    handler = logging.StreamHandler()
    handler.addFilter(Traced())
    line = "%(asctime)s %(name)s %(levelname)s [%(trace)s] %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class Places(msgspec.Struct, frozen=True):
    """Where clients find the server: listening sockets, bound; the folders for files that it makes, and for uploads."""

    main: socket.socket
    audio: socket.socket
    audio_url: str
    relays: socket.socket
    relay_path: Path
    files: Path
    uploads: Path


def _bind(settings: Settings, command: Command, scratch: Path) -> Places:
    main = _bound(settings.host, settings.port)
    if command.audio_listen is None:
        audio = _bound(settings.audio_host, settings.audio_port)
        audio_url = _url(audio)
    else:
        audio = listen(Path(command.audio_listen.removeprefix("unix:")))
        audio_url = command.audio_listen
    relay_path = Path(socket_path(main.getsockname()[1], dict(os.environ)))
    files = scratch / "files" if command.demo else Path.home() / ".mlx-server" / "files"
    files.mkdir(parents=True, exist_ok=True)
    return Places(main, audio, audio_url, listen(relay_path), relay_path, files, scratch / "uploads")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows that it may send at once: else small writes wait for the client's ACK, 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise PortTaken(f"can't listen on {host}:{port}: {error.strerror}.{_owner(port)}") from error
    return listener


def _owner(port: int) -> str:
    for process in psutil.process_iter(["pid", "name"]):
        with contextlib.suppress(psutil.Error):
            for link in process.net_connections("tcp"):
                if link.status == psutil.CONN_LISTEN and link.laddr.port == port:
                    return f" It is taken by process {process.pid} ({process.name()})."
    return ""


async def _catalog(settings: Settings, command: Command, scratch: Path) -> Catalog:
    folders = _folders(settings.model_dirs)
    if not command.demo:
        return Catalog(default_roots(os.environ, Path.home(), folders), settings.aliases)
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-m", "demo", str(scratch)],
        check=True,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the server
    )
    return Catalog(Roots(configured=(scratch, *folders)), {**_demo_aliases(), **settings.aliases})


def _demo_aliases() -> dict[str, str]:
    """The demo's models answer to all names of those that they stand in for, so that every example works on them."""
    aliases = dict(DEMO_NAMES)
    for name, folder in DEMO_NAMES.items():
        repository, _ = DEFAULTS[name]
        aliases |= {repository: folder, repository.rpartition("/")[2]: folder}
    return aliases


def _folders(names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(Path(name).expanduser() for name in names)


def _runtime_options(settings: Settings) -> Options:
    share = int(psutil.virtual_memory().total * BUDGET_SHARE)
    asked = settings.memory_budget_gb
    limits = pool.Limits(
        budget=share if asked is None else min(share, int(asked * GIB)),
        max_running=settings.max_running,
        queue_limit=settings.queue_limit,
        idle_unload=settings.idle_unload,
        patience=settings.patience,
    )
    return Options(
        limits,
        settings.context_limit,
        settings.pinned,
        settings.preload,
        settings.spare_runner,
        settings.checkpoint_sampling,
        0 if settings.wired_limit_gb is None else int(settings.wired_limit_gb * GIB),
    )


def _audio_options(settings: Settings, command: Command, scratch: Path) -> AudioOptions:
    usual = scratch / "voices" if command.demo else Path.home() / ".mlx-server" / "voices"
    named = settings.voices_dir
    return AudioOptions(
        voices=usual if named is None else Path(named).expanduser(),
        script=msgspec.convert(settings.script, Script),
        longest_recording=settings.max_recording_hours * 3600,
        listener=settings.audio_transcription_model,
        aligner=settings.alignment_model,
        known_seconds=settings.keep_heard,
    )


@contextlib.asynccontextmanager
async def _listening(runtime: Local, settings: Settings, places: Places) -> AsyncIterator[None]:
    mcp = McpService(places.files, settings)
    speakers = (settings.speech_model, settings.imitation_model)
    main = Defaults(settings.transcription_model, settings.translation_model, settings.alignment_model, *speakers)
    audio = msgspec.structs.replace(main, transcription=settings.audio_transcription_model)
    agents = {path: http.Beside(mcp, methods) for path, methods in paths.METHODS.items()}
    main_app = http.build(runtime, _front(settings, places, main), agents)
    audio_app = http.build(runtime, _front(settings, places, audio))
    sessions = Tasks()
    async with serving([Site(main_app, [places.main]), Site(audio_app, [places.audio])], _guard(settings)):
        sessions.spawn(mcp.run(runtime, places.relays))
        try:
            yield
        finally:
            # Before the ports are free: whoever has them next makes sockets of the same names.
            await asyncio.to_thread(_unlink, places)
            await sessions.close()


def _guard(settings: Settings) -> Guard:
    """What connections may do; there are as many as files can be opened, if the settings don't say less."""
    limit = settings.max_connections or most_connections(descriptors.raise_limit())
    connections = Connections(limit, asyncio.get_running_loop().time)
    return Guard(Limits(), connections, body_of)


def _front(settings: Settings, places: Places, defaults: Defaults) -> http.Options:
    return http.Options(
        api_keys=settings.api_keys,
        hosts=(*(host.partition("%")[0] for host in (settings.host, settings.audio_host)), *settings.allowed_hosts),
        origins=settings.allowed_origins,
        max_body_bytes=int(settings.max_body_mb * (1 << 20)),
        keepalive_seconds=settings.keepalive,
        max_upload_bytes=int(settings.max_upload_mb * (1 << 20)),
        scratch=str(places.uploads),
        defaults=defaults,
    )


def _unlink(places: Places) -> None:
    """Take the unix sockets' names out of the file system."""
    places.relay_path.unlink(missing_ok=True)
    if places.audio_url.startswith("unix:"):
        Path(places.audio_url.removeprefix("unix:")).unlink(missing_ok=True)


def _ready(places: Places, command: Command) -> str:
    main_url = _url(places.main)
    if command.as_json:
        where = {"main_url": main_url, "audio_url": places.audio_url, "socket": str(places.relay_path)}
        return json.dumps({"event": "ready", **where, "files_dir": str(places.files)}) + "\n"
    return f"Ready: {main_url}/v1 (MCP: {main_url}/mcp, audio: {places.audio_url})\n"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop_on_signals() -> asyncio.Event:
    """Set by a signal, also by one that comes before the server is ready: it then starts, and stops in order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
