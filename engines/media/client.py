"""The media process as the server sees it: pieces of recordings, clips, encoders. All that the server imports of it."""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from engines.ipc import media_protocol
from engines.ipc.child import ChildProcess
from engines.ipc.job import Cancel, Credit, Failed, Ping
from engines.ipc.media_protocol import Decoded, DecodeProgress, Ending, PieceOptions, RecordingPiece, Selection
from engines.ipc.tasks import Tasks
from engines.media.decode_slots import DecodeSlots, SlotHolder
from engines.types.audio import EAR_RATE, SoundFormat
from engines.types.errors import InternalError, RunnerDied, ServiceError, Stalled, stopping

__all__ = ["Decoded", "Encoding", "Ending", "Media", "RecordingPiece", "PieceOptions", "DecodeProgress", "Selection"]

COMMAND = ("-P", "-m", "engines.media.worker.main")
PIECES_AHEAD = 2
MOST_RECORDINGS = 32  # at a time; each holds as much as its longest piece
WHOLE = Selection()
PROGRESS_SECONDS = 10.0  # of the recording
TICK_SECONDS = 1.0  # patience is counted in these, so that a machine that slept isn't taken for a decoder that hangs
PATIENCE_SECONDS = 60.0
PING_SECONDS = 2.0
LATE_SECONDS = 10.0  # without a sign of life; from then on it is told
IDLE_SECONDS = 300.0  # without a job: the process costs 60 MB, and its start a fifth of a second

log = logging.getLogger("media")

T = TypeVar("T", bound=media_protocol.Report)


class MediaProcess(ChildProcess[media_protocol.Command, media_protocol.Report]):
    KIND: ClassVar[object] = media_protocol.Report


class Line:
    """One job's connection to its process. Made by `Link.begin`."""

    def __init__(self, job: media_protocol.Job, link: "Link", patience: float) -> None:
        self.id = job.id
        self._job = job
        self._link = link
        self._patience = patience
        self._said: asyncio.Queue[media_protocol.Report | ServiceError] = asyncio.Queue()
        self.ended = asyncio.Event()

    def send(self, command: media_protocol.Command) -> None:
        self._link.process.send(command)

    def put(self, said: media_protocol.Report | ServiceError) -> None:
        if isinstance(said, media_protocol.Ended | Failed | media_protocol.Dropped | ServiceError):
            self.ended.set()
        self._said.put_nowait(said)

    async def next(self) -> media_protocol.Report:
        """What the job says next. Raises its failure; the process is ended when nothing is heard for too long."""
        silent = 0.0
        while True:
            try:
                async with asyncio.timeout(min(TICK_SECONDS, self._patience)):
                    said = await self._said.get()
                break
            except TimeoutError:
                silent += TICK_SECONDS
            if silent >= self._patience:
                self._link.kill("a job made no progress")
                raise self._stalled()
        if isinstance(said, ServiceError):
            raise said
        if isinstance(said, Failed):
            raise said.failure.error()
        return said

    def _stalled(self) -> ServiceError:
        if self._link.has_hung:
            message = "The process that reads and writes sound hung, and is started anew. Try again."
            return RunnerDied(message, retry_after=1.0)
        if isinstance(self._job, media_protocol.Encode):
            return Stalled(
                f"The sound could not be written as {self._job.format}: nothing came of it for too long. Try again, or "
                "with another response_format."
            )
        return Stalled("The sound could not be processed: nothing came of it for too long. Is the file damaged?")

    async def collected(self) -> tuple[bytes, media_protocol.Report]:
        """The data up to the next report of another kind, beats apart, and that report."""
        data: list[bytes] = []
        while True:
            said = await self.next()
            if isinstance(said, media_protocol.Data):
                data.append(said.data)
            elif not isinstance(said, media_protocol.JobProgress):
                return b"".join(data), said


