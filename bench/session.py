"""One run of the bench: who takes turns on which checkpoint, and every figure that came out."""

import contextlib
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
from msgspec import Struct

from bench import machine, processes
from bench.checkpoints import chat as checkpoints
from bench.checkpoints.chat import RandomCheckpoint
from bench.contenders import in_process, names, servers
from bench.contenders.in_process import LibraryProcess
from bench.contenders.protocol import ChatContender
from bench.contenders.servers import OverHttp
from bench.libraries.jobs import Device
from bench.prompts import Prompts
from bench.scale import Scale
from bench.streams import Ask, BenchFailed, Run, check

WARM_TOKENS = 16

T = TypeVar("T")


class FigureTable:
    """By figure and contender: one value a round."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, key: str, contender: str, value: float) -> None:
        self._values[key][contender].append(value)

    def medians(self) -> dict[str, dict[str, float]]:
        return {
            key: {name: statistics.median(values) for name, values in by_name.items()}
            for key, by_name in self._values.items()
        }

    def values(self) -> dict[str, dict[str, list[float]]]:
        return {key: dict(by_name) for key, by_name in self._values.items()}


class Level(Struct, frozen=True):
    """One burst of equal streams, for the parts that derive something from it."""

    checkpoint: RandomCheckpoint
    streams: int
    contender: str
    run: Run


class BenchSession:
    def __init__(self, scale: Scale, rounds: int, threads: int, work: Path, against: Path | None = None) -> None:
        """`against`: only this tree's server is measured, and that of this other tree."""
        self.scale = scale
        self.rounds = rounds
        self.threads = threads
        self.against = against
        self.figures = FigureTable()
        self.levels: list[Level] = []
        self.series: dict[str, dict[str, list[float]]] = {}
        self.notes: list[str] = []
        self.blas: dict[str, list[str]] = {}
        self.device: Device | None = None
        self.others = machine.Others()
        self.work = work
        self.logs = work / "logs"
        self._models = work / "models"
        self._began = time.monotonic()
        self.logs.mkdir(parents=True, exist_ok=True)

    def checkpoint(self, rows: int) -> RandomCheckpoint:
        return checkpoints.make(self._models, rows, self.scale)

    @property
    def small(self) -> RandomCheckpoint:
        return self.checkpoint(self.scale.vocabularies[0])

    def say(self, text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._began:6.0f} s] {text}\n")
        sys.stderr.flush()

    def note(self, text: str) -> None:
        """Something the reader of the figures must know."""
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)

    def servers(self, checkpoint: RandomCheckpoint) -> list[OverHttp]:
        """Ours, and those that it is compared with."""
        ours = servers.ours(checkpoint, self.threads, self.logs)
        if self.against is not None:
            return [ours, servers.ours(checkpoint, self.threads, self.logs, self.against)]
        return [ours, *servers.others(checkpoint, self.threads, self.logs)]

    @contextlib.asynccontextmanager
    async def contenders(self, checkpoint: RandomCheckpoint) -> AsyncIterator[list[ChatContender]]:
        """All of them, started, warm and at rest."""
        every: list[ChatContender] = [*self.servers(checkpoint)]
        if self.against is None:
            every = [*in_process.batches(checkpoint, self.threads, self.logs), *every]
        warm = Prompts(checkpoint.folder).of_length(self.scale.short_prompt, WARM_TOKENS, "warm")
        async with contextlib.AsyncExitStack() as stack:
            up: list[ChatContender] = []
            for contender in every:
                self.say(f"starting {contender.name} on {checkpoint.name}")
                stack.push_async_callback(contender.stop)
                with self.left_out_if_it_fails(contender.name):
                    await contender.start()
                    if self.device is None and isinstance(contender, LibraryProcess):
                        self.device = await contender.device()
                    await self.measured(contender, [warm])
                    await processes.settled(contender.process)
                    self.remember_blas(contender.name, contender.process)
                    up.append(contender)
            yield up

    @contextlib.contextmanager
    def left_out_if_it_fails(self, name: str) -> Iterator[None]:
        """A server of somebody else that doesn't start or answer is a note; ours, or a library in process, an error."""
        try:
            yield
        except BenchFailed as failure:
            if name not in (*names.OTHERS, names.AUDIO_SERVER):
                raise
            self.note(f"{name} was left out: {str(failure).splitlines()[0]}")

    async def measured(self, contender: ChatContender, asks: Sequence[Ask], *, keep: bool = False) -> Run:
        """One burst, checked: everybody produced what was asked for."""
        before = processes.cpu_seconds(contender.process)
        streams = await contender.run(asks, keep=keep)
        cpu = processes.cpu_seconds(contender.process) - before
        check(asks, streams, contender.name)
        for stream in streams:
            if stream.retries:
                self.note(f"{contender.name} dropped connections, which its client had to open again.")
            if len(stream.arrivals) != stream.tokens:
                self.note(f"{contender.name} sends several tokens in one event at times: its gaps are between events.")
        return Run(tuple(streams), cpu)

    def turns(self, every: Sequence[T], number: int) -> list[T]:
        """In alternating order, so that what drifts meets all."""
        return list(every) if number % 2 == 0 else list(reversed(every))

    def remember_blas(self, name: str, process: psutil.Process) -> None:
        """Which BLAS a contender's processes have loaded by now."""
        loaded = {library for one in processes.tree(process) for library in processes.blas_of(one)}
        self.blas[name] = sorted(loaded)
