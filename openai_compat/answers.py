"""OpenAI's objects for answers."""

import time
from typing import Any

import msgspec

from engines.types import Done
from openai_compat.fields import Parsed


def completion(parsed: Parsed, text: str, done: Done) -> dict[str, Any]:
    """OpenAI's object for a whole answer."""
    return {
        "id": f"chatcmpl-{parsed.request.trace}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": parsed.request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": done.finish_reason,
                "logprobs": None,
            }
        ],
        "usage": usage(done),
        "timings": msgspec.to_builtins(done.timings),
    }


def usage(done: Done) -> dict[str, int]:
    counts = done.usage
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }


def chunk(parsed: Parsed, created: int, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    """OpenAI's object for a piece of a streamed answer."""
    return {
        "id": f"chatcmpl-{parsed.request.trace}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": parsed.request.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}],
    }
