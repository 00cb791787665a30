"""Models that chat: their preparer and their engine."""

from pathlib import Path

from engines.runner.chat.prompt import PromptWriter
from engines.runner.chat.stop_tokens import end_ids
from engines.runner.device_lock import DeviceLock
from engines.runner.generation import model
from engines.runner.generation.engine import DecodingEngine
from engines.runner.tokenization import detokenize
from engines.runner.tokenization.detokenize import TokenTable


def preparer(folder: Path, context_limit: int) -> PromptWriter:
    detokenize.check(folder)
    return PromptWriter.read(folder, context_limit)


def engine(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> DecodingEngine:
    return DecodingEngine(model.load(folder, end_ids(folder)), TokenTable.read(folder), kv_bytes)
