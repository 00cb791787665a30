"""The voice engine: utterances join and leave one running batch at every step, a frame of 80 ms of each a step."""

import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from engines.ipc import runner_protocol
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.qwen3_tts.codec import State
from engines.runner.qwen3_tts.model import VoiceModel
from engines.runner.qwen3_tts.prompt import Utterance
from engines.runner.row_engine import Report, RowEngine, guarded_row
from engines.types.audio import VOICE_RATE, Sound, UtteranceDone
from engines.types.common import Timings, Usage

Frame = npt.NDArray[np.int64]

ROWS = 8
# Frames that are made into sound together: few at first, so that it begins soon, then twice as many each time, which
# costs less: who speaks twice as fast as is heard has the next sound before the last one ends.
FIRST_CHUNK_ALONE, FIRST_CHUNK, LONGEST_CHUNK = 2, 4, 12


@dataclass(eq=False)
class VoiceRow:
    """A request in work, with the frames [groups] that it has; the first `heard` of them are sound already.

    `cache` is None before its prompt is read, when it had to give it up, and while it stands in the batch.
    """

    id: int
    prompt: Utterance
    credit: int
    seed: int
    stream: State
    began: float
    cache: Cache | None = None
    first: float = 0.0
    frames: list[Frame] = field(default_factory=list)
    heard: int = 0
    chunk: int = FIRST_CHUNK
    samples: int = 0

    @property
    def trace(self) -> str:
        return self.prompt.trace

    @property
    def positions(self) -> int:
        """Of its cache, at most."""
        return self.prompt.prompt_tokens + self.prompt.max_frames

    @property
    def codes(self) -> list[int]:
        """The first of each frame."""
        return [int(frame[0]) for frame in self.frames]


