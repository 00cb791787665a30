"""A runner, or the media process, as the server sees it: a child process and the socket to it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import ClassVar, Generic, Self, TypeVar

import msgspec

from engines.host import unix_sockets
from engines.ipc import runner_protocol
from engines.types.errors import raise_shortage

READ_BYTES = 1 << 18

CommandT = TypeVar("CommandT", bound=msgspec.Struct)
ReportT = TypeVar("ReportT", bound=msgspec.Struct)


class ChildProcess(Generic[CommandT, ReportT]):
    """Started by `start`, ended by `kill`; in between, commands go in and reports, of the type `KIND`, come out.

    The child also ends by itself when this end of the socket closes, so none outlives the server.
    """

    KIND: ClassVar[object]

    def __init__(
        self, child: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._child = child
        self._reader = reader
        self._writer = writer
        self._decoder: runner_protocol.FrameDecoder[ReportT] = runner_protocol.FrameDecoder(self.KIND)

    @classmethod
    async def start(cls, command: tuple[str, ...], *files: int) -> Self:
        """An absolute interpreter and `-P`: a user's folder may hold modules of the names that ours have.

        The child gets descriptors, of its socket and these `files`, as its arguments.
        """
        try:
            ours, theirs = unix_sockets.pair()
        except OSError as error:
            raise_shortage(error)
            raise
        with theirs:
            # Ours first, so that nothing is left to wait for, or to be cancelled in, once there is a process.
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                child = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *command,
                    *map(str, (theirs.fileno(), *files)),
                    pass_fds=(theirs.fileno(), *files),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(),
                    start_new_session=True,  # a Ctrl-C on the terminal is for the server; it ends its runners itself
                    env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
                )
            except BaseException as error:
                writer.close()
                raise_shortage(error)
                raise
        return cls(child, reader, writer)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.returncode is None

    def send(self, command: CommandT) -> None:
        """Never blocks; commands to a child that is gone are dropped: its end is reported by `reports`."""
        if not self._writer.is_closing():
            self._writer.write(runner_protocol.encode(command))

    async def reports(self) -> AsyncIterator[ReportT]:
        """Everything the child says, until it ends."""
        while reports := await self._read():
            for report in reports:
                yield report

    async def _read(self) -> list[ReportT]:
        """The next reports, at least one; none at the end."""
        reports: list[ReportT] = []
        with contextlib.suppress(ConnectionError):
            while not reports and (data := await self._reader.read(READ_BYTES)):
                reports = self._decoder.feed(data)
        return reports

    def kill(self) -> None:
        """Not by the library's own `kill`, which reaps a process that has ended, and so loses its exit status."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Waits for the process to end and closes the socket; the exit status, negative for a signal."""
        status = await self._child.wait()
        self._writer.close()
        return status


class RunnerProcess(ChildProcess[runner_protocol.Command, runner_protocol.Report]):
    """A runner; it introduces itself when its imports are done."""

    KIND = runner_protocol.Report
