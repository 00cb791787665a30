"""Sounds to be heard by models with random weights: no speech, but never alike."""

import numpy as np

from engines.types.audio import EAR_RATE


def sound(seconds: float, seed: int = 0) -> bytes:
    """A tone that rises and swells, in noise; samples as they go over the wire."""
    count = int(seconds * EAR_RATE)
    times = np.arange(count) / EAR_RATE
    tone = np.sin(2 * np.pi * (150 + 40 * seed + 300 * times) * times) * np.sin((3 + seed) * times)
    noise = np.random.default_rng(seed).standard_normal(count)
    return (0.3 * tone + 0.05 * noise).astype("<f4").tobytes()
