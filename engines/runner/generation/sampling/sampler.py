"""The next token of every row: plain greedy rows by one argmax on the device, all others on the host.

A row's randomness is a function of its seed and of the position in its output alone. So from the same logits the same
seed chooses the same tokens, whatever else runs in the batch. The logits are the same in float32 on a processor; on a
GPU, in half precision or quantised, kernels depend on the number of rows, and a near tie may be decided otherwise.

The order of what is applied stands at `types.Sampling`.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx
import msgspec
import numpy as np
import numpy.typing as npt

from engines.runner.generation.sampling.penalties import Penalties
from engines.types.chat import Sampling

FIRST_CANDIDATES = 64
WIDEN = 16
COLDEST = 1e-5  # below, only the likeliest token is left in float32

Logits = npt.NDArray[np.float32]
Allow = Callable[[Logits], Logits]


class Draw(msgspec.Struct, frozen=True):
    """How one row chooses. `position` counts the tokens it has made; `allow` puts -inf where a token is forbidden."""

    sampling: Sampling
    seed: int
    position: int
    penalties: Penalties | None = None
    allow: Allow | None = None

    @property
    def is_plain(self) -> bool:
        """The likeliest token of the logits as they are, and nothing more is asked than its logprob."""
        sampling = self.sampling
        free = self.penalties is None and self.allow is None
        return sampling.temperature == 0 and free and not sampling.logprobs


class Choice(msgspec.Struct, frozen=True):
    """A token; where `Sampling.logprobs` asks for it, with its logprob and the likeliest tokens there, with theirs."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Padding:
    """Logits [rows, width] → 0 for every id that is a token, -inf for the padding of the vocabulary [width]; None where
    there is none. `valid` says of each id whether it is a token."""

    def __init__(self, valid: Sequence[bool]) -> None:
        self._known = valid
        self._width = 0
        self._added: mx.array | None = None

    def __call__(self, logits: mx.array) -> mx.array | None:
        width = logits.shape[-1]
        if self._width != width:
            self._width = width
            valid = [*self._known, *[False] * width][:width]
            self._added = None if all(valid) else mx.array([0.0 if one else -float("inf") for one in valid])
        return self._added


class Choices:
    """Logits [rows, vocabulary] to choose from; `valid` [vocabulary] is 0, or -inf for ids that no token has.

    They may still be computed, on the device: what plain greedy rows need of them is begun here, and waited for when it
    is asked for. `scored`: some of these ask for logprobs. `greedy` are all rows' likeliest tokens [rows].
    """

    def __init__(self, logits: mx.array, valid: mx.array | None, scored: bool = False) -> None:
        self._logits = logits if valid is None else logits + valid
        self._scored = scored
        self.greedy = mx.argmax(self._logits, axis=-1)
        self._logprobs = _likeliest(self._logits) if scored else None
        self._tokens: list[int] = []
        self._token_logprobs: list[float] = []
        mx.async_eval(self._logits, self.greedy, self._logprobs)  # type: ignore[no-untyped-call]

    def only(self, rows: Sequence[int]) -> "Choices":
        """Those of some rows."""
        return Choices(self._logits[mx.array(list(rows))], None, self._scored)

    def wait(self) -> None:
        """Until they are computed."""
        mx.eval(self.greedy, self._logprobs)

    def choose(self, row: int, draw: Draw) -> Choice:
        """A row's next token. Raises ValueError if a draw meets logits that are no numbers."""
        if draw.is_plain:
            return Choice(self._token(row), None if draw.sampling.logprobs is None else self._logprob(row))
        return choose(self.row(row), draw)

    def _token(self, row: int) -> int:
        self._tokens = self._tokens or self.greedy.tolist()  # type: ignore[assignment]
        return self._tokens[row]

    def _logprob(self, row: int) -> float:
        """That of a row's likeliest token; of all rows at once, as one costs nearly as much."""
        if not self._token_logprobs:
            logprobs = _likeliest(self._logits) if self._logprobs is None else self._logprobs
            self._token_logprobs = logprobs.tolist()  # type: ignore[assignment]
        return self._token_logprobs[row]

    def row(self, row: int) -> Logits:
        """A row's logits [vocabulary] on the host."""
        return np.array(self._logits[row].astype(mx.float32))


def _likeliest(logits: mx.array) -> mx.array:
    """The logprobs [rows] of the likeliest tokens."""
    logits = logits.astype(mx.float32)
    return logits.max(axis=-1) - mx.logsumexp(logits, axis=-1)


def choose(logits: Logits, draw: Draw) -> Choice:
    """One token from logits [vocabulary]."""
    adjusted = logits if draw.penalties is None else draw.penalties.applied(logits)
    if draw.allow is not None:
        adjusted = draw.allow(adjusted)
    token = _token(adjusted, draw)
    return Choice(token) if draw.sampling.logprobs is None else described(logits, token, draw.sampling.logprobs)


def described(logits: Logits, token: int, top: int) -> Choice:
    """A token of logits [vocabulary] with its logprob, and those of the `top` likeliest, likeliest first."""
    logprobs = logits.astype(np.float64) - _log_sum_exp(logits)
    best: Sequence[int] = []
    if top:
        ids = np.argpartition(logprobs, -top)[-top:]
        best = ids[np.lexsort((ids, -logprobs[ids]))].tolist()
    return Choice(token, float(logprobs[token]), tuple((id, float(logprobs[id])) for id in best))


def _log_sum_exp(logits: Logits) -> float:
    most = float(logits.max())
    return most + float(np.log(np.exp(logits - most).sum()))


def _token(logits: Logits, draw: Draw) -> int:
    sampling = draw.sampling
    if sampling.temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / np.float32(max(sampling.temperature, COLDEST)))
    if not np.isfinite(weights.sum()):
        raise ValueError("the logits are no numbers")
    key = draw.seed + (sampling.choice << 64)
    uniform = np.random.Generator(np.random.Philox(key=key, counter=draw.position)).random()
    if sampling.min_p > 0:
        weights[weights < sampling.min_p] = 0  # the likeliest weighs 1
    if sampling.top_k == 0 and sampling.top_p >= 1:
        return _inverse(np.cumsum(weights, dtype=np.float64), uniform)
    ids, mass = _nucleus(weights, sampling.top_k, sampling.top_p)
    return int(ids[_inverse(mass, uniform)])


def _nucleus(
    weights: npt.NDArray[np.float32], top_k: int, top_p: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Of the `top_k` (0: all) likeliest ids those that hold `top_p` of their mass, likeliest first; cumulated weights.

    A full sort of 150,000 costs a multiple of the step: a few candidates are sorted, more if they don't hold enough.
    """
    total = weights.sum(dtype=np.float64)
    size = min(top_k or FIRST_CANDIDATES, len(weights))
    while True:
        ids = np.argpartition(weights, -size)[-size:]
        ids = ids[np.lexsort((ids, -weights[ids]))]
        mass = np.cumsum(weights[ids], dtype=np.float64)
        all_candidates = top_k > 0 or size == len(weights)
        wanted = top_p * (mass[-1] if all_candidates else total)
        if mass[-1] >= wanted:
            count = min(int(np.searchsorted(mass, wanted)) + 1, size)
            return ids[:count], mass[:count]
        size = min(size * WIDEN, len(weights))


def _inverse(mass: npt.NDArray[np.float64], uniform: float) -> int:
    return min(int(np.searchsorted(mass, uniform * mass[-1], side="right")), len(mass) - 1)
