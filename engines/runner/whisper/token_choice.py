"""The next token of every row, on the device: the rules of `rules.allowed`, then the likeliest, or a draw."""

from collections.abc import Sequence

import mlx.core as mx
import msgspec
import numpy as np

from engines.runner.whisper.rules import Allowed
from engines.runner.whisper.vocabulary import ControlTokens, Vocabulary

_FORBIDDEN = -float("inf")
_GOLDEN = 0x9E3779B97F4A7C15  # spreads consecutive numbers over 64 bits


class WhisperDraw(msgspec.Struct, frozen=True):
    """How one row chooses. `seed` matters when `temperature` isn't 0; `penalised` tokens of text are less likely."""

    allowed: Allowed
    temperature: float = 0.0
    seed: int = 0
    penalised: tuple[int, ...] = ()
    penalty: float = 1.0


class WhisperChoice(msgspec.Struct, frozen=True):
    """A token and its logprob among those that were allowed; the logprob is no number if the logits aren't."""

    token: int
    logprob: float


class Chooser:
    """For one vocabulary. What it looks at is laid out as the ids of text, the end, then the times."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._marks = vocabulary.marks
        self._unspoken = mx.array([0.0 if one else _FORBIDDEN for one in vocabulary.speakable()])
        self._steps = mx.arange(vocabulary.marks.times)

    def choose(self, logits: mx.array, draws: Sequence[WhisperDraw]) -> list[WhisperChoice]:
        """One token a row of logits [rows, vocabulary].

        When the times together are likelier than any one token of text, it is a time.
        """
        logits = _penalised(logits.astype(mx.float32), draws)
        words, times = self._masked(logits, [draw.allowed for draw in draws], self._marks)
        is_time = mx.logsumexp(times, axis=-1, keepdims=True) > words.max(axis=-1, keepdims=True)
        scores = mx.concatenate([mx.where(is_time, _FORBIDDEN, words), times], axis=-1)
        places = mx.argmax(_drawn(scores, draws), axis=-1, keepdims=True)
        logprobs = mx.take_along_axis(scores, places, axis=-1) - mx.logsumexp(scores, axis=-1, keepdims=True)
        mx.eval(places, logprobs)
        chosen = zip(np.array(places[:, 0]), np.array(logprobs[:, 0]), strict=True)
        return [WhisperChoice(self._token(int(place)), float(logprob)) for place, logprob in chosen]

    def _masked(self, logits: mx.array, allowed: Sequence[Allowed], marks: ControlTokens) -> tuple[mx.array, mx.array]:
        """The logits of text and end [rows, end + 1] and of times [rows, times], those that aren't allowed -inf."""
        text = _gate([one.text for one in allowed]) + self._unspoken
        end = _gate([one.end for one in allowed])
        first = mx.array([[one.first] for one in allowed])
        last = mx.array([[one.last] for one in allowed])
        words = logits[:, : marks.end + 1] + mx.concatenate([text, end], axis=-1)
        within = (self._steps >= first) & (self._steps < last)
        times = logits[:, marks.first_time : marks.first_time + marks.times]
        return words, mx.where(within, times, _FORBIDDEN)

    def _token(self, place: int) -> int:
        marks = self._marks
        return place if place <= marks.end else marks.first_time + place - marks.end - 1


def _gate(open_rows: Sequence[bool]) -> mx.array:
    return mx.array([[0.0 if one else _FORBIDDEN] for one in open_rows])


def _penalised(logits: mx.array, draws: Sequence[WhisperDraw]) -> mx.array:
    """A positive logit is divided by the penalty, a negative one multiplied (Keskar et al., 2019)."""
    changed = logits
    for row, draw in enumerate(draws):
        if draw.penalty != 1 and draw.penalised:
            changed = mx.array(logits) if changed is logits else changed
            ids = mx.array(draw.penalised)
            chosen = logits[row, ids]
            changed[row, ids] = mx.where(chosen > 0, chosen / draw.penalty, chosen * draw.penalty)
    return changed


def _drawn(scores: mx.array, draws: Sequence[WhisperDraw]) -> mx.array:
    """Scores whose largest is a draw at the row's temperature, by Gumbel noise that only its seed decides."""
    if all(draw.temperature == 0 for draw in draws):
        return scores
    return mx.stack([_noisy(scores[row], draw) for row, draw in enumerate(draws)])


def _noisy(scores: mx.array, draw: WhisperDraw) -> mx.array:
    if draw.temperature == 0:
        return scores
    return scores / draw.temperature + mx.random.gumbel(scores.shape, key=mx.random.key(draw.seed))


def seed_of(base: int, attempt: int, position: int) -> int:
    """A draw's own seed, the same whatever else is decoded."""
    return (base + (attempt << 32) * _GOLDEN + (position + 1) * _GOLDEN) % (1 << 64)
