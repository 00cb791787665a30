"""A robot's voice: speech by another voice at one constant pitch, so that its frames of 80 ms can be learnt by heart.

What the vocal tract does is kept, as energies of bands every 10 ms; below it are the same pulses and the same noise in
every frame. So equal energies have equal samples, wherever in a sentence they stand.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from training.speech.sound import RATE as HEARD_RATE
from training.speech.sound import Samples

Array = npt.NDArray[np.float64]

RATE, FRAME = 24_000, 1920
STEPS = 8  # in a frame: 10 ms each
BANDS, LOWEST, HIGHEST = 40, 60.0, 7800.0
FLOOR = 1e-6  # of a band's energy; full scale is about 1
WINDOW = 480
ROUNDS = 3
PITCHES = (100.0, 200.0)  # whole periods in a step of 10 ms


def energies(samples: Samples) -> Array:
    """(steps, bands + 1): log energies of bands, then how voiced it is from 0 to 1, of sound at 16 kHz."""
    hop, window = HEARD_RATE // 100, HEARD_RATE // 40
    power = np.abs(np.fft.rfft(_windows(samples, hop, window) * np.hanning(window), 512)) ** 2
    bands = power @ filters(HEARD_RATE, 512).T
    return np.concatenate([np.log(bands + FLOOR), _voiced(samples)[:, None]], axis=1)


def _windows(samples: npt.NDArray[Any], hop: int, window: int) -> Array:
    """(steps, window), each around the middle of its step."""
    before = (window - hop) // 2
    padded = np.pad(np.asarray(samples, np.float64), (before, window))
    found: Array = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: len(samples) // hop]
    return found


def _voiced(samples: Samples) -> Array:
    """By how well the sound below 1 kHz repeats itself after 3 to 15 ms."""
    window = 960
    parts = _windows(samples, HEARD_RATE // 100, window)
    spectrum = np.fft.rfft(parts * np.hanning(window), 2048)
    spectrum[:, 1000 * 2048 // HEARD_RATE :] = 0
    same = np.fft.irfft(np.abs(spectrum) ** 2)
    alone = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(window), 2048)) ** 2)
    lags = slice(HEARD_RATE // 330, HEARD_RATE // 65)
    best = (same[:, lags] / (same[:, :1] + 1e-9) * alone[0] / alone[lags]).max(axis=1)
    total = (np.abs(spectrum) ** 2).sum(axis=1)
    loud = total > 1e-4 * total.max()
    found: Array = np.clip((best - 0.5) / 0.3, 0, 1) * loud
    return found


@cache
def filters(rate: int, size: int, bands: int = BANDS) -> Array:
    """(bands, frequencies): triangles, evenly along the mel scale, each of one sum at this rate."""
    edges = 700 * (10 ** (np.linspace(_mel(LOWEST), _mel(HIGHEST), bands + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    shapes = np.maximum(0, np.minimum(rising, falling))
    evened: Array = shapes / shapes.sum(axis=1, keepdims=True)
    return evened


def _mel(frequency: float) -> float:
    return float(2595 * np.log10(1 + frequency / 700))


def spoken(wanted: Array, pitch: float) -> Samples:
    """Samples at 24 kHz of energies (steps, bands + 1); whole frames begin on a grid from the first step on."""
    gains = wanted[:, :BANDS].copy()
    count = len(wanted) * RATE // 100
    for _ in range(ROUNDS):
        made = _synthesised(gains, wanted[:, BANDS], pitch, count)
        gains += np.clip(wanted[:, :BANDS] - _bands(made), -3, 3)
    return _synthesised(gains, wanted[:, BANDS], pitch, count).astype(np.float32)


def _bands(samples: Array) -> Array:
    power = np.abs(np.fft.rfft(_windows(samples, RATE // 100, RATE // 40) * np.hanning(RATE // 40), 768)) ** 2
    return np.log(power @ filters(RATE, 768).T * (HEARD_RATE / RATE) ** 2 + FLOOR)


def _synthesised(gains: Array, voiced: Array, pitch: float, count: int) -> Array:
    """The two sources, each multiplied by smooth gains over time and frequency."""
    hop = RATE // 200
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
    parts = count // hop + WINDOW // hop
    # The middles of windows, every 5 ms, in steps whose middles are whole numbers.
    steps = np.clip((np.arange(parts) * hop - RATE / 200) / (RATE / 100), 0, len(gains) - 1)
    shares = _between(voiced[:, None], steps)
    high = np.clip((frequencies - 3000) / 4000, 0, 0.7)
    amplitude = np.exp(0.5 * _between(gains, steps) @ _spread().T)
    made = np.zeros(parts * hop + WINDOW)
    window = np.sqrt(np.hanning(WINDOW + 1)[:-1])
    for source, share in ((_pulses(pitch), shares * (1 - high)), (_noise(), 1 - shares * (1 - high))):
        long = np.resize(source, parts * hop + WINDOW + FRAME)[FRAME - WINDOW // 2 :]
        pieces = np.lib.stride_tricks.sliding_window_view(long, WINDOW)[::hop][:parts]
        shaped = np.fft.irfft(np.fft.rfft(pieces * window) * amplitude * np.sqrt(share), WINDOW) * window
        for part in range(parts):
            made[part * hop : part * hop + WINDOW] += shaped[part]
    found: Array = made[WINDOW // 2 : WINDOW // 2 + count] / (WINDOW / hop / 2)
    return found


def _between(rows: Array, steps: Array) -> Array:
    first = np.floor(steps).astype(int)
    second = np.minimum(first + 1, len(rows) - 1)
    share = (steps - first)[:, None]
    found: Array = rows[first] * (1 - share) + rows[second] * share
    return found


@cache
def _spread() -> Array:
    """(frequencies of a window, bands): what lies between the bands' middles."""
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
    middles = _mel(LOWEST) + (np.arange(BANDS) + 1) * (_mel(HIGHEST) - _mel(LOWEST)) / (BANDS + 1)
    places = np.interp([_mel(one) for one in frequencies], middles, np.arange(BANDS))
    spread: Array = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(BANDS)))
    return spread


def _pulses(pitch: float) -> Array:
    """A frame of all harmonics below the highest band's end, alike; their phases spread over the period."""
    count = int(HIGHEST / pitch)
    times = np.arange(FRAME) / RATE
    order = np.arange(1, count + 1)[:, None]
    phases = -np.pi * order * (order - 1) / count
    source: Array = np.cos(2 * np.pi * pitch * order * times + phases).sum(axis=0)
    source /= source.std()
    return source


def _noise() -> Array:
    """A frame of it, always the same, up to the highest band's end."""
    spectrum = np.exp(2j * np.pi * np.random.default_rng(4).random(FRAME // 2 + 1))
    frequencies = np.fft.rfftfreq(FRAME, 1 / RATE)
    source: Array = np.fft.irfft(spectrum * (frequencies < HIGHEST) * (frequencies > LOWEST))
    source /= source.std()
    return source