class VoiceEngine(RowEngine[VoiceRow]):
    """`Engine[Utterance]` over one model. Rows enter while the caches of all, full grown, fit into `kv_budget` bytes.

    Rows that may send nothing make room for others: they give their caches up, and are read again when they may.
    """

    def __init__(self, model: VoiceModel, kv_budget: int) -> None:
        self._model = model
        self._kv_budget = kv_budget
        self._waiting: list[VoiceRow] = []
        self._running: list[VoiceRow] = []
        self._paused: list[VoiceRow] = []
        self._batch: Cache | None = None

    @property
    def idle(self) -> bool:
        return not (self._running or any(row.credit > 0 for row in (*self._waiting, *self._paused)))

    @property
    def rows(self) -> Sequence[VoiceRow]:
        return (*self._waiting, *self._running, *self._paused)

    def submit(self, id: int, prepared: Utterance, credit: int) -> None:
        seed = secrets.randbits(63) if prepared.seed is None else prepared.seed
        stream = self._model.codec.new_stream()
        self._waiting.append(VoiceRow(id, prepared, credit, seed, stream, time.monotonic()))

    def drop(self, rows: Collection[VoiceRow]) -> None:
        self._waiting = [row for row in self._waiting if row not in rows]
        self._paused = [row for row in self._paused if row not in rows]
        self._retain([row for row in self._running if row not in rows])
        mx.clear_cache()

    def resize(self, kv_budget: int) -> None:
        """Rows in work go on; fewer enter after them."""
        self._kv_budget = kv_budget

    def step(self) -> Sequence[Report]:
        """Read one waiting prompt, let rows return that may send again, then make a frame of every running row."""
        reports: list[Report] = []
        if (row := self._next_row()) is not None:
            reports += self.guarded(partial(self._read, row), [row])
        reports += self.guarded(self._join, [*self._running, *self._paused])
        reports += self.guarded(self._decode, [*self._running])
        if any(not isinstance(report, runner_protocol.Said) for report in reports):
            mx.clear_cache()
        return reports

    # -- entering -----------------------------------------------------------------------------------------------

    def _next_row(self) -> VoiceRow | None:
        """Who enters next, in order of arrival, taken from those that wait; alone, any may."""
        row = next((row for row in self._waiting if row.credit > 0), None)
        lively = [*self._running, *(row for row in self._paused if row.credit > 0)]
        if row is None or (lively and (len(lively) >= ROWS or not self._fits([*lively, row]))):
            return None
        if not self._fits([*lively, *self._paused, row]):
            self._waiting += [one for one in self._paused if one.credit <= 0]
            self._paused = [one for one in self._paused if one.credit > 0]
            for one in self._waiting:
                one.cache = None
        self._waiting.remove(row)
        return row

    def _fits(self, rows: Sequence[VoiceRow]) -> bool:
        return sum(row.positions for row in dict.fromkeys(rows)) * self._model.position_bytes <= self._kv_budget

    def _read(self, row: VoiceRow) -> list[Report]:
        """A row's prompt, and its first frame; or all that it had before it gave its cache up."""
        prompt = row.prompt
        voice = self._model.voice(prompt.reference) if prompt.reference else None
        if not (row.frames or self._running or self._paused):
            row.chunk = min(row.chunk, FIRST_CHUNK_ALONE)
        row.cache = self._model.new_cache()
        if row.frames:
            self._model.prefill(self._model.embed(prompt, voice, _array(row.frames[:-1])), row.cache)
            self._paused.append(row)
            return []
        if voice is not None:
            self._model.codec.follow(row.stream, voice.codes)
        hidden = self._model.prefill(self._model.embed(prompt, voice), row.cache)
        (frame,) = self._draw([row], hidden)
        row.first = time.monotonic()
        reports, over = self._deliver(row, frame)
        if not over:
            self._paused.append(row)
        return reports

    def _join(self) -> list[Report]:
        """Rows with a cache of their own join the batch, as far as they may send something."""
        joining = [row for row in self._paused if row.credit > 0]
        own = [row.cache for row in joining if row.cache is not None]
        if not joining:
            return []
        self._paused = [row for row in self._paused if row.credit <= 0]
        merged = caches.merge(own)
        if self._batch is None:
            self._batch = merged
        else:
            caches.extend(self._batch, merged)
        for row in joining:
            row.cache = None
        self._running += joining
        return []

    # -- frames -------------------------------------------------------------------------------------------------

    def _decode(self) -> list[Report]:
        if self._batch is None:
            return []
        hidden = self._model.decode(_array([row.frames[-1] for row in self._running]), self._batch)
        frames = self._draw(self._running, hidden)
        reports: list[Report] = []
        staying: list[VoiceRow] = []
        spoken = False  # making sound of frames is work enough for one step: rows for which it is due take turns
        for place, row in enumerate(self._running):
            said, over = self._deliver(row, frames[place], wait=spoken)
            spoken = spoken or bool(said)
            reports += said
            if row.credit > 0 and not over:
                staying.append(row)
            elif not over:
                row.cache = caches.extract(self._batch, place)
                self._paused.append(row)
        self._retain(staying)
        return reports

    def _draw(self, rows: Sequence[VoiceRow], hidden: mx.array) -> Frame:
        """[rows, groups]"""
        made, seeds = [row.codes for row in rows], [row.seed for row in rows]
        imitating = [bool(row.prompt.reference_text) for row in rows]
        return np.array(self._model.draw(hidden, made, seeds, imitating))

    def _deliver(self, row: VoiceRow, frame: Frame, wait: bool = False) -> tuple[list[Report], bool]:
        """What a row's next frame lets the client hear, and whether the row is over. Its failure is its row's alone.

        Sound that is due can `wait` for the next step, unless it is the last. A row that runs has credit for one delta
        at least, so that it can be sent.
        """
        return guarded_row(row, partial(self._take, row, frame, wait))

    def _take(self, row: VoiceRow, frame: Frame, wait: bool) -> tuple[list[Report], bool]:
        stopped = int(frame[0]) == self._model.end
        if not stopped:
            row.frames.append(frame)
        ended = stopped or len(row.frames) >= row.prompt.max_frames
        unheard = len(row.frames) - row.heard
        due = unheard > 0 if ended else unheard >= row.chunk and not wait
        said: list[Report] = [self._sound(row)] if due else []
        return ([*said, _finished(row, stopped)], True) if ended else (said, False)

    def _sound(self, row: VoiceRow) -> runner_protocol.Said:
        samples = self._decoded(row)
        if not np.isfinite(samples).all():
            raise ValueError("the sound isn't finite")
        row.heard = len(row.frames)
        row.chunk = min(2 * row.chunk, LONGEST_CHUNK)
        row.samples += len(samples)
        row.credit -= 1
        return runner_protocol.Said(row.id, Sound(samples.astype("<f4").tobytes()))

    def _decoded(self, row: VoiceRow) -> npt.NDArray[np.float32]:
        """The samples of the frames that weren't heard yet; some frames at a time where others compute as well."""
        parts = []
        frames = row.frames[row.heard :]
        while frames:
            count = self._model.time_slice.size("codec", len(frames))
            parts.append(self._model.codec.decode(row.stream, _array(frames[:count]).T))
            self._model.time_slice.reached("codec", count, parts[-1])
            frames = frames[count:]
        return np.concatenate([np.array(part) for part in parts])

    def _retain(self, rows: list[VoiceRow]) -> None:
        """Drop all others from the batch."""
        if len(rows) == len(self._running) or self._batch is None:
            self._running = rows
            return
        places = [place for place, row in enumerate(self._running) if row in rows]
        self._running = rows
        if rows:
            caches.keep(self._batch, places)
        else:
            self._batch = None


def _array(frames: Sequence[Frame]) -> mx.array:
    """[frames, groups]"""
    return mx.array(np.array(frames))


def _finished(row: VoiceRow, stopped: bool) -> runner_protocol.Finished:
    now = time.monotonic()
    usage = Usage(row.prompt.prompt_tokens, len(row.frames))
    timings = Timings(0.0, row.first - row.began, now - row.first)
    return runner_protocol.Finished(
        row.id, UtteranceDone(row.samples / VOICE_RATE, "stop" if stopped else "length", usage, timings)
    )
