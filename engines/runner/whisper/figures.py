"""How good a text seems, in figures that Whisper's makers brought up and OpenAI's answers have. Pure."""

import zlib


def compression_ratio(text: str) -> float:
    """How much shorter a text can be written: what repeats itself, by much. 0 for none."""
    data = text.strip().encode("utf-8", "replace")
    return len(data) / len(zlib.compress(data))
