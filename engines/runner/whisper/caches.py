"""The keys and values of rows that decode together. They end at the same place; shorter rows begin later."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

KeysValues = tuple[mx.array, mx.array]  # [rows, heads, positions, dim] each

GROWTH = 64  # positions that are added at a time


@dataclass(frozen=True)
class CacheRow:
    """One row's keys and values, a layer each: of what it `said`, and of what it heard (`crossed`)."""

    said: tuple[KeysValues, ...]
    crossed: tuple[KeysValues, ...]

    @property
    def length(self) -> int:
        return self.said[0][0].shape[2]

    def cut(self, length: int) -> "CacheRow":
        """As it was when it had said so much."""
        return CacheRow(tuple((keys[:, :, :length], values[:, :, :length]) for keys, values in self.said), self.crossed)


class Rows:
    """A batch. `lengths` are the positions that each row has."""

    def __init__(self, first: CacheRow) -> None:
        self.lengths = [first.length]
        self.crossed = list(first.crossed)
        self._said = list(first.said)
        self._end = first.length

    @property
    def state(self) -> list[KeysValues]:
        return self._said

    def grow(self) -> mx.array | None:
        """Make room for a position of every row. The mask [rows, 1, 1, positions]; None if all see everything."""
        if self._end == self._said[0][0].shape[2]:
            self._said = [(_padded(keys, 0, GROWTH), _padded(values, 0, GROWTH)) for keys, values in self._said]
        self._end += 1
        self.lengths = [length + 1 for length in self.lengths]
        starts = [self._end - length for length in self.lengths]
        if not any(starts):
            return None
        return (mx.arange(self._end)[None, :] >= mx.array(starts)[:, None])[:, None, None]

    def write(self, layer: int, keys: mx.array, values: mx.array) -> KeysValues:
        """Note the newest position's, [rows, heads, 1, dim]; all of the layer's."""
        every_key, every_value = self._said[layer]
        every_key[:, :, self._end - 1 : self._end] = keys
        every_value[:, :, self._end - 1 : self._end] = values
        return every_key[:, :, : self._end], every_value[:, :, : self._end]

    def join(self, row: CacheRow) -> None:
        """It becomes the last."""
        end = max(self._end, row.length)
        for layer, (mine, its) in enumerate(zip(self._said, row.said, strict=True)):
            self._said[layer] = _joined(mine, self._end, its, row.length, end)
        for layer, its in enumerate(row.crossed):
            self.crossed[layer] = _stacked(self.crossed[layer], its)
        self.lengths.append(row.length)
        self._end = end

    def take(self, index: int) -> CacheRow:
        """A copy of one row."""
        begin = self._end - self.lengths[index]
        said = tuple(
            (keys[index : index + 1, :, begin : self._end], values[index : index + 1, :, begin : self._end])
            for keys, values in self._said
        )
        row = CacheRow(said, tuple((k[index : index + 1], v[index : index + 1]) for k, v in self.crossed))
        mx.eval(row.said, row.crossed)
        return row

    def keep(self, indices: Sequence[int]) -> None:
        """The others leave, and with them the positions that only they had."""
        chosen = mx.array(list(indices))
        self.lengths = [self.lengths[index] for index in indices]
        begin = self._end - max(self.lengths)
        self._said = [
            (keys[chosen, :, begin : self._end], values[chosen, :, begin : self._end]) for keys, values in self._said
        ]
        self._end -= begin
        mx.eval(self._said)
        for layer, (keys, values) in enumerate(self.crossed):
            self.crossed[layer] = (keys[chosen], values[chosen])
            mx.eval(self.crossed[layer])  # one layer at a time: the old one is free before the next


def _joined(mine: KeysValues, my_end: int, its: KeysValues, its_end: int, end: int) -> KeysValues:
    pairs = zip(mine, its, strict=True)
    first, second = (
        mx.concatenate([_padded(a[:, :, :my_end], end - my_end, 0), _padded(b, end - its_end, 0)]) for a, b in pairs
    )
    mx.eval(first, second)  # one layer at a time: what it was made of is free before the next
    return first, second


def _stacked(mine: KeysValues, its: KeysValues) -> KeysValues:
    keys, values = mx.concatenate([mine[0], its[0]]), mx.concatenate([mine[1], its[1]])
    mx.eval(keys, values)
    return keys, values


def _padded(array: mx.array, before: int, behind: int) -> mx.array:
    """Zeros along the positions."""
    return array if not before and not behind else mx.pad(array, [(0, 0), (0, 0), (before, behind), (0, 0)])
