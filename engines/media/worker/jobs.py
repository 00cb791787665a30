"""What the media process does for one request, on a thread of its own: pieces of a file, a whole clip, an encoder."""

import gc
import logging
import queue
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

import numpy as np

from engines.ipc import job, media_protocol
from engines.ipc.media_protocol import Selection
from engines.media.worker.audio.decode import Recording
from engines.media.worker.audio.encode import FileEncoder
from engines.media.worker.audio.listen import PieceSource, has_sound, with_sound
from engines.media.worker.audio.split import SampleRange, Samples
from engines.types.audio import EAR_RATE
from engines.types.errors import Failure, InternalError, InvalidRequest, ServiceError

BEAT_SECONDS = 0.25
MOST_CPU_SECONDS = 120.0  # of a thread, and in addition
CPU_PER_SECOND = 0.4  # for each second decoded; decoding takes a hundredth of it, of 64 channels a fifth

log = logging.getLogger("media")


class Cancelled(Exception):
    """Nobody wants the job any more."""


class MediaJob:
    """One job's connection to its client: what was sent to it, what it says, and whether it should go on."""

    def __init__(self, command: media_protocol.Job, send: Callable[[media_protocol.Report], None]) -> None:
        self._command = command
        self._send = send
        self._inbox: queue.SimpleQueue[media_protocol.Command] = queue.SimpleQueue()
        self._cancelled = False
        self._beaten = 0.0

    def put(self, command: media_protocol.Command) -> None:
        """Called from another thread, as the only method besides `run`."""
        self._cancelled |= isinstance(command, job.Cancel)
        self._inbox.put(command)

    def run(self) -> None:
        """Ends with exactly one last report, whatever happens."""
        try:
            match self._command:
                case media_protocol.Split():
                    self._split(self._command)
                case media_protocol.Clip():
                    self._clip(self._command)
                case media_protocol.Encode():
                    self._encode(self._command)
        except Cancelled:
            self._send(media_protocol.Dropped(self._command.id))
        except ServiceError as error:
            self._fail(error)
        except MemoryError:
            self._fail(self._too_large())
        except Exception:
            log.exception("a job failed")
            self._fail(InternalError("The sound could not be processed; the server's log says why."))
        finally:
            gc.collect()  # the library's objects refer to each other, and hold what counts no Python object

    def _too_large(self) -> InvalidRequest:
        if isinstance(self._command, media_protocol.Encode):
            message = f"The sound can't be written as {self._command.format} in the memory that is allowed for it."
            return InvalidRequest(f"{message} Send the text in parts.", param="input")
        return InvalidRequest("The file can't be decoded in the memory that is allowed for it.", param="file")

    def _fail(self, error: ServiceError) -> None:
        self._send(job.Failed(self._command.id, Failure.of(error)))

    def _check(self, done: float, total: float | None) -> None:
        """Called between any two steps of decoding: tells that it goes on, or ends it."""
        if self._cancelled:
            raise Cancelled
        now = time.monotonic()
        if now - self._beaten >= BEAT_SECONDS:
            self._beaten = now
            if time.thread_time() > MOST_CPU_SECONDS + CPU_PER_SECOND * done:
                raise InvalidRequest("The file takes too long to decode. Is it damaged?", param="file")
            self._send(media_protocol.JobProgress(self._command.id, done, _at_least(total, done)))

    def _take(self) -> media_protocol.Command:
        """The next command for this job; waits for it."""
        command = self._inbox.get()
        if self._cancelled:
            raise Cancelled
        return command

    def _data(self, data: bytes) -> None:
        for at in range(0, len(data), media_protocol.MAX_DATA):
            self._send(media_protocol.Data(self._command.id, data[at : at + media_protocol.MAX_DATA]))

    def _split(self, command: media_protocol.Split) -> None:
        selection, credit = command.options.selection, command.credit
        with ExitStack() as stack:

            def listener(track: int | None) -> PieceSource:
                recording = self._recording(command.path, EAR_RATE, command.options.limit, selection, track)
                return PieceSource(stack.enter_context(closing(recording)), command.options)

            chosen = with_sound(listener, selection.track)
            for part, channel in chosen.parts():
                credit = self._give(part, channel, credit, chosen.recording)
            self._end(chosen.recording)

    def _recording(self, path: str, rate: int, limit: float, selection: Selection, track: int | None) -> Recording:
        channel = selection.channels if isinstance(selection.channels, int) else None
        return Recording(path, rate, limit, self._check, channel, track)

    def _end(self, recording: Recording) -> None:
        cut, gaps = recording.cut, recording.gaps
        self._send(
            media_protocol.Ended(self._command.id, recording.seconds, cut, gaps, recording.track, recording.tracks)
        )

    def _give(self, part: SampleRange, channel: int, credit: int, recording: Recording) -> int:
        """The credit that is left. Waits while there is none."""
        while credit < 1:
            match self._take():
                case job.Credit(count=pieces):
                    credit += pieces
        self._data(part.samples.tobytes())
        done = recording.seconds
        self._send(
            media_protocol.PieceMade(
                self._command.id, part.start / EAR_RATE, done, _at_least(recording.total, done), channel
            )
        )
        return credit - 1

    def _clip(self, command: media_protocol.Clip) -> None:
        with ExitStack() as stack:

            def clip(track: int | None) -> tuple[Recording, Samples]:
                opened = self._recording(command.path, command.rate, command.longest, command.selection, track)
                recording = stack.enter_context(closing(opened))
                return recording, np.concatenate(list(recording.blocks()))

            recording, samples = first = clip(command.selection.track)
            for other in first[0].others:
                if has_sound(samples, command.rate):
                    break
                recording, samples = clip(other)
            if not has_sound(samples, command.rate):
                recording, samples = first
            self._data(samples.tobytes())
            self._end(recording)

    def _encode(self, command: media_protocol.Encode) -> None:
        encoder = FileEncoder(command.format, command.rate_in, command.rate_out, command.speed, command.whole)
        fed = 0
        with closing(encoder):
            self._send(media_protocol.Turn(command.id))
            while isinstance(said := self._take(), media_protocol.Feed):
                samples = np.frombuffer(said.samples, "<f4")
                fed += len(samples)
                self._data(encoder.feed(samples))
                self._send(media_protocol.Turn(command.id))
            for data in encoder.finish():
                if self._cancelled:
                    raise Cancelled
                self._data(data)
        self._send(media_protocol.Ended(command.id, fed / command.rate_in / command.speed, cut=False))


def _at_least(total: float | None, done: float) -> float | None:
    """Headers err."""
    return None if total is None else max(total, done)
