"""The Whisper engine: windows are encoded one at a time, and decoded together, a token of every row a step."""

import time
from collections import deque
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from engines.runner.device_lock import DeviceLock
from engines.runner.row_engine import Report, RowEngine, guarded_row
from engines.runner.whisper import model as models
from engines.runner.whisper import words
from engines.runner.whisper.caches import Rows
from engines.runner.whisper.model import FRAMES, Cross, WhisperModel
from engines.runner.whisper.prepare import WhisperPrompt
from engines.runner.whisper.token_choice import Chooser, WhisperChoice
from engines.runner.whisper.vocabulary import Vocabulary
from engines.runner.whisper.window import Window, WindowState


class WhisperEngine(RowEngine[WindowState]):
    """`Engine[Piece]` over one model. Of the rows that `kv_bytes` have room for, one at least is decoded."""

    def __init__(self, model: WhisperModel, vocabulary: Vocabulary, kv_bytes: int) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._kv_bytes = kv_bytes
        self._chooser = Chooser(vocabulary)
        self._waiting: deque[WindowState] = deque()  # for their next window to be encoded
        self._joining: list[WindowState] = []  # with a row of their own
        self._running: list[WindowState] = []
        self._aligning: deque[WindowState] = deque()  # for the times of their words
        self._telling: list[WindowState] = []  # for credit
        self._batch: Rows | None = None

    @property
    def idle(self) -> bool:
        tellable = any(hearing.credit > 0 for hearing in self._telling)
        return not (self._waiting or self._joining or self._running or self._aligning or tellable)

    def submit(self, id: int, prepared: WhisperPrompt, credit: int) -> None:
        language = prepared.language or ("" if self._vocabulary.languages else "en")
        self._waiting.append(WindowState(id, prepared, credit, language, time.monotonic()))

    @property
    def rows(self) -> Sequence[WindowState]:
        return (*self._waiting, *self._joining, *self._running, *self._aligning, *self._telling)

    def drop(self, rows: Collection[WindowState]) -> None:
        self._waiting = deque(one for one in self._waiting if one not in rows)
        self._joining = [one for one in self._joining if one not in rows]
        self._aligning = deque(one for one in self._aligning if one not in rows)
        self._telling = [one for one in self._telling if one not in rows]
        self._retain([one for one in self._running if one not in rows])

    def resize(self, kv_bytes: int) -> None:
        """Rows that are being decoded stay; others begin as there is room."""
        self._kv_bytes = kv_bytes

    def step(self) -> Sequence[Report]:
        """Align the words of one window, encode one, decode one token of every running row, tell what is final."""
        reports = [*self._align(), *self._listen()]
        reports += self.guarded(self._join, [*self._running, *self._joining])
        reports += self.guarded(self._decode, [*self._running])
        return [*reports, *self._tell()]

    # -- encode -------------------------------------------------------------------------------------------------

    def _listen(self) -> list[Report]:
        busy = len(self._running) + len(self._joining) + len(self._aligning)
        if not self._waiting or (busy and (busy + 1) * self._model.row_bytes > self._kv_bytes):
            return []
        hearing = self._waiting.popleft()
        return self.guarded(partial(self._open, hearing), [hearing])

    def _open(self, hearing: WindowState) -> list[Report]:
        """Encode a window, read its prompt and choose its first token."""
        features = hearing.piece.features[hearing.begin : hearing.begin + FRAMES]
        crossed = self._model.listen(features)
        hearing.language = hearing.language or self._heard(crossed)
        prompt, marks = self._prompt(hearing), self._vocabulary.marks
        logits, row = self._model.begin(prompt, crossed, [prompt.index(marks.start), len(prompt) - 1])
        chances = np.array(mx.softmax(logits[0].astype(mx.float32)))
        silence = None if marks.no_speech is None else float(chances[marks.no_speech])
        limit = min(hearing.piece.max_tokens, self._model.context - len(prompt) + 1)
        window = Window(hearing.begin, len(features), prompt, limit, logits[1:], silence, row)
        self._begin(hearing, window)
        return []

    def _heard(self, crossed: Cross) -> str:
        """The code of the language that is likeliest spoken."""
        logits, _ = self._model.begin([self._vocabulary.marks.start], crossed, [0])
        codes = list(self._vocabulary.languages)
        ids = mx.array([self._vocabulary.languages[code] for code in codes])
        return codes[int(np.array(logits[0, ids]).argmax())]

    def _prompt(self, hearing: WindowState) -> tuple[int, ...]:
        marks, context = self._vocabulary.marks, hearing.piece.context
        before = (marks.previous, *context) if context else ()
        if not self._vocabulary.languages:
            return (*before, marks.start)
        task = marks.translate if hearing.piece.translate else marks.transcribe
        return (*before, marks.start, self._vocabulary.languages[hearing.language], task)

    def _begin(self, hearing: WindowState, window: Window) -> None:
        """Choose a window's first token, of its prompt's logits; then its row, which it has, is to join the batch."""
        choice = self._chooser.choose(window.opening, [hearing.draw(window, self._vocabulary)])[0]
        window.accept(choice, self._vocabulary.marks.end)
        hearing.first = hearing.first or time.monotonic()
        hearing.window = window
        self._joining.append(hearing)

    def _join(self) -> list[Report]:
        joining, self._joining = self._joining, []
        for hearing in joining:
            window = hearing.at_work
            assert window.row is not None
            if self._batch is None:
                self._batch = Rows(window.row)
            else:
                self._batch.join(window.row)
            window.row = None
            self._running.append(hearing)
        return []

    # -- decode -------------------------------------------------------------------------------------------------

    def _decode(self) -> list[Report]:
        if self._batch is None:
            return []
        logits = self._model.decode([one.at_work.said[-1] for one in self._running], self._batch)
        draws = [one.draw(one.at_work, self._vocabulary) for one in self._running]
        reports: list[Report] = []
        staying: list[WindowState] = []
        for place, choice in enumerate(self._chooser.choose(logits, draws)):
            hearing = self._running[place]
            failure, left = guarded_row(hearing, partial(self._go_on, hearing, choice, self._batch, place))
            reports += failure
            staying += [] if left else [hearing]
        self._retain(staying)
        return reports

    def _go_on(self, hearing: WindowState, choice: WhisperChoice, batch: Rows, place: int) -> tuple[list[Report], bool]:
        """A row's next token; whether it leaves the batch. An ended window is tried again, aligned, or told."""
        window = hearing.at_work
        if not window.accept(choice, self._vocabulary.marks.end):
            return [], False
        if not hearing.judge(window, self._vocabulary):
            window.start(window.attempt + 1)
            window.row = batch.take(place).cut(len(window.prompt))
            self._begin(hearing, window)
        elif hearing.piece.words and hearing.accepted is not None and hearing.accepted.segments:
            window.row = batch.take(place)
            self._aligning.append(hearing)
        else:
            self._close(hearing)
        return [], True

    def _retain(self, hearings: list[WindowState]) -> None:
        """Let all rows leave the batch but these."""
        if len(hearings) == len(self._running):
            return
        if hearings and self._batch is not None:
            self._batch.keep([place for place, one in enumerate(self._running) if one in hearings])
        else:
            self._batch = None
        self._running = hearings

    # -- what came of it ----------------------------------------------------------------------------------------

    def _align(self) -> list[Report]:
        if not self._aligning:
            return []
        hearing = self._aligning.popleft()
        return self.guarded(partial(self._time_words, hearing), [hearing])

    def _time_words(self, hearing: WindowState) -> list[Report]:
        window, accepted, marks = hearing.at_work, hearing.accepted, self._vocabulary.marks
        assert accepted is not None and window.row is not None
        text = [token for span in accepted.spans for token in span.text]
        prompt = (*window.prompt[window.prompt.index(marks.start) :], marks.no_times)
        chances, attention = self._model.reread(prompt, text, marks.end, window.row.crossed, window.steps)
        begins = words.begins(words.attention_costs(attention)[len(prompt) - 1 : -1])
        bytes_of = self._vocabulary.table.bytes_of
        split = [word for span in accepted.spans for word in words.split(span.text, bytes_of, hearing.language)]
        hearing.place_words(accepted, words.timed(split, begins, chances.tolist()))
        self._close(hearing)
        return []

    def _close(self, hearing: WindowState) -> None:
        """Its window is done: what it says can be told."""
        hearing.close()
        self._telling.append(hearing)

    def _tell(self) -> list[Report]:
        """What is final, as far as there is credit; then a piece goes on with its next window, or ends."""
        reports: list[Report] = []
        telling, self._telling = self._telling, []
        for hearing in telling:
            reports += hearing.tell()
            if hearing.untold:
                self._telling.append(hearing)
            elif hearing.is_over:
                reports.append(hearing.finished())
            else:
                self._waiting.appendleft(hearing)
        return reports


def load(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> WhisperEngine:
    """The engine of a checkpoint's folder. Raises `CheckpointUnusable`."""
    model = models.load(folder, lock)
    return WhisperEngine(model, Vocabulary.read(folder, model.vocabulary_size), kv_bytes)
