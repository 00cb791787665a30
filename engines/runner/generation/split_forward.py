"""A text model's layers and its head apart, so that a prompt costs no more than what its last token needs.

At 151,936 entries the head is most of a short prompt's cost. And of the last layer, the positions before the last are
of use to nobody but for their keys and values: the rest of it would be a sixth of all work in a model of six layers,
a fortieth of one of forty.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from engines.runner.generation.kv.caches import Cache

ROUNDING = 0.05  # of the logits' norm

Embeddings = dict[str, mx.array]


class SplitForward:
    """`body`: ids [rows, tokens] → [rows, tokens, width]; `head`: that → logits [rows, tokens, vocabulary].

    `lean`: of the last layer, no more is computed than `last` needs.
    """

    def __init__(self, body: Any, head: Any, lean: bool) -> None:
        self._body = body
        self._head = head
        self.lean = lean

    def last(self, inputs: mx.array, cache: Cache, embeddings: Embeddings) -> mx.array:
        """The logits [rows, vocabulary] behind the last token of rows [rows, tokens]."""
        with _last_position_alone(self._body) if self.lean else contextlib.nullcontext():
            behind = self._body(inputs, cache, **embeddings)
        return self._logits(behind[:, -1:])

    def ends(self, inputs: mx.array, lengths: list[int], cache: Cache, embeddings: Embeddings) -> mx.array:
        """The logits [rows, vocabulary] behind each row's own last token; rows are padded on the right."""
        if len(set(lengths)) == 1:
            return self.last(inputs, cache, embeddings)
        behind = self._body(inputs, cache, **embeddings)
        last = mx.array(lengths)[:, None, None] - 1
        shape = (len(lengths), 1, behind.shape[-1])
        return self._logits(mx.take_along_axis(behind, mx.broadcast_to(last, shape), axis=1))

    def _logits(self, behind: mx.array) -> mx.array:
        logits: mx.array = self._head(behind)[:, 0]
        return logits


def parts(module: Any) -> SplitForward | None:
    """Those of a module of mlx-lm; None if it isn't so built. That they make the whole is tried, not assumed."""
    outer = getattr(module, "language_model", module)
    body = getattr(outer, "model", None)
    head = outer.lm_head if "lm_head" in outer else getattr(getattr(body, "embed_tokens", None), "as_linear", None)
    if body is None or head is None:
        return None
    probe = mx.array([[0, 1, 0]])
    whole = module(probe)[:, -1]
    windowed = hasattr(make_prompt_cache(module)[-1], "max_size")  # a window moves with what is fed
    for lean in (False,) if windowed else (True, False):
        made = SplitForward(body, head, lean)
        if _same(made, module, probe, whole):
            return made
    return None


def _same(made: SplitForward, module: Any, probe: mx.array, whole: mx.array) -> bool:
    cache = list(make_prompt_cache(module))
    again = probe[:, :1]
    try:
        pairs = [
            (made.last(probe, cache, {}), whole),
            (made.last(again, cache, {}), module(mx.concatenate([probe, again], axis=1))[:, -1]),
        ]
    except (TypeError, AttributeError, ValueError):
        return False
    return all(_near(*pair) for pair in pairs)


def _near(one: mx.array, other: mx.array) -> bool:
    """Apart from rounding, which in half precision goes other ways where fewer rows are multiplied."""
    one, other = one.astype(mx.float32), other.astype(mx.float32)
    return bool((mx.linalg.norm(one - other) <= ROUNDING * mx.linalg.norm(other)).item())


@contextlib.contextmanager
def _last_position_alone(body: Any) -> Iterator[None]:
    """While the last layer gives its last position alone, [rows, 1, width]."""
    whole = body.layers[-1]
    body.layers[-1] = _LastPosition(whole)
    try:
        yield
    finally:
        body.layers[-1] = whole


class _LastPosition:
    """Feeds a layer twice: what comes of the first positions is never asked for, so MLX computes no more of them than
    keys and values."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> Any:
        if x.shape[1] == 1:
            return self._layer(x, mask, cache)
        self._layer(x[:, :-1], None, cache)
        return self._layer(x[:, -1:], mask[..., -1:, :] if isinstance(mask, mx.array) else None, cache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)
