"""mlx-lm and mlx-audio without a server, each in a process of its own."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from bench import processes
from bench.checkpoints.chat import RandomCheckpoint
from bench.contenders.child import Child
from bench.contenders.names import BATCH, BATCH_SMALL, LIBRARY
from bench.libraries.jobs import (
    BATCH_KIND,
    VOICE,
    AskDevice,
    AudioAnswer,
    AudioKind,
    Bandwidth,
    Bandwidths,
    Device,
    Generate,
    Job,
    Listen,
    Speak,
    TokenPrompt,
)
from bench.streams import Ask, Stream


class LibraryProcess:
    """`bench.libraries` in a process of its own: it answers each line of JSON by another."""

    def __init__(self, name: str, kind: str, folder: Path, threads: int, logs: Path) -> None:
        command = ["bench.libraries", kind, str(folder)]
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
        return msgspec.json.decode(await self._answer(AskDevice()), type=Device)

    async def _answer(self, command: msgspec.Struct) -> bytes:
        assert self._running is not None and self._running.stdin is not None and self._running.stdout is not None
        self._running.stdin.write(msgspec.json.encode(command) + b"\n")
        line = await self._running.stdout.readline()
        if not line:
            raise self._child.failed(f"{self._child.name} ended")
        return line


class MlxLmInProcess(LibraryProcess):
    """mlx-lm's batch; None is its default."""

    def __init__(
        self, name: str, checkpoint: RandomCheckpoint, threads: int, logs: Path, step: int | None, batch: int | None
    ) -> None:
        super().__init__(name, BATCH_KIND, checkpoint.folder, threads, logs)
        self.name = name
        self._step, self._batch = step, batch

    async def run(self, asks: Sequence[Ask], *, keep: bool = False) -> list[Stream]:
        prompts = tuple(TokenPrompt(ask.ids, ask.max_tokens, ask.after) for ask in asks)
        answer = await self._answer(Generate(prompts, self._step, self._batch, keep))
        return msgspec.json.decode(answer, type=list[Stream])

    async def bandwidth(self, megabytes: int) -> dict[str, float]:
        return msgspec.json.decode(await self._answer(Bandwidth(megabytes)), type=Bandwidths).speeds


class MlxAudioInProcess(LibraryProcess):
    """mlx-audio's `generate` of one model; of recordings in pieces as long as ours."""

    name = LIBRARY

    def __init__(self, kind: AudioKind, folder: Path, piece: float, threads: int, logs: Path) -> None:
        super().__init__(f"{self.name}-{kind}", kind, folder, threads, logs)
        self._piece = piece

    async def listen(self, kind: AudioKind, paths: Sequence[Path], *, streamed: bool) -> list[AudioAnswer]:
        return await self._answers(Listen(tuple(map(str, paths)), self._piece, streamed))

    async def speak(self, kind: AudioKind, texts: Sequence[str], *, streamed: bool) -> list[AudioAnswer]:
        return await self._answers(Speak(tuple(texts), VOICE, streamed))

    async def _answers(self, job: Job) -> list[AudioAnswer]:
        return msgspec.json.decode(await self._answer(job), type=list[AudioAnswer])


def batches(checkpoint: RandomCheckpoint, threads: int, logs: Path) -> list[MlxLmInProcess]:
    return [
        MlxLmInProcess(BATCH, checkpoint, threads, logs, None, None),
        MlxLmInProcess(BATCH_SMALL, checkpoint, threads, logs, 256, 1),
    ]
