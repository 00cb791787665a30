"""Everyone who is measured, behind one protocol."""

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import httpx2
import msgspec
import psutil

from bench import processes
from bench.checkpoints.chat import Checkpoint
from bench.client.chat import Client
from bench.libraries.jobs import AskDevice, Bandwidth, Device, Generate, Measured, Piece
from bench.streams import Ask, BenchFailed, Stream

START_SECONDS = 120.0
END_SECONDS = 30.0
LINE_BYTES = 1 << 26

BATCH, BATCH_SMALL = "batch", "batch-256"
LIBRARY, AUDIO_SERVER = "mlx-audio", "mlx-audio.server"
OTHER_TREE = "other tree"
OURS, MLX_LM, MLX_VLM = "mlx-local", "mlx-lm.server", "mlx-vlm.server"
OTHERS = {MLX_LM: "mlx_lm", MLX_VLM: "mlx_vlm"}
# So that the template is rendered as by all others: without this one closes the thought in the prompt.
FLAGS = {MLX_LM: [], MLX_VLM: ["--enable-thinking"]}


class Contender(Protocol):
    """One that continues prompts. Between `start` and `stop` it has a process, and runs asks as one burst."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def run(self, asks: Sequence[Ask], *, keep: bool = False) -> list[Stream]:
        """`keep`: who has no prefix cache of its own may keep the last answer's."""
        ...

    @property
    def process(self) -> psutil.Process: ...


class Child:
    """A child process whose log is a file."""

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str], logs: Path, python: str = sys.executable
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command = [python, "-P", "-m", *command]
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                limit=LINE_BYTES,
            )
        return self._process

    async def stop(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    def failed(self, what: str) -> BenchFailed:
        return BenchFailed(f"{what}; the end of {self.log}:\n{processes.tail(self.log)}")


class Library:
    """A library in a process of its own, which answers a line of JSON by another."""

    def __init__(self, name: str, command: Sequence[str], threads: int, logs: Path) -> None:
        self._child = Child(name, command, processes.environment(threads, preload=True), logs)
        self._running: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> psutil.Process:
        return self._child.process

    async def start(self) -> None:
        self._running = await self._child.start()

    async def stop(self) -> None:
        await self._child.stop()

    async def device(self) -> Device:
        return msgspec.json.decode(await self._said(AskDevice()), type=Device)

    async def _said(self, command: msgspec.Struct) -> bytes:
        assert self._running is not None and self._running.stdin is not None and self._running.stdout is not None
        self._running.stdin.write(msgspec.json.encode(command) + b"\n")
        line = await self._running.stdout.readline()
        if not line:
            raise self._child.failed(f"{self._child.name} ended")
        return line


class InProcess(Library):
    """mlx-lm's batch; None is its default."""

    def __init__(
        self, name: str, checkpoint: Checkpoint, threads: int, logs: Path, step: int | None, batch: int | None
    ) -> None:
        super().__init__(name, ["bench.libraries.mlx_lm_batch", str(checkpoint.folder)], threads, logs)
        self.name = name
        self._step, self._batch = step, batch

    async def run(self, asks: Sequence[Ask], *, keep: bool = False) -> list[Stream]:
        pieces = tuple(Piece(ask.ids, ask.max_tokens, ask.after) for ask in asks)
        answer = await self._said(Generate(pieces, self._step, self._batch, keep))
        return msgspec.json.decode(answer, type=list[Stream])

    async def bandwidth(self, megabytes: int) -> dict[str, float]:
        return msgspec.json.decode(await self._said(Bandwidth(megabytes)), type=Measured).speeds


class OverHttp:
    """A server that is asked over HTTP, at `url` when it was started; `ready_seconds` is until the port answered."""

    def __init__(self, name: str, model: str, child: Child, port: int | None) -> None:
        self.name = name
        self.ready_seconds = 0.0
        self.url = ""
        self._model = model
        self._child = child
        self._port = port
        self._client: Client | None = None

    @property
    def process(self) -> psutil.Process:
        return self._child.process

    async def start(self) -> None:
        began = time.monotonic()
        running = await self._child.start()
        url = f"http://127.0.0.1:{self._port}"
        if self._port is None:
            assert running.stdout is not None
            line = await running.stdout.readline()
            if not line:
                raise self._child.failed(f"{self.name} didn't start")
            url = json.loads(line)["main_url"]
        await self._answers(url, began)
        self.ready_seconds = time.monotonic() - began
        self.url = url
        self._client = Client(url, self._model)

    async def stop(self) -> None:
        await self._child.stop()

    async def run(self, asks: Sequence[Ask], *, keep: bool = False) -> list[Stream]:
        assert self._client is not None
        return await self._client.run(asks)

    async def _answers(self, url: str, began: float) -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=START_SECONDS) as http:
            while time.monotonic() - began < START_SECONDS:
                with contextlib.suppress(httpx2.TransportError):
                    await http.get("/health")
                    return
                if self._child.ended:
                    raise self._child.failed(f"{self.name} didn't start")
                await asyncio.sleep(0.01)
        raise self._child.failed(f"{self.name} doesn't answer")


def in_process(checkpoint: Checkpoint, threads: int, logs: Path) -> list[InProcess]:
    return [
        InProcess(BATCH, checkpoint, threads, logs, None, None),
        InProcess(BATCH_SMALL, checkpoint, threads, logs, 256, 1),
    ]


def ours(checkpoint: Checkpoint, threads: int, logs: Path, tree: Path | None = None) -> OverHttp:
    """Without OpenBLAS preloaded: its runners load it themselves, and the server's process needs none.

    `tree` is another checkout of the project, with an environment of its own: its server instead of this one's.
    """
    command = ["mlx_local_inference", "serve", "--models-dir", str(checkpoint.folder.parent), "--json"]
    command += ["--port", "0", "--audio-port", "0"]
    environment = processes.environment(threads, preload=False)
    name, python = (OURS, sys.executable) if tree is None else (OTHER_TREE, str(tree / ".venv" / "bin" / "python"))
    return OverHttp(name, checkpoint.name, Child(name, command, environment, logs, python), None)


def others(checkpoint: Checkpoint, threads: int, logs: Path) -> list[OverHttp]:
    """The servers that ship with mlx-lm and, where it is installed, mlx-vlm."""
    found = []
    for name, module in OTHERS.items():
        if importlib.util.find_spec(module) is None:
            continue
        port = processes.free_port()
        command = [f"{module}.server", "--model", str(checkpoint.folder), "--host", "127.0.0.1", "--port", str(port)]
        command += FLAGS[name]
        environment = processes.environment(threads, preload=True)
        found.append(OverHttp(name, str(checkpoint.folder), Child(name, command, environment, logs), port))
    return found


def not_installed() -> list[str]:
    return [name for name, module in OTHERS.items() if importlib.util.find_spec(module) is None]


def blas_of(process: psutil.Process) -> list[str]:
    """The BLAS libraries that a process has loaded, where the system tells."""
    with contextlib.suppress(psutil.Error, AttributeError, subprocess.SubprocessError):
        paths = [Path(region.path) for region in process.memory_maps()]
        return sorted({path.name for path in paths if "blas" in path.name.lower()})
    return []
