"""Whisper: its preparer and its engine."""

from pathlib import Path

from engines.runner.device_lock import DeviceLock
from engines.runner.whisper import engine as whisper
from engines.runner.whisper.engine import WhisperEngine
from engines.runner.whisper.prepare import WhisperPreparer


def preparer(folder: Path, context_limit: int) -> WhisperPreparer:
    """Its own limit is that of a window, so `context_limit` says nothing."""
    return WhisperPreparer.read(folder)


def engine(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> WhisperEngine:
    return whisper.load(folder, kv_bytes, lock)
