"""Recordings made by code: syllables of a voice that rises and falls, hiss between them, and silence.

They need not be understood: the models say the same of everything. They must look like speech to what splits.
"""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 16_000
THIN_RATE = 8_000  # of recordings of many hours, a byte a sample
SILENCE = 128  # as such a byte

Samples = npt.NDArray[np.float32]


def speech(seconds: float, seed: int, rate: int = RATE) -> Samples:
    """So many seconds from -1 to 1, without a pause of more than a quarter of a second; the same for the same seed."""
    generator = np.random.default_rng(seed)
    length = round(seconds * rate)
    parts: list[Samples] = []
    while sum(map(len, parts)) < length:
        parts.append(_syllable(generator, rate))
        if generator.random() < 0.2:
            parts.append(np.zeros(round(generator.uniform(0.05, 0.25) * rate), np.float32))
    sound = np.concatenate(parts)[:length]
    return (sound + 0.003 * generator.standard_normal(length)).astype(np.float32)


def _syllable(generator: np.random.Generator, rate: int) -> Samples:
    count = round(generator.uniform(0.12, 0.3) * rate)
    time = np.arange(count) / rate
    pitch = generator.uniform(90, 240) * (1 + generator.uniform(-0.2, 0.2) * time / time[-1])
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = generator.uniform((300, 900), (900, 2500))
    voice = np.zeros(count)
    for harmonic in range(1, 16):
        height = harmonic * pitch[0]
        voice += np.exp(-(np.abs(height - formants).min() / 300)) * np.sin(harmonic * phase)
    hiss = generator.standard_normal(count) * np.exp(-time * 30)
    found: Samples = (0.15 * np.hanning(count) * (voice + hiss)).astype(np.float32)
    return found


def write(path: Path, sound: Samples) -> None:
    """As a WAV file of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def write_sparse(path: Path, seconds: float, bursts: int, burst: float) -> None:
    """A long recording, in which something is said so many times, for `burst` seconds; a WAV file of 8 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(THIN_RATE)
        for part in _sparse(seconds, bursts, burst):
            file.writeframes(part)


def _sparse(seconds: float, bursts: int, burst: float) -> Iterator[bytes]:
    every = round(seconds / bursts * THIN_RATE)
    said = round(burst * THIN_RATE)
    silence = bytes([SILENCE]) * (every - said)
    for number in range(bursts):
        sound = speech(burst, number, THIN_RATE)[:said]
        yield (np.clip(sound, -1, 1) * 127 + SILENCE).astype(np.uint8).tobytes()
        yield silence


def read(path: Path) -> Samples:
    """What `write` wrote."""
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
