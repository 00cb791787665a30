"""Layers behind which other runners have their turns, so that a long pass of sound is no long gap for a chat."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from engines.turns import Turns


class Paced(nn.Module):  # type: ignore[name-defined, misc]
    """`layer`, as it is; while turns are taken its result is computed at once, and then others may go on."""

    def __init__(self, layer: Any, turns: Turns) -> None:
        super().__init__()
        self.layer = layer
        self._turns = turns

    def __call__(self, hidden: mx.array, *options: Any, **named: Any) -> mx.array:
        result: mx.array = self.layer(hidden, *options, **named)
        if self._turns.shared:
            mx.eval(result)
            self._turns.pause()
        return result
