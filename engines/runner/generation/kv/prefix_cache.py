"""The prefix cache: KV of what sequences had in common is computed once. Used on the step thread.

Blocks are captured while they are in the caches of running sequences: window layers forget, so a block must be cut out
before it has moved out of their window.
"""

from collections.abc import Sequence

import mlx.core as mx

from engines.runner.generation.kv import caches
from engines.runner.generation.kv.blocks import BLOCK, BlockStore, Chain
from engines.runner.generation.kv.caches import Cache


class PrefixCache:
    """Blocks of one model, as `cache` shows it: a single row's that holds something.

    Without a store, if such caches can't be cut into blocks: then nothing is ever known.
    """

    def __init__(self, cache: Cache) -> None:
        window = caches.window(cache)
        self._store = BlockStore[mx.array](-(-window // BLOCK)) if window is not None else None

    @property
    def works(self) -> bool:
        """Whether anything is ever stored."""
        return self._store is not None

    @property
    def bytes(self) -> int:
        return self._store.bytes if self._store is not None else 0

    def known(self, chain: Chain, tokens: Sequence[int], most: int) -> int:
        """How many of the first `most` tokens are here, ready to go on behind; a multiple of `BLOCK`."""
        if self._store is None:
            return 0
        return self._store.usable(chain.grow(tokens, most)) * BLOCK

    def restore(self, chain: Chain, known: int, cache: Cache) -> None:
        """Fill a new cache with what `known` said is here."""
        if self._store is not None:
            caches.paste(cache, self._store.take(chain.keys[: known // BLOCK]))

    def capture(self, chain: Chain, tokens: Sequence[int], before: int, end: int, cache: Cache, row: int = 0) -> None:
        """Store the blocks that became whole as a sequence's positions in a cache grew from `before` to `end`.

        A position whose token isn't known yet is none of a whole block.
        """
        known = min(end, len(tokens))
        start, stop = before // BLOCK, known // BLOCK
        if start >= stop or self._store is None:
            return
        grown = chain.grow(tokens, known)
        while start < stop and self._store.complete(grown[start]):
            start += 1
        if start < stop:
            blocks = caches.cut(cache, row, end - start * BLOCK, stop - start)
            sizes = blocks[0].full.nbytes, max((b.window.nbytes for b in blocks if b.window is not None), default=0)
            self._store.put(grown, start, blocks, sizes)

    def shrink(self, limit: int) -> None:
        """Hold at most so many bytes; least recently used blocks give way."""
        if self._store is not None:
            self._store.shrink(max(0, limit))
