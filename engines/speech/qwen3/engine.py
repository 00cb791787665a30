"""Qwen3-ASR's engine: the batch loop of all that writes text, over rows that begin with sound."""

from pathlib import Path

from engines.decoding.detokenize import TokenTable
from engines.decoding.engine import DecodingEngine
from engines.speech.qwen3 import model as qwen3_model
from engines.speech.qwen3.answer import PieceAnswer
from engines.speech.qwen3.marks import TEXT
from engines.turns import Turns


def load(folder: Path, kv_bytes: int, turns: Turns | None = None) -> DecodingEngine:
    """From a checkpoint's folder; `kv_bytes` are for the caches of all pieces together."""
    table = TokenTable.read(folder, shown={TEXT})
    return DecodingEngine(qwen3_model.load(folder, turns), table, kv_bytes, PieceAnswer)
