"""A contender's process."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench import processes
from bench.streams import BenchFailed

END_SECONDS = 30.0
LINE_BYTES = 1 << 26


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
