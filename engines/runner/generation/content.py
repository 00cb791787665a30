"""Content of a prompt that isn't text: which positions it takes, and what identifies it."""

import hashlib

import msgspec
import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]


class ContentSpan(msgspec.Struct, frozen=True):
    """Positions `begin` to `end` of a prompt, whose embeddings are those of content and not of their tokens.

    `features` is what the model's encoder takes (of sound, a log-mel spectrogram [frames, bins]). Spans with the same
    `digest`, of any length in bytes, hold the same content: the embedding at each offset in them is the same.
    """

    begin: int
    end: int
    features: Features
    digest: bytes


def digest_of(features: Features) -> bytes:
    """16 bytes that identify features by their shape and values."""
    shape = np.array(features.shape, "<i8").tobytes()
    return hashlib.blake2b(shape + np.ascontiguousarray(features, "<f4").tobytes(), digest_size=16).digest()
