"""Frames of any kind in, samples of all their channels at one rate out, each channel for itself.

The library's own mixing isn't used: it gives some channels no weight (the subwoofer's, those of unusual places), has
none for many layouts, and adds opposite phases up to nothing. What channels are called doesn't matter here.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from engines.media.worker.audio.graph import FilterChain
from engines.media.worker.audio.mix import Channels
from engines.media.worker.source import check_parameters, refused

BLOCKS_PER_SECOND = 4
MOST_VALUES = 1 << 21  # in a block, of all channels
SCALES = {"u1": 128.0, "i2": 32_768.0, "i4": 2_147_483_648.0, "i8": 9_223_372_036_854_775_808.0}


class Resampler:
    """The kind of frames may change between two of them; what comes before and after is converted apart."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._kind: tuple[int, int] | None = None  # channels and rate
        self._chains: list[FilterChain] = []
        self._waiting: list[Channels] = []
        self._held = self._fed = 0  # samples a channel
        self._made = np.empty((0, 0), np.float32)  # less than a block

    def feed(self, frame: AudioFrame) -> Iterator[Channels]:
        """Blocks of about a quarter of a second, as they become whole."""
        kind = (len(frame.layout.channels), frame.sample_rate)
        if kind != self._kind:
            yield from self.flush()
            check_parameters(frame.sample_rate, kind[0])
            self._kind = kind
        if frame.samples:
            self._waiting.append(_samples(frame))
            self._held += frame.samples
        if self._held * BLOCKS_PER_SECOND >= frame.sample_rate or self._held * kind[0] >= MOST_VALUES:
            yield from self._converted()

    def flush(self) -> Iterator[Channels]:
        """What is still inside; what follows is converted on its own."""
        if self._kind is None:
            return
        yield from self._converted()
        if self._chains:
            yield from self._cut([np.concatenate([*chain.feed(None)] or [_NOTHING]) for chain in self._chains])
        if self._made.size:
            yield self._made
        self._chains, self._kind, self._fed, self._made = [], None, 0, np.empty((0, 0), np.float32)

    def _converted(self) -> Iterator[Channels]:
        if not self._waiting or self._kind is None:
            return
        channels, rate = self._kind
        if not self._chains:
            self._chains = [self._new_chain(rate) for _ in range(channels)]
        values = np.concatenate(self._waiting, axis=1)
        self._waiting, self._held = [], 0
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        np.clip(values, -1.0, 1.0, out=values)
        made = []
        for chain, row in zip(self._chains, values, strict=True):
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(row).reshape(1, -1), "flt", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, self._fed, Fraction(1, rate)
            made.append(np.concatenate([*chain.feed(frame)] or [_NOTHING]))
        self._fed += values.shape[1]
        yield from self._cut(made)

    def _cut(self, made: list[NDArray[np.float32]]) -> Iterator[Channels]:
        """A quarter of a second each: frames may be much shorter, and much longer. The rest waits."""
        values = np.clip(np.stack(made), -1.0, 1.0)
        if self._made.size:
            values = np.concatenate((self._made, values), axis=1)
        step = self._rate // BLOCKS_PER_SECOND
        whole = values.shape[1] // step * step
        for at in range(0, whole, step):
            yield values[:, at : at + step]
        self._made = values[:, whole:]

    def _new_chain(self, rate: int) -> FilterChain:
        try:
            return FilterChain("flt", "mono", rate, self._rate)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            raise refused(f"The recording's {rate} samples a second can't be converted. Convert it to wav.") from None


_NOTHING = np.empty(0, np.float32)


def _values(frame: AudioFrame) -> NDArray[Any]:
    """As `to_ndarray`, which knows no samples of 64 bits."""
    if frame.format.name not in ("s64", "s64p"):
        return frame.to_ndarray()
    values = frame.samples * (1 if frame.format.is_planar else len(frame.layout.channels))
    return np.stack([np.frombuffer(bytes(plane), "<i8", values) for plane in frame.planes])


def _samples(frame: AudioFrame) -> Channels:
    """A frame as float32 from -1 to 1, a row a channel."""
    values = _values(frame)
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    if (scale := SCALES.get(values.dtype.str[1:])) is None:
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    offset = 128.0 if values.dtype == np.uint8 else 0.0
    return ((values.astype(np.float32) - np.float32(offset)) / np.float32(scale)).astype(np.float32, copy=False)
