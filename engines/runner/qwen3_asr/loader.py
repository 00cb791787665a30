"""Qwen3-ASR: its preparer and its engine."""

from pathlib import Path

from engines.runner.device_lock import DeviceLock
from engines.runner.generation.engine import DecodingEngine
from engines.runner.qwen3_asr import engine as asr
from engines.runner.qwen3_asr.prompt import PieceWriter
from engines.runner.tokenization import detokenize


def preparer(folder: Path, context_limit: int) -> PieceWriter:
    detokenize.check(folder)
    return PieceWriter.read(folder, context_limit)


def engine(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> DecodingEngine:
    return asr.load(folder, kv_bytes, lock)
