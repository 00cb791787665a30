"""mlx-lm, behind one module: its API moves between versions.

A cache is a list with one entry a layer. A row's cache holds one sequence; `merge` makes a batch cache of rows, in
which rows of different lengths decode together.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.utils import load_model

from engines.decoding.schedule import KvShape

Cache = list[Any]


class Model:
    """A loaded checkpoint. Use it on the thread that loaded it."""

    def __init__(self, module: Any, eos: frozenset[int]) -> None:
        self._module = module
        self.eos = eos

    def new_cache(self) -> Cache:
        return list(make_prompt_cache(self._module))

    def prefill(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        """Feed one row's tokens; the logits [1, vocabulary] behind the last."""
        return self._forward(mx.array([list(tokens)]), cache)

    def decode(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        """Feed one token a row; the logits [rows, vocabulary]."""
        return self._forward(mx.array([[token] for token in tokens]), cache)

    def _forward(self, tokens: mx.array, cache: Cache) -> mx.array:
        logits: mx.array = self._module(tokens, cache=cache)[:, -1]
        mx.eval(logits, [layer.state for layer in cache])
        return logits


def load(folder: Path) -> Model:
    """Load the weights of a checkpoint's folder, strictly. Never looks at a hub: the folder must exist."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    module, config = load_model(folder, strict=True)
    mx.eval(module.parameters())
    return Model(module, _eos(folder, config))


def merge(rows: Sequence[Cache]) -> Cache:
    """A batch cache of single rows' caches."""
    return [type(layers[0]).merge(list(layers)) for layers in zip(*rows, strict=True)]


def extend(batch: Cache, other: Cache) -> None:
    """Put the rows of `other` behind those of `batch`."""
    for layer, more in zip(batch, other, strict=True):
        layer.extend(more)


def keep(batch: Cache, rows: Sequence[int]) -> None:
    """Drop all rows but these."""
    for layer in batch:
        layer.filter(mx.array(list(rows)))
    mx.eval([layer.state for layer in batch])


def extract(batch: Cache, row: int) -> Cache:
    """A row's own cache, taken out of the batch."""
    own = [layer.extract(row) for layer in batch]
    # Unevaluated, it would hold the whole batch's buffers for as long as the row is away.
    mx.eval([layer.state for layer in own])
    return own


def kv_shape(cache: Cache) -> KvShape:
    """How a single row's cache, which holds something, grows. A layer without positions counts as one."""
    return KvShape(tuple(_layer_shape(layer) for layer in cache))


def _layer_shape(layer: Any) -> tuple[int, int]:
    if isinstance(layer, KVCache | RotatingKVCache):
        keys: Any = layer.keys
        return layer.nbytes // keys.shape[2], getattr(layer, "max_size", 0)
    return layer.nbytes, 1


def active_bytes() -> int:
    return mx.get_active_memory()


def peak_bytes() -> int:
    return mx.get_peak_memory()


def device_name() -> str:
    return str(mx.default_device())


def device_bytes() -> int:
    """What the device recommends to use; 0 if it doesn't say."""
    if not mx.metal.is_available():
        return 0
    return int(mx.device_info().get("max_recommended_working_set_size", 0))


def _eos(folder: Path, config: dict[str, Any]) -> frozenset[int]:
    """The generation configuration overrides the model's; both know one id or several."""
    file = folder / "generation_config.json"
    generation = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    ids = generation.get("eos_token_id", config.get("eos_token_id"))
    return frozenset([ids] if isinstance(ids, int) else ids or [])
