"""`mlx-local serve`: binds the ports, wires the floors together, runs until a signal."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TextIO

import msgspec
import psutil

from demo.recordings import FOLDER as RECORDINGS
from engines.host import descriptors
from engines.ipc.tasks import Tasks
from engines.models.catalog import Catalog, Roots, default_roots
from engines.models.registry import DEFAULTS
from engines.service import pool
from engines.service.options import RuntimeOptions
from engines.service.service import AudioOptions, Local
from engines.types.audio import Script
from engines.types.trace import Traced
from http_server.transport.connections import Connections
from http_server.transport.limits import TransportLimits, most_connections
from http_server.transport.protocol import Guard
from http_server.transport.server import Site, serving
from mcp_server import paths
from mcp_server.transports.sockets import SocketTaken
from mlx_local_inference.mcp_service import McpService
from mlx_local_inference.output import complain
from mlx_local_inference.places import Places, StartFailed, bind, needed, scratch_folder
from mlx_local_inference.ports import PortTaken, is_loopback, plain
from mlx_local_inference.settings import Settings
from mlx_local_inference.stopping import Stop
from openai_compat import app as http
from openai_compat.dialect import OPENAI
from openai_compat.names import DefaultModels

GIB = 1 << 30
BUDGET_SHARE = 0.75
DEMO_MB = 60
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
    stop_at_eof: bool = False


async def run(settings: Settings, command: Command) -> int:
    """Serve until a signal; the exit status."""
    descriptors.raise_limit()
    _log_to_stderr()
    stop = Stop()
    if command.stop_at_eof:
        stop.at_end_of(0)
    ready_line = _ready_line()
    try:
        if not (settings.api_keys or is_loopback(settings.audio_host)):
            raise StartFailed("audio_host can leave this machine only where api_keys are set.")
        with scratch_folder() as scratch:
            stop.last_acts.append(lambda: shutil.rmtree(scratch, ignore_errors=True))
            await _run(settings, command, scratch, stop, ready_line)
    except (StartFailed, PortTaken, SocketTaken) as error:
        complain(str(error))
        return 1
    return 0


def _ready_line() -> TextIO:
    """Stdout carries the ready line alone; what libraries print belongs to the log."""
    ready_line = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ready_line


async def _run(settings: Settings, command: Command, scratch: Path, stop: Stop, ready_line: TextIO) -> None:
    files = _files_folder(settings, command, scratch)
    places = await asyncio.to_thread(bind, settings, command.audio_listen, files, scratch)
    stop.last_acts.append(places.unlink)
    if not (settings.api_keys or is_loopback(settings.host)):
        log.warning("listening on %s without api_keys: anybody who reaches this machine may use it", settings.host)
    try:
        catalog = await _catalog(settings, command, scratch)
        audio = _audio_options(settings, command, scratch)
        with needed("can't make a temporary file", "Choose another folder by TMPDIR."):
            local = Local(catalog, _runtime_options(settings), audio)
        async with local as runtime, _listening(runtime, settings, places, command.demo):
            with contextlib.suppress(OSError):  # whoever started it may not read
                ready_line.write(_ready(places, command))
                ready_line.flush()
            await stop.asked.wait()
            log.info("stopping")
            await runtime.close(settings.stop_grace)
    finally:
        await asyncio.to_thread(places.unlink)


def _files_folder(settings: Settings, command: Command, scratch: Path) -> Path:
    if settings.files_dir is not None:
        return Path(settings.files_dir).expanduser()
    return scratch / "files" if command.demo else Path.home() / ".mlx-server" / "files"


def _log_to_stderr() -> None:
    """Each line names the request that it concerns, as its client knows it."""
    handler = logging.StreamHandler()
    handler.addFilter(Traced())
    line = "%(asctime)s %(name)s %(levelname)s [%(trace)s] %(message)s"
    logging.basicConfig(level=logging.INFO, format=line, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


async def _catalog(settings: Settings, command: Command, scratch: Path) -> Catalog:
    folders = _folders(settings.model_dirs)
    if not command.demo:
        return Catalog(default_roots(os.environ, Path.home(), folders), settings.aliases)
    made = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-m", "demo", str(scratch)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for the server
    )
    if made.returncode:
        reason = (made.stderr.decode(errors="replace").strip() or f"status {made.returncode}").splitlines()[-1]
        raise StartFailed(
            f"can't write the demo's models to {scratch}, {DEMO_MB} MB: {reason}. Choose another folder by TMPDIR."
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


def _runtime_options(settings: Settings) -> RuntimeOptions:
    total = psutil.virtual_memory().total
    asked = settings.memory_budget_gb
    limits = pool.PoolLimits(
        budget=int(total * BUDGET_SHARE) if asked is None else min(total, int(asked * GIB)),
        max_running=settings.max_running,
        queue_limit=settings.queue_limit,
        idle_unload=settings.idle_unload,
        patience=settings.patience,
        ceiling=total,
    )
    return RuntimeOptions(
        limits,
        settings.context_limit,
        settings.pinned,
        settings.preload,
        settings.spare_runner,
        settings.checkpoint_sampling,
        0 if settings.wired_limit_gb is None else int(settings.wired_limit_gb * GIB),
        settings.background_battery_percent,
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
        check_speech=settings.check_speech,
    )


@contextlib.asynccontextmanager
async def _listening(runtime: Local, settings: Settings, places: Places, demo: bool) -> AsyncIterator[None]:
    samples = (RECORDINGS,) if demo else ()
    mcp = McpService(places.files, places.uploads.with_name("held"), settings, samples)
    speakers = (settings.speech_model, settings.imitation_model)
    main = DefaultModels(settings.transcription_model, settings.translation_model, settings.alignment_model, *speakers)
    audio = msgspec.structs.replace(main, transcription=settings.audio_transcription_model)
    agents = {path: http.Beside(mcp, methods) for path, methods in paths.METHODS.items()}
    main_app = http.build(runtime, _front(settings, places, main), agents)
    audio_app = http.build(runtime, _front(settings, places, audio))
    sessions = Tasks()
    async with serving([Site(main_app, places.main), Site(audio_app, places.audio)], _guard(settings)):
        sessions.spawn(mcp.run(runtime, places.relays))
        try:
            yield
        finally:
            # Before the ports are free: whoever has them next makes sockets of the same names.
            await asyncio.to_thread(places.unlink)
            await sessions.close()


def _guard(settings: Settings) -> Guard:
    """What connections may do; there are as many as files can be opened, if the settings don't say less."""
    limit = settings.max_connections or most_connections(descriptors.raise_limit())
    connections = Connections(limit, asyncio.get_running_loop().time)
    return Guard(TransportLimits(), connections, OPENAI.error)


def _front(settings: Settings, places: Places, defaults: DefaultModels) -> http.AppOptions:
    return http.AppOptions(
        api_keys=settings.api_keys,
        hosts=(
            *(plain(host).partition("%")[0] for host in (settings.host, settings.audio_host)),
            *settings.allowed_hosts,
        ),
        origins=settings.allowed_origins,
        max_body_bytes=int(settings.max_body_mb * (1 << 20)),
        keepalive_seconds=settings.keepalive,
        max_upload_bytes=int(settings.max_upload_mb * (1 << 20)),
        scratch=str(places.uploads),
        defaults=defaults,
    )


def _ready(places: Places, command: Command) -> str:
    main_url = places.main_url
    if command.as_json:
        where = {"main_url": main_url, "audio_url": places.audio_url, "socket": str(places.relay_path)}
        return json.dumps({"event": "ready", **where, "files_dir": str(places.files)}) + "\n"
    return f"Ready: {main_url}/v1 (MCP: {main_url}/mcp, audio: {places.audio_url})\n"
