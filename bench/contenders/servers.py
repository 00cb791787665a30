"""Servers: ours, and those that ship with mlx-lm and mlx-vlm."""

import asyncio
import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import psutil

from bench import processes
from bench.checkpoints.chat import RandomCheckpoint
from bench.client import audio
from bench.client.chat import ChatClient
from bench.contenders.child import Child
from bench.contenders.names import MLX_LM, MLX_VLM, OTHER_TREE, OTHERS, OURS
from bench.libraries.jobs import VOICE, AudioAnswer, AudioKind, model_of
from bench.streams import Ask, Stream

START_SECONDS = 120.0
# So that the template is rendered as by all others: without this one closes the thought in the prompt.
FLAGS = {MLX_LM: [], MLX_VLM: ["--enable-thinking"]}


class OverHttp:
    """A server that is asked over HTTP, at `url` when it was started; `ready_seconds` is until the port answered."""

    def __init__(self, name: str, model: str, child: Child, port: int | None) -> None:
        self.name = name
        self.ready_seconds = 0.0
        self.url = ""
        self._model = model
        self._child = child
        self._port = port

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

    async def stop(self) -> None:
        await self._child.stop()

    async def run(self, asks: Sequence[Ask], *, keep: bool = False) -> list[Stream]:
        return await ChatClient(self.url, self._model).run(asks)

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


class OurServer(OverHttp):
    """It chats, listens and speaks; the models of sound are known by their folders' names."""

    async def listen(self, kind: AudioKind, paths: Sequence[Path], *, streamed: bool) -> list[AudioAnswer]:
        return await asyncio.gather(*(audio.transcribe(self.url, model_of(kind), path) for path in paths))

    async def speak(self, kind: AudioKind, texts: Sequence[str], *, streamed: bool) -> list[AudioAnswer]:
        return await asyncio.gather(*(audio.speak(self.url, model_of(kind), text, VOICE) for text in texts))


def ours(checkpoint: RandomCheckpoint, threads: int, logs: Path, tree: Path | None = None) -> OurServer:
    """Without OpenBLAS preloaded: its runners load it themselves, and the server's process needs none.

    `tree` is another checkout of the project, with an environment of its own: its server instead of this one's.
    """
    command = ["mlx_local_inference", "serve", "--models-dir", str(checkpoint.folder.parent), "--json"]
    command += ["--port", "0", "--audio-port", "0"]
    environment = processes.environment(threads, preload=False)
    name, python = (OURS, sys.executable) if tree is None else (OTHER_TREE, str(tree / ".venv" / "bin" / "python"))
    return OurServer(name, checkpoint.name, Child(name, command, environment, logs, python), None)


def others(checkpoint: RandomCheckpoint, threads: int, logs: Path) -> list[OverHttp]:
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
