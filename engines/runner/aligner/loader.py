"""Qwen3's forced aligner: its preparer and its engine."""

from pathlib import Path

from engines.runner.aligner.engine import AlignmentEngine
from engines.runner.aligner.prompt import AlignmentWriter
from engines.runner.device_lock import DeviceLock
from engines.runner.qwen3_asr import model


def preparer(folder: Path, context_limit: int) -> AlignmentWriter:
    return AlignmentWriter.read(folder, context_limit)


def engine(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> AlignmentEngine:
    return AlignmentEngine(model.load_aligner(folder, lock))
