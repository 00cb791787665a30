"""The aligner's engine: one row at a time, a part of it in each step."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from engines.ipc import runner_protocol
from engines.runner.aligner.prompt import AlignmentPrompt
from engines.runner.aligner.text import mended
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.model import Embed
from engines.runner.qwen3_asr.model import AligningModel
from engines.runner.row_engine import Report, RowEngine
from engines.types.audio import AlignmentDone, Word
from engines.types.common import Timings, Usage

PART = 256  # tokens: of sound, twenty seconds


@dataclass(eq=False)
class AlignmentRow:
    """A request in work: `fed` of its tokens are in its cache, and these classes of time are known."""

    id: int
    alignment: AlignmentPrompt
    credit: int
    arrived: float
    cache: Cache = field(default_factory=list)
    embed: Embed | None = None
    began: float = 0.0
    fed: int = 0
    classes: list[int] = field(default_factory=list)

    @property
    def trace(self) -> str:
        return self.alignment.trace


class AlignmentEngine(RowEngine[AlignmentRow]):
    """`Engine[Alignment]`. Requests are served as they come; each has a cache of its own while it is served."""

    def __init__(self, model: AligningModel) -> None:
        self._model = model
        self._rows: list[AlignmentRow] = []

    @property
    def rows(self) -> Sequence[AlignmentRow]:
        return self._rows

    @property
    def idle(self) -> bool:
        return not self._rows

    def submit(self, id: int, prepared: AlignmentPrompt, credit: int) -> None:
        self._rows.append(AlignmentRow(id, prepared, credit, time.monotonic()))

    def drop(self, rows: Collection[AlignmentRow]) -> None:
        self._rows = [row for row in self._rows if row not in rows]

    def resize(self, kv_bytes: int) -> None:
        """One row's cache is all that is kept."""

    def step(self) -> Sequence[Report]:
        """Feed some of the oldest row."""
        if not self._rows:
            return []
        row = self._rows[0]
        return self.guarded(partial(self._advance, row), [row])

    def _advance(self, row: AlignmentRow) -> list[Report]:
        self._feed(row)
        if row.fed < len(row.alignment.ids):
            return []
        self.drop([row])
        return [runner_protocol.Finished(row.id, self._done(row))]

    def _feed(self, row: AlignmentRow) -> None:
        alignment = row.alignment
        if row.embed is None:
            row.cache, row.embed, row.began = (
                self._model.new_cache(),
                self._model.embed(alignment.sound),
                time.monotonic(),
            )
        tokens = alignment.ids[row.fed : row.fed + PART]
        places = [place - row.fed for place in alignment.places if row.fed <= place < row.fed + len(tokens)]
        row.classes += self._model.feed(row.embed(tokens, row.fed), places, row.cache)
        row.fed += len(tokens)

    def _done(self, row: AlignmentRow) -> AlignmentDone:
        seconds = row.alignment.seconds
        times = mended([time * self._model.class_seconds for time in row.classes], seconds)
        words = map(Word, row.alignment.words, times[::2], times[1::2])
        timings = Timings(row.began - row.arrived, time.monotonic() - row.began, 0.0)
        return AlignmentDone(tuple(words), Usage(len(row.alignment.ids), 0, 0, 0), timings)
