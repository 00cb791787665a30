"""Which preparer and which engine a checkpoint has. Runs in its runner; imports what that one needs alone."""

from pathlib import Path
from typing import Any

from engines.models import checkpoint
from engines.runner.device_lock import Turns
from engines.runner.engine import Engine, Preparer
from engines.types.errors import CheckpointUnusable


def preparer(folder: Path, context_limit: int) -> Preparer[Any, Any]:
    """Reads the tokenizer and what else requests are made ready with. Raises `CheckpointUnusable` for what can't be
    run, before any weight is read."""
    seen = checkpoint.inspect(folder)
    if seen.capability == "chat" or seen.architecture == "qwen3_asr":
        from engines.runner.tokenization import detokenize

        detokenize.check(folder)
    if seen.capability == "chat":
        from engines.runner.chat.prompt import PromptWriter

        return PromptWriter.read(folder, context_limit)
    if seen.architecture == "qwen3_asr":
        from engines.runner.qwen3_asr.prompt import PieceWriter

        return PieceWriter.read(folder, context_limit)
    if seen.architecture == "qwen3_forced_aligner":
        from engines.runner.aligner.prompt import AlignmentWriter

        return AlignmentWriter.read(folder, context_limit)
    if seen.architecture == "whisper":
        from engines.runner.whisper.prepare import WhisperPreparer

        return WhisperPreparer.read(folder)
    if seen.architecture == "qwen3_tts":
        from engines.runner.qwen3_tts.prompt import UtteranceWriter

        return UtteranceWriter.read(folder, context_limit)
    raise _unknown(folder)


def engine(folder: Path, kv_bytes: int, turns: Turns | None = None) -> Engine[Any]:
    """Loads the weights. What the engine keeps beside them must fit into `kv_bytes`; what is long lets
    others have their `turns` in between."""
    seen = checkpoint.inspect(folder)
    if seen.capability == "chat":
        from engines.runner.chat.stop_tokens import end_ids
        from engines.runner.generation import model
        from engines.runner.generation.engine import DecodingEngine
        from engines.runner.tokenization.detokenize import TokenTable

        return DecodingEngine(model.load(folder, end_ids(folder)), TokenTable.read(folder), kv_bytes)
    if seen.architecture == "qwen3_asr":
        from engines.runner.qwen3_asr import engine as qwen3_engine

        return qwen3_engine.load(folder, kv_bytes, turns)
    if seen.architecture == "qwen3_forced_aligner":
        from engines.runner.aligner.engine import AlignmentEngine
        from engines.runner.qwen3_asr import model as qwen3_model

        return AlignmentEngine(qwen3_model.load_aligner(folder, turns))
    if seen.architecture == "whisper":
        from engines.runner.whisper import engine as whisper

        return whisper.load(folder, kv_bytes, turns)
    if seen.architecture == "qwen3_tts":
        from engines.runner.qwen3_tts import model as voices
        from engines.runner.qwen3_tts.engine import VoiceEngine

        return VoiceEngine(voices.load(folder), kv_bytes)
    raise _unknown(folder)


def _unknown(folder: Path) -> CheckpointUnusable:
    return CheckpointUnusable(f"{folder} holds a model of a kind that can't be run.")
