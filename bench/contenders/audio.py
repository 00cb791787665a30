"""Who listens and speaks, behind one protocol."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import psutil

from bench.client import audio as audio_client
from bench.contenders.chat import LIBRARY, OURS, Library, OverHttp
from bench.libraries.audio_jobs import VOICE, Answer, Command, Kind, Listen, Speak, model_of


class AudioContender(Protocol):
    """Between `start` and `stop` it has a process. `streamed`: as soon as it can be told; else as quickly as it can
    be done. Who does both at once takes no notice."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def listen(self, kind: Kind, paths: Sequence[Path], *, streamed: bool) -> list[Answer]: ...

    async def speak(self, kind: Kind, texts: Sequence[str], *, streamed: bool) -> list[Answer]: ...

    @property
    def process(self) -> psutil.Process: ...


class InProcess(Library):
    """mlx-audio's `generate` of one model; of recordings in pieces as long as ours."""

    name = LIBRARY

    def __init__(self, kind: Kind, folder: Path, piece: float, threads: int, logs: Path) -> None:
        super().__init__(f"{self.name}-{kind}", ["bench.libraries.mlx_audio_models", kind, str(folder)], threads, logs)
        self._piece = piece

    async def listen(self, kind: Kind, paths: Sequence[Path], *, streamed: bool) -> list[Answer]:
        return await self._answers(Listen(tuple(map(str, paths)), self._piece, streamed))

    async def speak(self, kind: Kind, texts: Sequence[str], *, streamed: bool) -> list[Answer]:
        return await self._answers(Speak(tuple(texts), VOICE, streamed))

    async def _answers(self, command: Command) -> list[Answer]:
        return msgspec.json.decode(await self._said(command), type=list[Answer])


class Served:
    """A contender that is asked over HTTP."""

    def __init__(self, server: OverHttp) -> None:
        self._server = server

    @property
    def process(self) -> psutil.Process:
        return self._server.process

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()


class Server(Served):
    """Ours. The models are known by their folders' names."""

    name = OURS

    async def listen(self, kind: Kind, paths: Sequence[Path], *, streamed: bool) -> list[Answer]:
        return await asyncio.gather(
            *(audio_client.transcribe(self._server.url, model_of(kind), path) for path in paths)
        )

    async def speak(self, kind: Kind, texts: Sequence[str], *, streamed: bool) -> list[Answer]:
        return await asyncio.gather(
            *(audio_client.speak(self._server.url, model_of(kind), text, VOICE) for text in texts)
        )
