"""How far background work goes before it lets others compute: as far as its time budget reaches."""

import math
from collections.abc import Hashable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from engines.runner.device_lock import DeviceLock


class TimeSlice:
    """Work in equal units, some of them at a time while it yields to others, by how long they took before.

    Units of one `kind` take equally long: a layer over a number of tokens, a position of a sound.
    """

    def __init__(self, lock: DeviceLock | None) -> None:
        self._lock = lock
        self._seconds: dict[Hashable, float] = {}
        self._passed = 0

    @property
    def yields(self) -> bool:
        """Whether others are to compute in between."""
        return self._lock is not None and self._lock.yields

    def size(self, kind: Hashable, most: int) -> int:
        """How many units to go on with; `most` where it doesn't yield, one where their seconds aren't known."""
        if self._lock is None or not self._lock.yields:
            return most
        return units_within(self._lock.left(), self._seconds.get(kind), most)

    def reached(self, kind: Hashable, units: int, *computed: mx.array) -> None:
        """These arrays are the result of `units`: where it yields, compute them now, and let others go on."""
        if self._lock is not None and self._lock.yields:
            mx.eval(computed)
            if worked := self._lock.pause():  # 0 before the lock was taken
                self._seconds[kind] = worked / units

    def passed(self, number: int, result: mx.array) -> None:
        """The result [rows, tokens, width] of a model's layer, by its number; layers are passed in order."""
        if not self.yields:
            return
        kind = result.shape[:-1]
        self._passed = 1 if number == 0 else self._passed + 1
        if self.size(kind, self._passed + 1) <= self._passed:
            self.reached(kind, self._passed, result)
            self._passed = 0


def units_within(left: float, seconds: float | None, most: int) -> int:
    """Of `most` units of `seconds` each, those that begin within the seconds that are `left`; at least one."""
    if seconds is None:
        return 1
    return min(most, max(1, math.ceil(left / seconds))) if seconds > 0 else most


class SlicedLayer(nn.Module):  # type: ignore[name-defined, misc]
    """A layer, as it is, after which others may compute."""

    def __init__(self, layer: Any, number: int, pace: TimeSlice) -> None:
        super().__init__()
        self.layer = layer
        self._number = number
        self._pace = pace

    def __call__(self, hidden: mx.array, *options: Any, **named: Any) -> mx.array:
        result: mx.array = self.layer(hidden, *options, **named)
        self._pace.passed(self._number, result)
        return result
