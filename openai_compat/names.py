"""Which model is meant: OpenAI's names, and none, mean the port's default."""

import asyncio

import msgspec

from engines.types.errors import UnknownModel
from engines.types.inference import Inference

OPENAI_LISTENS = frozenset(
    "whisper-1 gpt-transcribe gpt-4o-transcribe gpt-4o-mini-transcribe gpt-4o-mini-transcribe-2025-12-15 "
    "gpt-4o-transcribe-diarize".split()
)
OPENAI_SPEAKS = frozenset(
    "tts-1 tts-1-1106 tts-1-hd tts-1-hd-1106 gpt-4o-mini-tts gpt-4o-mini-tts-2025-03-20 "
    "gpt-4o-mini-tts-2025-12-15".split()
)


class DefaultModels(msgspec.Struct, frozen=True):
    """The models of a port where a request names none, or one of OpenAI's."""

    transcription: str = "whisper-large-v3-turbo"
    translation: str = "whisper-large-v3"
    alignment: str = "qwen3-aligner"
    speech: str = "qwen3-tts"
    imitation: str = "qwen3-tts-base"


async def meant(inference: Inference, name: str, default: str, openai_names: frozenset[str] = frozenset()) -> str:
    """The name to ask `inference` for. A model or alias that is called like one of OpenAI's is itself."""
    if not name:
        return default
    if name.lower() not in openai_names:
        return name
    try:
        await asyncio.to_thread(inference.model, name)
    except UnknownModel:
        return default
    return name
