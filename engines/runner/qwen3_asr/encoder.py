"""Qwen3-ASR's encoder in short spells, between which others have their turns; else it is the library's own pass."""

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.nn.layers.activations import gelu

from engines.runner.qwen3_asr.sound import FRAMES, tokens_of
from engines.runner.time_slice import TimeSlice

FAR = -1e9


class SoundTower:
    """Over the library's `audio_tower`, of a model whose convolutions see a second at a time."""

    def __init__(self, tower: Any, pace: TimeSlice) -> None:
        self._tower = tower
        self._pace = pace

    def __call__(self, frames: npt.NDArray[np.float32]) -> mx.array:
        """The embeddings [tokens, width] of a spectrogram [frames, bins], computed."""
        if self._pace.yields:
            encoded = self._in_spells(frames)
        else:
            encoded = self._tower(mx.array(frames.T[None]))
        mx.eval(encoded)
        return encoded

    def _in_spells(self, frames: npt.NDArray[np.float32]) -> mx.array:
        parts = []
        for begin in range(0, len(frames), FRAMES):
            second = frames[begin : begin + FRAMES]
            missing = FRAMES - len(second) if begin else 0
            seen = self._second(np.pad(second, ((0, missing), (0, 0))))[:, : tokens_of(len(second))]
            self._pace.reached("second", 1, seen)
            parts.append(seen)
        hidden = mx.concatenate(parts, axis=1)
        mask = self._mask(hidden)
        for layer in self._tower.layers:
            hidden = layer(hidden, mask=mask)
            self._pace.reached("layer", 1, hidden)
        behind = gelu(self._tower.proj1(self._tower.ln_post(hidden[0])))
        encoded: mx.array = self._tower.proj2(behind)
        return encoded

    def _second(self, frames: npt.NDArray[np.float32]) -> mx.array:
        """[1, tokens, width] of at most a second."""
        seen = mx.array(frames.T)[None, :, :, None]
        for convolution in (self._tower.conv2d1, self._tower.conv2d2, self._tower.conv2d3):
            seen = gelu(convolution(seen))
        _, bands, tokens, channels = seen.shape
        tokens_first = seen.transpose(0, 2, 3, 1).reshape(1, tokens, channels * bands)
        placed: mx.array = self._tower.conv_out(tokens_first) + self._tower.positional_embedding(tokens)
        return placed

    def _mask(self, hidden: mx.array) -> mx.array:
        """[1, 1, tokens, tokens]: what stands in another window is far away."""
        window = tokens_of(self._tower.n_window_infer)
        windows = mx.arange(hidden.shape[1]) // window
        apart = windows[:, None] != windows[None]
        return mx.where(apart, FAR, 0.0).astype(hidden.dtype)[None, None]
