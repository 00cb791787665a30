"""Attention and gated layers of the library's modules, for whole batches, of operations that any device learns by."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

UNSEEN = -1e9
CACHE = 2 << 30  # bytes of freed memory that are kept, lest several trainings on one device crowd each other out


class RotaryTable(NamedTuple):
    """(places, head) of rotary embeddings, and the causal mask (places, places)."""

    cosines: mx.array
    sines: mx.array
    mask: mx.array


def turns(places: int, head: int, base: float) -> RotaryTable:
    rates = base ** -(np.arange(0, head, 2) / head)
    angles = np.tile(np.arange(places)[:, None] * rates, 2)
    mask = np.triu(np.full((places, places), UNSEEN, np.float32), 1)
    return RotaryTable(
        mx.array(np.cos(angles).astype(np.float32)), mx.array(np.sin(angles).astype(np.float32)), mx.array(mask)
    )


def attended(attention: Any, x: mx.array, turns: RotaryTable) -> mx.array:
    """Causal, of (rows, places, width)."""
    rows, places, _ = x.shape
    heads, fewer = attention.num_heads, attention.num_kv_heads
    q = attention.q_proj(x).reshape(rows, places, heads, -1)
    k = attention.k_proj(x).reshape(rows, places, fewer, -1)
    v = attention.v_proj(x).reshape(rows, places, fewer, -1)
    if "q_norm" in attention:
        q, k = attention.q_norm(q), attention.k_norm(k)
    q, k, v = (one.transpose(0, 2, 1, 3) for one in (q, k, v))
    q, k = (one * turns.cosines + _turned(one) * turns.sines for one in (q, k))
    q = q.reshape(rows, fewer, heads // fewer, places, -1)
    scores = (q @ k[:, :, None].swapaxes(-1, -2)) * attention.scale + turns.mask
    made = (mx.softmax(scores, axis=-1) @ v[:, :, None]).reshape(rows, heads, places, -1)
    result: mx.array = attention.o_proj(made.transpose(0, 2, 1, 3).reshape(rows, places, -1))
    return result


def _turned(x: mx.array) -> mx.array:
    half = x.shape[-1] // 2
    return mx.concatenate([-x[..., half:], x[..., :half]], axis=-1)


def silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


def gated(mlp: Any, x: mx.array) -> mx.array:
    result: mx.array = mlp.down_proj(silu(mlp.gate_proj(x)) * mlp.up_proj(x))
    return result


def transformed(model: Any, x: mx.array) -> mx.array:
    """Through all layers of a talker or a code predictor, of (rows, places, width)."""
    head = model.layers[0].self_attn.head_dim
    own = turns(x.shape[1], head, model.config.rope_theta)
    for layer in model.layers:
        x = x + attended(layer.self_attn, layer.input_layernorm(x), own)
        x = x + gated(layer.mlp, layer.post_attention_layernorm(x))
    result: mx.array = model.norm(x)
    return result


def know_weights(module: Any, file: Path) -> None:
    """What was kept there, if it was."""
    if file.exists():
        module.load_weights([(name, mx.array(weight.astype(np.float32))) for name, weight in np.load(file).items()])


def keep_weights(module: Any, file: Path) -> None:
    """As numpy keeps them, by the library's names."""
    weights = dict(cast(list[tuple[str, mx.array]], tree_flatten(module.parameters())))
    arrays: dict[str, Any] = {name: np.array(weight) for name, weight in weights.items()}
    np.savez(file, **arrays)
