"""How far a long step goes before others have their turns: as far as the time that is left to it reaches."""

import math
from collections.abc import Hashable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from engines.runner.device_lock import Turns


class Pace:
    """What is computed in equal units, some of them at a time while turns are taken, by how long they took before.

    A `kind` is what takes equally long: a layer over so many tokens, a place of a sound.
    """

    def __init__(self, turns: Turns | None) -> None:
        self._turns = turns
        self._seconds: dict[Hashable, float] = {}
        self._passed = 0

    @property
    def shared(self) -> bool:
        """Whether turns are taken."""
        return self._turns is not None and self._turns.shared

    def size(self, kind: Hashable, most: int) -> int:
        """How many units to go on with; `most` where no turns are taken, one where nobody knows how long it takes."""
        if self._turns is None or not self._turns.shared:
            return most
        return units_within(self._turns.left(), self._seconds.get(kind), most)

    def reached(self, kind: Hashable, units: int, *computed: mx.array) -> None:
        """So many units are behind these arrays: while turns are taken, compute them now, and let others go on."""
        if self._turns is not None and self._turns.shared:
            mx.eval(computed)
            if worked := self._turns.pause():  # none before the first turn
                self._seconds[kind] = worked / units

    def passed(self, number: int, result: mx.array) -> None:
        """The result [rows, tokens, width] of a model's layer, by its number; layers are passed in order."""
        if not self.shared:
            return
        kind = result.shape[:-1]
        self._passed = 1 if number == 0 else self._passed + 1
        if self.size(kind, self._passed + 1) <= self._passed:
            self.reached(kind, self._passed, result)
            self._passed = 0


def units_within(left: float, seconds: float | None, most: int) -> int:
    """Of `most` units that take so long each, those that begin within the time that is `left`; one at least."""
    if seconds is None:
        return 1
    return min(most, max(1, math.ceil(left / seconds))) if seconds > 0 else most


class Paced(nn.Module):  # type: ignore[name-defined, misc]
    """A layer, as it is, whose results others may go on behind."""

    def __init__(self, layer: Any, number: int, pace: Pace) -> None:
        super().__init__()
        self.layer = layer
        self._number = number
        self._pace = pace

    def __call__(self, hidden: mx.array, *options: Any, **named: Any) -> mx.array:
        result: mx.array = self.layer(hidden, *options, **named)
        self._pace.passed(self._number, result)
        return result
