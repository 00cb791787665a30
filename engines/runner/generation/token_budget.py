"""How many prompt tokens a step prefills: by measured seconds, and by what pays on the device. Pure."""

from collections.abc import Sequence

from engines.models.prefill_limits import CPU, SCORE_BYTES, PrefillLimits
from engines.runner.generation.scheduler import Waiting

SHARE = 1.5
SHORTEST_SECONDS, SHORT_SECONDS = 0.01, 0.2
LONE_SECONDS = 0.5

DECAY = 0.75
SPREAD = 0.05
LEAST_SLOPE = 0.25


class PassCost:
    """Seconds of a prefill pass, as `fixed + per_token * tokens`: a least-squares fit that forgets old passes.

    Where all recent passes had about the same size, the fit can't tell both apart: their ratio then stays what it was.
    """

    def __init__(self) -> None:
        self.fixed = 0.0
        self.per_token = 0.0
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def measured(self, tokens: int, seconds: float) -> None:
        """A pass of `tokens` took `seconds`."""
        self._weight = self._weight * DECAY + 1
        self._tokens = self._tokens * DECAY + tokens
        self._seconds = self._seconds * DECAY + seconds
        self._squares = self._squares * DECAY + tokens * tokens
        self._products = self._products * DECAY + tokens * seconds
        size, mean = self._tokens / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - size * size
        if spread >= SPREAD * size * size:
            slope = (self._products / self._weight - size * mean) / spread
            self.per_token = min(max(slope, LEAST_SLOPE * mean / size), mean / size)
            self.fixed = max(0.0, mean - self.per_token * size)
        else:
            before = self.fixed + self.per_token * size
            share = self.fixed / before if before > 0 else 0.0
            self.fixed = share * mean
            self.per_token = (1 - share) * mean / size

    def tokens_in(self, seconds: float) -> float:
        """How many tokens a pass of so many seconds has; may be negative."""
        return (seconds - self.fixed) / self.per_token if self.per_token > 0 else 0.0

    @property
    def paying(self) -> float:
        """The size at which a pass's tokens cost as much as the pass itself: a smaller one mostly waits for weights."""
        return self.fixed / self.per_token if self.per_token > 0 else 0.0


class TokenBudget:
    """Prompt tokens a step, by measured seconds, so that nobody's stream stalls while others' prompts are read.

    `lone_seconds` is what a token of a lone row takes, 0 as long as it isn't known.
    """

    def __init__(self, limits: PrefillLimits = CPU) -> None:
        self.limits = limits
        self._cost = PassCost()
        self._largest = 0.0
        self._decode_seconds = 0.0
        self.lone_seconds = 0.0

    def tokens(self, decoding: bool, waiting: Sequence[Waiting]) -> int:
        """While rows decode, prefill takes about `SHARE` times as long as their step, but never less than pays.

        Where short prompts wait, it may take `SHORT_SECONDS`: they are over at once, and their rows soon share the
        steps that would otherwise be taken for few.
        """
        if not decoding:
            tokens = self._alone()
        else:
            short = any(one.short for one in waiting)
            seconds = SHORT_SECONDS if short else max(SHARE * self._decode_seconds, SHORTEST_SECONDS)
            paying = min(self._cost.paying, self._growth)
            tokens = min(max(self._cost.tokens_in(seconds), paying), self.limits.usual)
        return self._rounded(min(tokens, self._within_scores(waiting)))

    def prefilled(self, tokens: int, seconds: float) -> None:
        """A pass of so many tokens took so long."""
        self._cost.measured(tokens, max(seconds, 1e-6))
        self._largest = max(float(tokens), self._largest * DECAY)

    def decoded(self, seconds: float) -> None:
        """A step of all running rows took so long."""
        self._decode_seconds = _mixed(self._decode_seconds, seconds)

    def decoded_alone(self, seconds: float) -> None:
        """From one token of a lone row to the next."""
        self.lone_seconds = _mixed(self.lone_seconds, seconds)

    @property
    def _growth(self) -> float:
        """A pass is at most twice as large as recent ones: what larger ones cost isn't known."""
        return 2 * self._largest

    def _alone(self) -> float:
        """Nobody waits for the step, so a pass may take half a second; the time of the first isn't known yet."""
        return max(self.limits.usual, min(self._cost.tokens_in(LONE_SECONDS), self._growth, self.limits.most))

    def _within_scores(self, waiting: Sequence[Waiting]) -> float:
        """Without fused attention a pass holds the scores of its tokens against all positions before them."""
        if not self.limits.score_bytes:
            return float(self.limits.most)
        positions = max((one.begin + min(one.remaining, self.limits.most) for one in waiting), default=1)
        return SCORE_BYTES / (self.limits.score_bytes * max(1, positions))

    def _rounded(self, tokens: float) -> int:
        return max(self.limits.smallest, int(tokens) // self.limits.multiple * self.limits.multiple)


def _mixed(known: float, new: float) -> float:
    return new if known == 0 else (known + new) / 2
