"""Sound → log-mel spectrogram, as Whisper and the models after it listen. Pure NumPy."""

from functools import cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

RATE = 16_000
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: a frame every 10 ms
_BLOCK = 3000  # frames at a time: an hour of sound needs no more memory at once than half a minute
_FLOOR = 1e-10
_DECADES = 8.0  # what is quieter than the loudest by more is as quiet as that


def log_mel(samples: np.ndarray, bins: int) -> Array:
    """[frames, bins] float32 of samples [n] at 16 kHz, a frame for every whole 160 samples.

    Frames are centred on multiples of 160; beyond its ends the sound is mirrored. Each value is a power's logarithm to
    the base 10, raised to at most 8 below the largest, plus 4, divided by 4.
    """
    frames = len(samples) // HOP
    spectrum = np.empty((frames, bins), np.float32)
    if not frames:
        return spectrum
    padded = np.pad(samples.astype(np.float64), WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    for begin in range(0, frames, _BLOCK):
        spectrum[begin : begin + _BLOCK] = _powers(windows[begin : begin + _BLOCK], bins)
    logs = np.log10(np.maximum(spectrum, np.float32(_FLOOR)))
    scaled: Array = (np.maximum(logs, logs.max() - np.float32(_DECADES)) + np.float32(4)) / np.float32(4)
    return scaled


def _powers(windows: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.float64]:
    """The power [frames, bins] in every band of windows [frames, 400]."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    waves = np.fft.rfft(windows * hann, axis=-1)
    return (waves.real**2 + waves.imag**2) @ _bank(bins).T


@cache
def _bank(bins: int) -> npt.NDArray[np.float64]:
    """Slaney's triangular filters [bins, frequencies], each of the same area: evenly spaced to 1 kHz, then by ratio."""
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    corners = _hertz(np.linspace(0, _mels(RATE / 2), bins + 2))
    widths = np.diff(corners)
    slopes = corners[:, None] - frequencies[None, :]
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    areas: npt.NDArray[np.float64] = triangles * (2 / (corners[2:] - corners[:-2]))[:, None]
    return areas


def _mels(hertz: float) -> float:
    """For frequencies above 1 kHz, which is 15."""
    return 15 + 27 * float(np.log(hertz / 1000) / np.log(6.4))


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
