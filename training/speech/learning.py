"""What all learners of speech compute: the sound as it is shown to them, and how far they are from what was said.

And how they are kept.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from tokenizers import Tokenizer

from demo.checkpoints import store
from training.speech.examples import SoundBatch

nn: Any = importlib.import_module("mlx.nn")  # half typed


def shown(sound: SoundBatch) -> mx.array:
    """(rows, frames, bins) in single precision: lifted, partly hidden, zero beyond the end."""
    frames: Any = mx.array(sound.frames).astype(mx.float32)
    sizes = mx.array(sound.sizes)
    level = frames.sum(axis=(1, 2)) / (sizes * frames.shape[2])
    hidden = mx.array(sound.hidden_frames)[..., None] | mx.array(sound.hidden_bins)[:, None]
    frames = mx.where(hidden, level[:, None, None], frames + mx.array(sound.lift)[:, None])
    real = mx.arange(frames.shape[1]) < sizes[:, None]
    return mx.where(real[..., None], frames, 0.0)


def unchanged(sound: SoundBatch) -> SoundBatch:
    """Nothing hidden, nothing added."""
    bins, frames, lift = (np.zeros_like(one) for one in (sound.hidden_bins, sound.hidden_frames, sound.lift))
    return sound._replace(hidden_bins=bins, hidden_frames=frames, lift=lift)


def weighed(logits: mx.array, targets: Any, weights: Any) -> mx.array:
    """Mean cross entropy."""
    errors: Any = nn.losses.cross_entropy(logits, targets, reduction="none")
    result: mx.array = (errors * weights).sum() / mx.maximum(weights.sum(), 1)
    return result


def keep(folder: Path, name: str, weights: Iterable[tuple[str, mx.array]], tokenizer: Tokenizer) -> None:
    """NAME.safetensors and NAME.tokenizer.json, as `demo/weights` holds them. The weights are whole as soon as they are
    seen."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.partial"
    store({key: np.array(array) for key, array in weights}, partial)
    partial.replace(folder / f"{name}.safetensors")
    tokenizer.save(str(folder / f"{name}.tokenizer.json"), pretty=False)