class Link:
    """One media process, from its start to its end, and the jobs in it."""

    def __init__(self, process: MediaProcess, patience: float) -> None:
        self.process = process
        self.alive = True
        self.gone = asyncio.Event()
        self._stopping = False
        self._patience = patience
        self._lines: dict[int, Line] = {}
        self._used = time.monotonic()
        self._has_answered = self._heard = False
        self._silent = 0.0

    @property
    def is_late(self) -> bool:
        """Whether it has given no sign of life for long, though it has lived."""
        return self.alive and self.has_hung

    @property
    def has_hung(self) -> bool:
        return self._has_answered and self._silent > LATE_SECONDS

    @property
    def idle_since(self) -> float | None:
        """When its last job ended, on the monotonic clock; None while there is one."""
        return None if self._lines else self._used

    def begin(self, command: media_protocol.Job) -> Line:
        line = self._lines[command.id] = Line(command, self, self._patience)
        line.send(command)
        return line

    def kill(self, reason: str) -> None:
        if self.alive:
            log.error("the media process %d is ended: %s", self.process.pid, reason)
        self.alive = False
        self.process.kill()

    async def stop(self) -> None:
        """For the server stops; returns when the process is gone and all its jobs were told."""
        self._stopping, self.alive = True, False
        self.process.kill()
        await self.gone.wait()

    async def follow(self) -> None:
        """Take in what the process says, until it ends; then all jobs in it fail."""
        try:
            async for report in self.process.reports():
                self._heard = True
                if (line := self._lines.get(report.id)) is not None:
                    line.put(report)
                    if line.ended.is_set():
                        del self._lines[report.id]
                        self._used = time.monotonic()
        except Exception:
            log.exception("what the media process %d says can't be taken in", self.process.pid)
        finally:
            await self._end()

    async def watch(self) -> None:
        """Ask it for signs of life, and end it when it gives none, with or without jobs in it.

        Silence is counted in pings, so that a machine that slept isn't taken for a process that hangs.
        """
        while self.alive:
            self._heard = False
            self.process.send(Ping())
            await asyncio.sleep(PING_SECONDS)
            self._has_answered = self._has_answered or self._heard
            self._silent = 0.0 if self._heard else self._silent + PING_SECONDS
            if self._has_answered and self._silent > max(self._patience, LATE_SECONDS):
                self.kill("it gives no sign of life")

    async def buried(self, line: Line) -> None:
        """Wait for the end of a job that was cancelled; one that doesn't end is the end of the process."""
        ticks = 0
        while not line.ended.is_set():
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await line.ended.wait()
            except TimeoutError:
                ticks += 1
            if ticks * TICK_SECONDS >= self._patience:
                self.kill("a cancelled job doesn't end")
                return

    async def _end(self) -> None:
        expected, self.alive = not self.alive, False
        self.process.kill()
        status = await self.process.ended()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        if not expected:
            log.error("the media process %d died, %s", self.process.pid, how)
        died = RunnerDied(f"The process that reads and writes sound ended ({how}). Try again.", retry_after=1.0)
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.put(stopping() if self._stopping else died)
        self.gone.set()


