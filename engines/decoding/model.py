"""A checkpoint in MLX: loading and forward passes, by mlx-lm. With `caches.py` the only module that knows mlx-lm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from engines.checkpoint import eos_ids
from engines.decoding import caches
from engines.decoding.caches import Cache

CACHE_BYTES = 1 << 30


class Model:
    """A loaded checkpoint. Use it on the thread that loaded it."""

    def __init__(self, module: Any, eos: frozenset[int]) -> None:
        self._module = module
        self._parts = _parts(module)
        self.eos = eos

    def new_cache(self) -> Cache:
        return list(make_prompt_cache(self._module))

    def feed(self, tokens: Sequence[int], cache: Cache) -> None:
        """Feed one row's tokens, all but the last of its prompt."""
        self._module(mx.array([list(tokens)]), cache=cache)  # the head is never computed
        mx.eval([layer.state for layer in cache])

    def prefill(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        """Feed one row's tokens; the logits [1, vocabulary] behind the last."""
        inputs = mx.array([list(tokens)])
        if self._parts is None or len(tokens) == 1:
            return _evaluated(self._module(inputs, cache=cache)[:, -1], cache)
        body, head = self._parts
        return _evaluated(head(body(inputs, cache)[:, -1:])[:, -1], cache)

    def prefill_rows(self, rows: Sequence[Sequence[int]], own: Sequence[Cache]) -> tuple[mx.array, list[Cache]]:
        """Feed several rows some tokens each, at once: the logits [rows, vocabulary] behind their last, and new caches.

        The caches that are given stay as they are.
        """
        lengths = [len(row) for row in rows]
        inputs = mx.array([[*row, *[0] * (max(lengths) - len(row))] for row in rows])
        batch = caches.merge(own)
        with caches.padded(batch, lengths):
            body, head = self._parts or (self._module, lambda logits: logits)
            last = mx.array(lengths)[:, None, None] - 1
            behind = body(inputs, batch)
            behind = mx.take_along_axis(behind, mx.broadcast_to(last, (len(rows), 1, behind.shape[-1])), axis=1)
            logits: mx.array = head(behind)[:, 0]
        mx.eval(logits, [layer.state for layer in batch])
        return logits, [caches.extract(batch, row) for row in range(len(rows))]

    def score(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        """Feed one row's tokens; the logits [tokens, vocabulary] behind each of them."""
        return _evaluated(self._module(mx.array([list(tokens)]), cache=cache)[0], cache)

    def decode(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        """Feed one token a row; the logits [rows, vocabulary]."""
        return _evaluated(self._module(mx.array([[token] for token in tokens]), cache=cache)[:, -1], cache)


def _evaluated(logits: mx.array, cache: Cache) -> mx.array:
    mx.eval(logits, [layer.state for layer in cache])
    return logits


def _parts(module: Any) -> tuple[Any, Any] | None:
    """The layers and the head apart, so that a prompt pays the head for its last token alone; None if not so built.

    At 151,936 entries the head is most of a short prompt's cost. That the two make the whole is tried, not assumed.
    """
    outer = getattr(module, "language_model", module)
    body = getattr(outer, "model", None)
    head = outer.lm_head if "lm_head" in outer else getattr(getattr(body, "embed_tokens", None), "as_linear", None)
    if body is None or head is None:
        return None
    probe = mx.array([[0, 1]])
    whole = module(probe)[:, -1]
    try:
        apart = head(body(probe)[:, -1:])[:, -1]
    except TypeError:
        return None
    return (body, head) if mx.allclose(whole, apart, rtol=1e-3, atol=1e-3).item() else None


def load(folder: Path) -> Model:
    """Load the weights of a checkpoint's folder, strictly. Never looks at a hub: the folder must exist."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    module, _ = load_model(folder, strict=True)
    mx.eval(module.parameters())
    return Model(module, eos_ids(folder))


def set_limits(lease_bytes: int) -> None:
    """Keep MLX within a lease: what it holds, what it keeps for reuse, and on Metal what stays resident."""
    mx.set_memory_limit(lease_bytes)
    mx.set_cache_limit(min(lease_bytes // 16, CACHE_BYTES))
    if mx.metal.is_available():
        mx.set_wired_limit(min(lease_bytes, device_bytes()))


def release() -> None:
    """Give back what MLX keeps for reuse."""
    mx.clear_cache()


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
