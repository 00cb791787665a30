"""What the caches of one model may take together: sequences come first, and stored blocks have what these leave."""

from collections.abc import Sequence

from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.kv.prefix_cache import PrefixCache
from engines.runner.generation.scheduler import KvShape, Room, room


class KvBudget:
    """`budget` in bytes. How caches grow and are cut into blocks is seen at the first: until then they take nothing,
    and `prefixes` is None."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.prefixes: PrefixCache | None = None
        self._shape: KvShape | None = None

    def see(self, cache: Cache) -> PrefixCache:
        """A single row's that holds something."""
        self._shape = self._shape or caches.kv_shape(cache)
        self.prefixes = self.prefixes or PrefixCache(cache)
        return self.prefixes

    def bytes(self, rows: int, positions: int) -> int:
        """What a batch takes, every row as long as the longest."""
        return self._shape.bytes(rows, positions) if self._shape is not None else 0

    def room(self, positions: Sequence[int]) -> Room:
        """Of sequences in their order, by what the cache of each holds: how many may keep one, and begin one."""
        if self._shape is None:
            return Room(len(positions), len(positions))
        return room(positions, self._shape, self.budget)

    @property
    def stored_bytes(self) -> int:
        return self.prefixes.bytes if self.prefixes is not None else 0

    def fit_blocks(self, taken: int) -> None:
        """Stored blocks give way to sequences that take so many bytes."""
        if self.prefixes is not None:
            self.prefixes.shrink(self.budget - taken)
