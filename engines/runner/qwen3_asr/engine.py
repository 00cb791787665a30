"""Qwen3-ASR's engine: the batch loop of all that writes text, over rows that begin with sound."""

from pathlib import Path

from engines.runner.device_lock import DeviceLock
from engines.runner.generation.engine import DecodingEngine
from engines.runner.qwen3_asr import model as qwen3_model
from engines.runner.qwen3_asr.output_markup import TEXT
from engines.runner.qwen3_asr.output_text import PieceAnswer
from engines.runner.tokenization.detokenize import TokenTable


def load(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> DecodingEngine:
    """From a checkpoint's folder; `kv_bytes` are for the caches of all pieces together."""
    table = TokenTable.read(folder, shown={TEXT})
    return DecodingEngine(qwen3_model.load(folder, lock), table, kv_bytes, PieceAnswer)
