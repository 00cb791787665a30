"""Several channels as one in which everybody is still heard. Pure: arrays in, arrays out.

The mean of all channels is what players make of them, and it is taken wherever it does no harm. It loses who is in
channels of opposite phases, and who is in one of many channels. So each stretch of a quarter of a second is looked at
in bands, as people share a moment but seldom a band: where the mean is much weaker in a band than the channel that is
loudest there, other weights are tried, and the first that lose nothing are taken, or those that lose least.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Channels = NDArray[np.float32]  # a row each
Samples = NDArray[np.float32]
Weights = NDArray[np.float32]
Spectra = NDArray[np.complexfloating]

STRETCHES_PER_SECOND = 4
FADES_PER_SECOND = 100  # how fast weights pass into others
LEAST_SAMPLES = 64
BAND_HERTZ = (60, 150, 250, 400, 600, 850, 1200, 1700, 2300, 3100, 4200, 5600)
SILENCE = 10**-7.5  # mean square; as `split.ALWAYS_SILENCE`
FAINT = 1e-6  # of the strongest band's power: what is weaker isn't looked at
LOST = 6.0  # the mean of two channels of which one is silent has a quarter of the power
OPPOSITE = -0.1  # coefficient of correlation


class Mix:
    """The channels of one recording, in order; how many there are may change."""

    def __init__(self, rate: int) -> None:
        self._stretch = rate // STRETCHES_PER_SECOND
        self._fade = rate // FADES_PER_SECOND
        self._rate = rate
        self._weights: Weights = np.ones(1, np.float32)

    def feed(self, channels: Channels) -> Samples:
        if len(channels) == 1:
            alone: Samples = channels[0]
            return alone
        mixed = np.empty(channels.shape[1], np.float32)
        for at in range(0, channels.shape[1], self._stretch):
            stretch = channels[:, at : at + self._stretch]
            mixed[at : at + stretch.shape[1]] = self._mixed(stretch)
        return mixed

    def _mixed(self, stretch: Channels) -> Samples:
        before, weights = self._weights, weights_for(stretch, self._rate)
        self._weights = weights
        mixed: Samples = weights @ stretch
        if len(before) == len(weights) and not np.array_equal(before, weights):
            beginning = stretch[:, : self._fade]
            share = np.linspace(0, 1, beginning.shape[1], dtype=np.float32)
            mixed[: self._fade] = share * mixed[: self._fade] + (1 - share) * (before @ beginning)
        return mixed


def weights_for(stretch: Channels, rate: int) -> Weights:
    """By how much each channel goes into the mix of a stretch."""
    mean = np.full(len(stretch), 1 / len(stretch), np.float32)
    powers = np.einsum("ij,ij->i", stretch, stretch) / max(1, stretch.shape[1])
    if stretch.shape[1] < LEAST_SAMPLES or powers.max() < SILENCE or (stretch == stretch[0]).all():
        return mean
    spectra = np.fft.rfft(stretch * _window(stretch.shape[1]))
    starts = _band_starts(stretch.shape[1], rate)
    loudest = _band_powers(spectra, starts).max(axis=0)
    counts = loudest > FAINT * loudest.max()
    best, least = mean, np.inf
    for weights in chain((mean,), _others(stretch, powers)):
        kept = _band_powers((weights @ spectra)[None], starts)[0]
        lost = float(np.max(loudest[counts] / np.maximum(kept[counts], 1e-30), initial=0))
        if lost <= LOST:
            return weights
        if lost < least:
            best, least = weights, lost
    return best


def _others(stretch: Channels, powers: NDArray[np.float32]) -> Iterator[Weights]:
    """Weights for where the mean loses something.

    With opposite phases turned, by the shares of power and of amplitude; the loudest channel alone; and unlike weights
    by order of loudness, in which nothing cancels that is in several channels.
    """
    loudest = int(np.argmax(powers > powers.max() / 2))  # the first of them, so that stretches agree
    amplitudes = np.sqrt(powers)
    signs = _signs(stretch, amplitudes, loudest)
    yield signs * powers / powers.sum()
    yield signs * amplitudes / amplitudes.sum()
    alone = np.zeros(len(stretch), np.float32)
    alone[loudest] = 1
    yield alone
    ranks = np.empty(len(stretch), np.float32)
    ranks[np.argsort(powers)] = np.arange(1, len(stretch) + 1)
    yield ranks / ranks.sum()


def _signs(stretch: Channels, amplitudes: NDArray[np.float32], first: int) -> NDArray[np.float32]:
    """-1 for each channel that would take away from those before it, the loudest being the first."""
    signs = np.ones(len(stretch), np.float32)
    total = stretch[first].copy()
    for channel in np.argsort(-amplitudes):
        if channel != first:
            bound = OPPOSITE * amplitudes[channel] * np.sqrt(total @ total * stretch.shape[1])
            signs[channel] = -1 if total @ stretch[channel] < bound else 1
            total += signs[channel] * stretch[channel]
    return signs


@lru_cache(maxsize=4)
def _window(samples: int) -> NDArray[np.float32]:
    return np.hanning(samples).astype(np.float32)


@lru_cache(maxsize=4)
def _band_starts(samples: int, rate: int) -> NDArray[np.intp]:
    """The bins with which bands begin; the first is what is below all of them."""
    bins = samples // 2 + 1
    starts = [round(hertz * samples / rate) for hertz in BAND_HERTZ if hertz * 2 < rate]
    return np.array(sorted({0, *(start for start in starts if start < bins)}), np.intp)


def _band_powers(spectra: Spectra, starts: NDArray[np.intp]) -> NDArray[np.float32]:
    powers = spectra.real**2 + spectra.imag**2
    return np.add.reduceat(powers, starts, axis=-1)
