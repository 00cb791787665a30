"""Whether a recording will do as a voice to imitate. Pure."""

import math
from array import array

from engines.types.audio import VOICE_RATE, Transcript
from engines.types.errors import InvalidRequest

SHORTEST, LONGEST = 3.0, 30.0  # seconds; below it the voice isn't caught, above it models ramble
SILENT = 1e-3


def check_reference(samples: bytes) -> None:
    """Float32 samples at `VOICE_RATE`. Raises `InvalidRequest`."""
    seconds = len(samples) / 4 / VOICE_RATE
    if not SHORTEST <= seconds <= LONGEST or len(samples) % 4:
        span = f"{SHORTEST:.0f} to {LONGEST:.0f} seconds"
        message = f"The recording of the voice is {seconds:.1f} seconds long; it must be {span} of clear speech."
        raise InvalidRequest(message, param="reference_audio")
    values = array("f", samples)
    loudest = max(max(values), -min(values))
    if not math.isfinite(sum(values)) or loudest < SILENT:
        message = "The recording of the voice is silent or damaged: give one of clear speech."
        raise InvalidRequest(message, param="reference_audio")


def spoken_text(transcript: Transcript) -> str:
    """What is said in the recording of a voice. Raises `InvalidRequest` if it isn't known in full: to such a text the
    sound wouldn't fit."""
    if transcript.incomplete:
        why = " ".join(transcript.incomplete)
        message = f"What is said in the recording of the voice can't be told in full; give it as its text. {why}"
        raise InvalidRequest(message, param="reference_text")
    return transcript.text