class Encoding:
    """A file of sound in the making: `feed` it in order, then `finish` it, once."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def feed(self, samples: bytes) -> bytes:
        """Bytes of the file that are there now; none when it is to be whole. Samples are float32."""
        made = b""
        for at in range(0, len(samples), media_protocol.MAX_DATA):
            self._line.send(media_protocol.Feed(self._line.id, samples[at : at + media_protocol.MAX_DATA]))
            data, said = await self._line.collected()
            _expect(said, media_protocol.Turn)
            made += data
        return made

    async def finish(self) -> bytes:
        """The rest of the file, or the whole of it."""
        self._line.send(media_protocol.Finish(self._line.id))
        data, said = await self._line.collected()
        _expect(said, media_protocol.Ended)
        return data


class Media:
    """Sound in and out, by one process that is started when it is first needed, and again after its end.

    Its end costs the jobs that are in it: `RunnerDied`, or `Stalled` for the one that made no progress for `patience`
    seconds. It is ended when it had no job for `idle` seconds. Leaving the context ends it.
    """

    def __init__(
        self,
        patience: float = PATIENCE_SECONDS,
        command: tuple[str, ...] = COMMAND,
        idle: float = IDLE_SECONDS,
    ) -> None:
        self._patience = patience
        self._idle = idle
        self._command = command
        self._ids = itertools.count(1)
        self._starting = asyncio.Lock()
        self._places = DecodeSlots(MOST_RECORDINGS)
        self._link: Link | None = None
        self._tasks = Tasks()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """The process's, while there is one."""
        return self._link.process.pid if self._link is not None and self._link.alive else None

    @property
    def is_late(self) -> bool:
        """Whether the process hangs, as far as one can tell."""
        return self._link is not None and self._link.is_late

    async def close(self) -> None:
        """End the process, and wait for it; jobs that are in it fail, and none is begun any more."""
        self._closed = True
        async with self._starting:
            link, self._link = self._link, None
            if link is not None:
                await link.stop()
            await self._tasks.close()

    async def pieces(
        self, path: str, options: PieceOptions, reader: SlotHolder | None = None
    ) -> AsyncGenerator[RecordingPiece | DecodeProgress | Ending, None]:
        """The sound of a file in pieces, in order, then its ending; `DecodeProgress` while there is only silence.

        Raises `InvalidRequest` for a file that isn't a recording, or is longer than the limit. A few pieces are made
        ahead. Close the generator to end it early. `reader` is stopped when others wait for its place and it doesn't
        read.
        """
        place = self._places.place(reader)
        async with self._job(lambda id: media_protocol.Split(id, path, options, PIECES_AHEAD), place) as line:
            data: list[bytes] = []
            told = 0.0
            while True:
                match said := await line.next():
                    case media_protocol.Data():
                        data.append(said.data)
                    case media_protocol.PieceMade():
                        samples, told = b"".join(data), said.done
                        data.clear()
                        end = said.start + len(samples) / (4 * EAR_RATE)
                        yield RecordingPiece(said.start, end, samples, said.done, said.total, said.channel)
                        line.send(Credit(line.id, 1))
                    case media_protocol.JobProgress() if said.done - told >= PROGRESS_SECONDS:
                        told = said.done
                        yield DecodeProgress(said.done, said.total)
                    case media_protocol.Ended():
                        yield Ending(said.seconds, said.cut, said.gaps, said.track, said.tracks)
                        return

    async def decode(self, path: str, rate: int, longest_seconds: float, selection: Selection = WHOLE) -> Decoded:
        """The whole of a short recording, at a rate. Raises `InvalidRequest` as `pieces` does."""
        async with self._job(
            lambda id: media_protocol.Clip(id, path, rate, longest_seconds, selection), self._places.place()
        ) as line:
            samples, said = await line.collected()
            ended = _expect(said, media_protocol.Ended)
            return Decoded(samples, ended.seconds, ended.cut, ended.gaps, ended.track, ended.tracks)

    @asynccontextmanager
    async def encoder(
        self, format: SoundFormat, rate_in: int, rate_out: int | None = None, speed: float = 1.0, whole: bool = True
    ) -> AsyncIterator[Encoding]:
        """A file of one channel in the making. Raises `InvalidRequest` at once for a rate or speed that can't be.

        `rate_out` None takes the nearest rate that the format can have. A whole file comes when it is finished, and
        has true sizes in its header; else its bytes come as they are made.
        """
        async with self._job(
            lambda id: media_protocol.Encode(id, format, rate_in, rate_out, speed, whole), nullcontext()
        ) as line:
            _expect((await line.collected())[1], media_protocol.Turn)
            yield Encoding(line)

    @asynccontextmanager
    async def _job(
        self, make: Callable[[int], media_protocol.Job], slot: AbstractAsyncContextManager[None]
    ) -> AsyncIterator[Line]:
        async with slot:
            link = await self._living_link()
            line = link.begin(make(next(self._ids)))
            try:
                yield line
            finally:
                if not line.ended.is_set() and link.alive:
                    line.send(Cancel(line.id))
                    self._tasks.spawn(link.buried(line))

    async def _living_link(self) -> Link:
        async with self._starting:
            if self._closed:
                raise stopping()
            if self._link is not None and self._link.is_late and self._link.idle_since is not None:
                self._link.kill("it hangs, and is needed")
            if self._link is None or not self._link.alive:
                self._link = Link(await MediaProcess.start(self._command), self._patience)
                self._tasks.spawn(self._link.follow())
                self._tasks.spawn(self._retire(self._link))
                self._tasks.spawn(self._link.watch())
            return self._link

    async def _retire(self, link: Link) -> None:
        """End a process that nobody needed for long. A job that comes meanwhile waits, and starts another."""
        left = self._idle
        while link.alive and left > 0:
            await asyncio.sleep(left)
            async with self._starting:
                since = link.idle_since
                left = self._idle if since is None else since + self._idle - time.monotonic()
                if link.alive and left <= 0:
                    await link.stop()


def _expect(said: media_protocol.Report, kind: type[T]) -> T:
    if not isinstance(said, kind):
        raise InternalError("The media process answered out of turn. Try again.")
    return said
