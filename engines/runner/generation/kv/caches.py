"""KV caches: mlx-lm's classes, whose insides move between versions, behind one module.

A cache is a list with one entry a layer. A row's cache holds one sequence; `merge` makes a batch cache of rows, in
which rows of different lengths decode together.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, BatchRotatingKVCache, KVCache, RotatingKVCache

from engines.runner.generation.kv.blocks import BLOCK, Block
from engines.runner.generation.scheduler import KvShape

Cache = list[Any]


def new_cache(layers: int) -> Cache:
    """An empty one of a single row, for a model of another library whose layers all see everything."""
    return [KVCache() for _ in range(layers)]  # type: ignore[no-untyped-call]


def merge(rows: Sequence[Cache]) -> Cache:
    """A batch cache of single rows' caches. One row isn't copied."""
    if len(rows) == 1 and all(type(layer) in (KVCache, RotatingKVCache) for layer in rows[0]):
        return [_batch_of_one(layer) for layer in rows[0]]
    return [type(layers[0]).merge(list(layers)) for layers in zip(*rows, strict=True)]


def _batch_of_one(layer: Any) -> Any:
    batch: Any
    if not hasattr(layer, "max_size"):
        batch = BatchKVCache([0])
        batch.keys, batch.values, batch._idx = layer.keys, layer.values, layer.offset  # with the room behind it
    else:
        batch = BatchRotatingKVCache(layer.max_size, [0])
        ordered = [layer._temporal_order(array)[..., -layer.size() :, :] for array in (layer.keys, layer.values)]
        batch.keys, batch.values = ordered
        batch._idx = batch._offset = layer.size()
    batch.offset = mx.array([layer.offset])
    return batch


@contextlib.contextmanager
def padded(batch: Cache, lengths: Sequence[int]) -> Iterator[None]:
    """While rows are fed so many tokens each, padded on the right to the longest."""
    padding = [max(lengths) - length for length in lengths]
    for layer in batch:
        layer.prepare(lengths=list(lengths), right_padding=padding)
    yield
    for layer in batch:
        layer.finalize()


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


def takes_back(cache: Cache) -> int:
    """How many tokens a single row's cache can be fed and give up again: a window that is full has forgotten others."""
    kinds = {type(layer) for layer in cache}
    if not kinds <= {KVCache, RotatingKVCache}:
        return 0
    return min((layer.max_size - layer.offset for layer in cache if hasattr(layer, "max_size")), default=sys.maxsize)


def take_back(cache: Cache, count: int) -> None:
    """Forget the newest `count` positions of a single row."""
    for layer in cache:
        layer.trim(count)


def kv_shape(cache: Cache) -> KvShape:
    """How a single row's cache, which holds something, grows. A layer without positions counts as one."""
    return KvShape(tuple(_layer_shape(layer) for layer in cache))


def _layer_shape(layer: Any) -> tuple[int, int]:
    if isinstance(layer, KVCache | RotatingKVCache):
        keys: Any = layer.keys
        return layer.nbytes // keys.shape[2], getattr(layer, "max_size", 0)
    return layer.nbytes, 1


def window(cache: Cache) -> int | None:
    """Of a single row's cache: the positions that its window layers keep, 0 if it has none.

    None if it can't be cut into blocks: layers that keep something else than positions, windows of several sizes or
    smaller than a block, or keys and values of several shapes.
    """
    if not all(type(layer) is KVCache or (type(layer) is RotatingKVCache and not layer.keep) for layer in cache):
        return None
    shapes = {array.shape[1::2] for layer in cache for array in (layer.keys, layer.values)}
    sizes = {getattr(layer, "max_size", 0) for layer in cache} - {0}
    if len(shapes) > 1 or len(sizes) > 1 or any(size < BLOCK for size in sizes):
        return None
    return sizes.pop() if sizes else 0


def cut(cache: Cache, row: int, back: int, count: int) -> list[Block[mx.array]]:
    """`count` blocks of one row, of a batch or alone; the first begins `back` positions before its end.

    A part is an array [2 x layers, heads, BLOCK, width], with keys and values of a layer one after the other. The
    window part is None for blocks that the window layers don't hold whole any more.
    """
    full = [layer for layer in cache if not hasattr(layer, "max_size")]
    sliding = [layer for layer in cache if hasattr(layer, "max_size")]
    fulls = _split(full, row, back, count)
    held = min((_held(layer) for layer in sliding), default=0)
    gone = min(count, -(-max(0, back - held) // BLOCK))
    windows = [None] * gone + (_split(sliding, row, back - gone * BLOCK, count - gone) if sliding else [])
    windows += [None] * (count - len(windows))
    blocks = [Block(*parts) for parts in zip(fulls, windows, strict=True)]
    mx.eval([part for block in blocks for part in (block.full, block.window) if part is not None])
    return blocks


def paste(cache: Cache, blocks: Sequence[Block[mx.array]]) -> None:
    """Fill a new single row's cache with the positions of these blocks, the first of a sequence."""
    length = len(blocks) * BLOCK
    full = [layer for layer in cache if not hasattr(layer, "max_size")]
    sliding = [layer for layer in cache if hasattr(layer, "max_size")]
    _fill(full, [block.full for block in blocks], length)
    _fill(sliding, [block.window for block in blocks if block.window is not None], length)
    mx.eval([layer.state for layer in cache])


def _fill(layers: Cache, parts: Sequence[mx.array], length: int) -> None:
    if not layers:
        return
    arrays = mx.concatenate(list(parts), axis=2)
    for place, layer in enumerate(layers):
        keys, values = arrays[2 * place][None], arrays[2 * place + 1][None]
        size = getattr(layer, "max_size", length)
        layer.keys, layer.values = keys[:, :, -size:], values[:, :, -size:]
        layer.offset = length
        if hasattr(layer, "_idx"):
            layer._idx = layer.keys.shape[2]


def _split(layers: Cache, row: int, back: int, count: int) -> list[mx.array]:
    if not layers:
        return [mx.zeros((0,))] * count
    if count == 0:
        return []
    arrays = [
        _recent(layer, array, row, back, count * BLOCK) for layer in layers for array in (layer.keys, layer.values)
    ]
    stacked = mx.stack(arrays)
    return [mx.contiguous(stacked[:, :, start : start + BLOCK]) for start in range(0, count * BLOCK, BLOCK)]


def _held(layer: Any) -> int:
    """The positions of a window layer that are there."""
    offset: int = layer._offset if hasattr(layer, "_offset") else layer.offset
    return min(int(layer.keys.shape[2]), offset)


def _recent(layer: Any, array: mx.array, row: int, back: int, count: int) -> mx.array:
    """[heads, count, width]: so many positions, from `back` before the end on. Rows of a batch end together.

    In a window layer that has gone round, the positions before the next place to write are the newest.
    """
    end = layer._idx if hasattr(layer, "_idx") else layer.offset
    start = end - back
    if start >= 0:
        return array[row, :, start : start + count]
    size = array.shape[2]
    start += size
    first = array[row, :, start : start + count]
    return first if start + count <= size else mx.concatenate([first, array[row, :, : start + count - size]], axis=1)
