"""How many prompt tokens a step prefills: by measured seconds, and by what pays on the device. Pure."""

from collections.abc import Sequence

from engines.models.prefill_limits import CPU, SCORE_BYTES, PrefillLimits
from engines.runner.generation.scheduler import Waiting

SHARE, MOST_SHARE = 1.5, 2.0
SHORTEST_SECONDS, SHORT_SECONDS = 0.01, 0.2
LONE_SECONDS = 0.5

DECAY = 0.75
NEAR = 256  # positions before a pass that don't yet make it dearer than a decode step
OUTLIER = 2.0  # times what was known before: no more of a measurement counts


class PassCost:
    """Seconds of a prefill pass, as `per_token * (paying + tokens)`.

    `paying` is the size at which a pass computes for as long as it reads the weights; smaller passes mostly read. It
    comes from a line through decode steps and passes at the beginning of prompts: further on both of its terms grow
    with the positions before the pass, and the ratio stays.
    """

    def __init__(self) -> None:
        self.decode_seconds = 0.0
        self.paying = 0.0
        self.per_token = 0.0
        self._rows = 1

    def decoded(self, seconds: float, rows: int) -> None:
        """A decode step of `rows` took `seconds`."""
        self.decode_seconds = _mixed(self.decode_seconds, seconds)
        self._rows = rows

    def prefilled(self, tokens: int, begin: int, seconds: float) -> None:
        """A pass of `tokens`, the first at position `begin`, took `seconds`."""
        if begin < NEAR and tokens > self._rows and self.decode_seconds:
            slope = (seconds - self.decode_seconds) / (tokens - self._rows)
            # What a pass would cost that is more than twice as large isn't known.
            fixed = min(max(0.0, self.decode_seconds - slope * self._rows), seconds * 2 / 3)
            self.paying = _mixed(self.paying, fixed * tokens / (seconds - fixed))
        self.per_token = _mixed(self.per_token, seconds / (self.paying + tokens))

    def tokens_in(self, seconds: float) -> float:
        """How many tokens a pass of `seconds` has; may be negative."""
        return seconds / self.per_token - self.paying if self.per_token else 0.0


class TokenBudget:
    """Prompt tokens a step, by measured seconds, so that no stream stalls while the prompts of others are prefilled.

    `lone_seconds`: seconds between two tokens of a lone row, 0 before they were measured.
    """

    def __init__(self, limits: PrefillLimits = CPU) -> None:
        self.limits = limits
        self._cost = PassCost()
        self._largest = 0.0
        self.lone_seconds = 0.0

    def tokens(self, decoding: bool, waiting: Sequence[Waiting]) -> int:
        """While rows decode, prefill takes `SHARE` times as long as their step, or up to `MOST_SHARE` times if less
        doesn't pay.

        Where short prompts wait, it may take `SHORT_SECONDS`: they are over at once, and their rows soon share the
        steps that would otherwise be taken for few.
        """
        if decoding:
            short = any(one.short for one in waiting)
            tokens = min(
                self._cost.tokens_in(SHORT_SECONDS) if short else self._beside(), self._growth, self.limits.usual
            )
        else:
            tokens = self._alone()
        return self._rounded(min(tokens, self._within_scores(waiting)))

    def prefilled(self, tokens: int, begin: int, seconds: float) -> None:
        """A pass of `tokens`, the first at position `begin`, took `seconds`."""
        self._cost.prefilled(tokens, begin, max(seconds, 1e-6))
        self._largest = max(float(tokens), self._largest * DECAY)

    def decoded(self, seconds: float, rows: int) -> None:
        """A decode step of all `rows` took `seconds`."""
        self._cost.decoded(seconds, rows)
        if rows == 1:
            self.lone_seconds = _mixed(self.lone_seconds, seconds)

    @property
    def _growth(self) -> float:
        """A pass is at most twice as large as recent ones: what larger ones cost isn't known."""
        return 2 * self._largest

    def _beside(self) -> float:
        step = self._cost.decode_seconds
        most = self._cost.tokens_in(max(MOST_SHARE * step, SHORTEST_SECONDS))
        return max(self._cost.tokens_in(max(SHARE * step, SHORTEST_SECONDS)), min(self._cost.paying, most))

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
    return new if known == 0 else (known + min(new, OUTLIER * known)) / 2
