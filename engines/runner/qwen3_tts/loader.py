"""Qwen3-TTS: its preparer and its engine."""

from pathlib import Path

from engines.runner.device_lock import DeviceLock
from engines.runner.qwen3_tts import model
from engines.runner.qwen3_tts.engine import VoiceEngine
from engines.runner.qwen3_tts.prompt import UtteranceWriter


def preparer(folder: Path, context_limit: int) -> UtteranceWriter:
    return UtteranceWriter.read(folder, context_limit)


def engine(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> VoiceEngine:
    return VoiceEngine(model.load(folder, lock), kv_bytes)
