"""Samples and log-mel features in numpy: other voices, rooms, microphones, noise, silence."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]

RATE = 16_000
HOP, WINDOW = 160, 400
FRAMES_PER_SECOND = RATE // HOP


def resampled(samples: Samples, up: int, down: int) -> Samples:
    """`up` samples for every `down`, band-limited."""
    parts = _quick(-(-len(samples) // down))
    spectrum = np.fft.rfft(samples, parts * down)
    kept = np.zeros(parts * up // 2 + 1, np.complex128)
    size = min(len(kept), len(spectrum))
    kept[:size] = spectrum[:size]
    made = np.fft.irfft(kept, parts * up) * (up / down)
    return _single(made[: round(len(samples) * up / down)])


def _single(samples: npt.NDArray[np.floating[Any]]) -> Samples:
    return samples.astype(np.float32)


def _quick(length: int) -> int:
    """The next one whose Fourier transform is quick: without large prime factors."""
    powers = (factor << max(0, (length - 1) // factor).bit_length() for factor in (1, 3, 5, 9, 15))
    return min(powers)


def log_mel(samples: Samples, filters: npt.NDArray[np.float64]) -> Features:
    """(bins, frames), as Whisper's extractor has it: 8 decades below the loudest are kept, then moved to about ±1."""
    padded = np.pad(samples.astype(np.float64), WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(samples) // HOP]
    window = np.hanning(WINDOW + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    decades = np.log10(np.maximum(filters.T @ power.T, 1e-10))
    return _single((np.maximum(decades, decades.max() - 8.0) + 4.0) / 4.0)


def noise(draw: np.random.Generator, length: int) -> Samples:
    """One of several colours, sometimes with hum or swelling, at a level of 1."""
    size = _quick(length)
    spectrum = np.fft.rfft(draw.standard_normal(size))
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20.0)
    spectrum *= frequencies ** -draw.choice([0.0, 0.5, 1.0])
    if draw.random() < 0.3:
        spectrum *= _band(draw, frequencies)
    made = np.fft.irfft(spectrum, size)[:length]
    if draw.random() < 0.3:
        times = np.arange(length) / RATE
        made += made.std() * np.sin(2 * np.pi * draw.choice([50, 60, 100, 120, 440, 1000]) * times)
    if draw.random() < 0.3:
        times = np.arange(length) / RATE
        made *= 1 + 0.8 * np.sin(2 * np.pi * (draw.uniform(0.1, 3) * times + draw.random()))
    return _single(made / (made.std() + 1e-12))


def in_a_room(draw: np.random.Generator, samples: Samples) -> Samples:
    """With echoes that die away within 0.05 to 0.4 s."""
    length = int(RATE * draw.uniform(0.05, 0.4))
    echoes = draw.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length) * draw.uniform(0.02, 0.15)
    echoes[0] = 1.0
    size = _quick(len(samples) + length)
    return _single(np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(echoes, size), size)[: len(samples)])


def through_a_microphone(draw: np.random.Generator, samples: Samples) -> Samples:
    """With treble, bass or both weakened."""
    size = _quick(len(samples))
    spectrum = np.fft.rfft(samples, size)
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20.0)
    spectrum *= (frequencies / 1000) ** draw.uniform(-0.4, 0.4)
    if draw.random() < 0.3:
        spectrum *= _band(draw, frequencies)
    return _single(np.fft.irfft(spectrum, size)[: len(samples)])


def _band(draw: np.random.Generator, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = draw.uniform(50, 300), draw.uniform(3200, 7500)
    passed: npt.NDArray[np.float64] = 1 / np.sqrt((1 + (low / frequencies) ** 4) * (1 + (frequencies / high) ** 8))
    return passed


class Recorded(NamedTuple):
    """A sample at `n` of what was spoken is now at `before + n * stretch`."""

    samples: Samples
    before: int
    stretch: float


def as_recorded(draw: np.random.Generator, samples: Samples) -> Recorded:
    """Another speaker's size, another room, silence before and after, noise, any loudness; whole frames."""
    stretch = 1.0
    if draw.random() < 0.7:
        percent = int(draw.integers(88, 115))
        samples, stretch = resampled(samples, percent, 100), percent / 100
    if draw.random() < 0.35:
        samples = in_a_room(draw, samples)
    if draw.random() < 0.4:
        samples = through_a_microphone(draw, samples)
    before, after = (int(RATE * draw.exponential(0.25)) for _ in range(2))
    before, after = min(before, RATE * 2), min(after, RATE * 2)
    samples = np.pad(samples, (before, after))
    samples = np.pad(samples, (0, max(RATE - len(samples), -len(samples) % HOP)))
    samples = samples[: len(samples) // HOP * HOP]
    level = np.sqrt(np.mean(samples**2)) + 1e-12
    if draw.random() < 0.75:
        samples = samples + noise(draw, len(samples)) * level * 10 ** (-draw.uniform(5, 45) / 20)
    made = _single(samples / (np.abs(samples).max() + 1e-12) * 10 ** (-draw.uniform(0, 30) / 20))
    return Recorded(made, before, stretch)


def nothing_spoken(draw: np.random.Generator) -> Samples:
    """1 to 6 s of noise, of silence, of clicks or of a tone; whole frames."""
    length = int(draw.uniform(1, 6) * FRAMES_PER_SECOND) * HOP
    made = noise(draw, length) * 10 ** (-draw.uniform(15, 70) / 20)
    kind = draw.random()
    if kind < 0.15:
        return np.zeros(length, np.float32)
    if kind < 0.35:
        for start in draw.integers(0, length - 400, draw.integers(1, 8)):
            made[start : start + 400] += noise(draw, 400) * np.exp(-np.arange(400) / 60) * draw.uniform(0.05, 0.5)
    elif kind < 0.5:
        made = made + draw.uniform(0.01, 0.3) * np.sin(2 * np.pi * draw.uniform(80, 2000) * np.arange(length) / RATE)
    return _single(np.clip(made, -1, 1))
