"""A Whisper engine with its preparer, and what comes of requests to it."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engines.ipc import job, runner_protocol
from engines.runner.row_engine import Report
from engines.runner.whisper import model as models
from engines.runner.whisper.engine import WhisperEngine
from engines.runner.whisper.model import WhisperModel
from engines.runner.whisper.prepare import WhisperPreparer, WhisperPrompt
from engines.runner.whisper.vocabulary import Vocabulary
from engines.types.audio import EAR_RATE, PieceDone, PieceRequest
from engines.types.chat import Delta
from engines.types.errors import ServiceError

PLENTY = 1 << 30
CREDIT = 10_000


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones that glide, in noise, with pauses; another seed sounds different."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * EAR_RATE)) / EAR_RATE
    base, speed, rhythm = generator.uniform(100, 900), generator.uniform(-300, 600), generator.uniform(1, 6)
    tones = generator.uniform(0.2, 0.6) * np.sin(2 * np.pi * (base + speed * np.sin(time)) * time)
    noise = generator.normal(size=len(time)) * 0.01
    return (tones * (np.sin(rhythm * time) > -0.5) + noise).astype(np.float32)


def request(seconds: float = 4.0, seed: int = 0, **fields: Any) -> PieceRequest:
    return PieceRequest("whisper", sound(seconds, seed).tobytes(), **fields)


def once(piece: WhisperPrompt) -> WhisperPrompt:
    """It isn't tried again when it fails."""
    return msgspec.structs.replace(piece, temperatures=piece.temperatures[:1])


@functools.cache
def parts(folder: Path) -> tuple[WhisperPreparer, Vocabulary]:
    """Of a folder that stays as it is."""
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["n_vocab"]
    return WhisperPreparer.read(folder), Vocabulary.read(folder, size)


class Desk:
    """One engine. `model` may be another one than the folder's."""

    def __init__(self, folder: Path, kv_bytes: int = PLENTY, model: WhisperModel | None = None) -> None:
        self.preparer, self.vocabulary = parts(folder)
        self.model = model or models.load(folder)
        self.engine = WhisperEngine(self.model, self.vocabulary, kv_bytes)

    def submit(self, id: int, asked: PieceRequest | WhisperPrompt, credit: int = CREDIT) -> None:
        piece = asked if isinstance(asked, WhisperPrompt) else once(self.preparer.write(asked))
        self.engine.submit(id, piece, credit)

    def run(self) -> dict[int, list[Report]]:
        """Until nothing can be done; what was said of each request."""
        reports: dict[int, list[Report]] = {}
        while not self.engine.idle:
            for report in self.engine.step():
                reports.setdefault(report.id, []).append(report)
        return reports

    def ask(self, *asked: PieceRequest | WhisperPrompt) -> list[PieceDone]:
        """Together; each must end well."""
        for id, one in enumerate(asked):
            self.submit(id, one)
        reports = self.run()
        return [done(reports[id]) for id in range(len(asked))]


def done(reports: Sequence[Report]) -> PieceDone:
    last = reports[-1]
    assert isinstance(last, runner_protocol.Finished) and isinstance(last.end, PieceDone), last
    assert text_of(reports) == "".join(segment.text for segment in last.end.segments)
    return last.end


def text_of(reports: Sequence[Report]) -> str:
    deltas = [report.delta for report in reports if isinstance(report, runner_protocol.Said)]
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta))


def error(reports: Sequence[Report]) -> ServiceError:
    last = reports[-1]
    assert isinstance(last, job.Failed), last
    return last.failure.error()


def without_timings(ended: PieceDone) -> PieceDone:
    from engines.types.common import Timings

    return msgspec.structs.replace(ended, timings=Timings(0.0, 0.0, 0.0))
