"""The next token of every row: greedy rows by one argmax on the device, sampled rows on the host.

A row's randomness is a function of its seed and of the position in its output alone, so the same seed and prompt give
the same text whatever else runs in the batch.
"""

import mlx.core as mx
import msgspec
import numpy as np
import numpy.typing as npt

FIRST_CANDIDATES = 64
WIDEN = 8


class Draw(msgspec.Struct, frozen=True):
    """How one row chooses: `temperature` 0 is greedy, `position` counts the tokens it has made."""

    temperature: float
    top_p: float
    seed: int
    position: int


class Choices:
    """Logits [rows, vocabulary] to choose from; `valid` [vocabulary] is 0, or -inf for ids that no token has."""

    def __init__(self, logits: mx.array, valid: mx.array | None) -> None:
        self._logits = logits if valid is None else logits + valid
        self._greedy: list[int] = mx.argmax(self._logits, axis=-1).tolist()  # type: ignore[assignment]

    def token(self, row: int, draw: Draw) -> int:
        """A row's next token id. Raises ValueError if a draw meets logits that are no numbers."""
        if draw.temperature == 0:
            return self._greedy[row]
        return choose(np.array(self._logits[row].astype(mx.float32)), draw)


def choose(logits: npt.NDArray[np.float32], draw: Draw) -> int:
    """One draw from logits [vocabulary]: the temperature first, then the nucleus of `top_p`."""
    below = logits.astype(np.float64) - logits.max()
    with np.errstate(over="ignore"):
        weights = np.exp(below / draw.temperature)
    if not np.isfinite(weights.sum()):
        raise ValueError("the logits are no numbers")
    uniform = np.random.Generator(np.random.Philox(key=draw.seed, counter=draw.position)).random()
    if draw.top_p >= 1:
        return _inverse(np.cumsum(weights), uniform)
    ids, mass = _nucleus(weights, draw.top_p)
    return int(ids[_inverse(mass, uniform)])


def _nucleus(weights: npt.NDArray[np.float64], top_p: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The likeliest ids that together hold `top_p` of the mass, likeliest first, and their cumulated weights.

    A full sort of 150,000 costs a multiple of the step: a few candidates are sorted, more if they don't hold enough.
    """
    wanted = top_p * weights.sum()
    size = min(FIRST_CANDIDATES, len(weights))
    while True:
        ids = np.argpartition(weights, -size)[-size:]
        ids = ids[np.lexsort((ids, -weights[ids]))]
        mass = np.cumsum(weights[ids])
        if mass[-1] >= wanted or size == len(weights):
            count = min(int(np.searchsorted(mass, wanted)) + 1, size)
            return ids[:count], mass[:count]
        size = min(size * WIDEN, len(weights))


def _inverse(mass: npt.NDArray[np.float64], uniform: float) -> int:
    return min(int(np.searchsorted(mass, uniform * mass[-1], side="right")), len(mass) - 1)
