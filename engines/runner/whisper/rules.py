"""What Whisper may say next, whether what it said is accepted, and what it said when. Pure; from its makers' paper."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from engines.runner.whisper.vocabulary import STEPS_PER_SECOND, ControlTokens

LATEST_START = 50  # steps: speech that begins after the first second is heard as if it began there
HEAT = 0.2
REPETITIVE = 2.4
UNLIKELY = -1.0
SILENT = 0.6


class Allowed(msgspec.Struct, frozen=True):
    """The next token: text, the end, or one of the times `first` ≤ step < `last`."""

    text: bool
    end: bool
    first: int
    last: int


def allowed(said: Sequence[int], marks: ControlTokens) -> Allowed:
    """What may follow the tokens of a window.

    It begins with a time. Times come in pairs, an end and the next beginning, but for the first, and the last before
    the end of all. They never go back, and a segment has some length.
    """
    if not said:
        return Allowed(text=False, end=False, first=0, last=LATEST_START + 1)
    latest = max((token for token in said if marks.is_time(token)), default=marks.first_time) - marks.first_time
    if not marks.is_time(said[-1]):
        return Allowed(text=True, end=True, first=latest + 1, last=marks.times)
    if len(said) == 1 or marks.is_time(said[-2]):
        return Allowed(text=True, end=True, first=0, last=0)
    return Allowed(text=False, end=True, first=latest, last=marks.times)


def temperatures(asked: float) -> tuple[float, ...]:
    """What is tried in turn until a window is accepted: hotter each time, up to 1."""
    count = max(0, int((1 - asked) / HEAT + 1e-6))
    return tuple(round(asked + step * HEAT, 6) for step in range(count + 1))


class Figures(msgspec.Struct, frozen=True):
    """How good a window's text is. `no_speech_prob` is None when the model can't tell."""

    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float | None


def judged(figures: Figures) -> Literal["accepted", "failed", "silence"]:
    """Whether a window's text stands, is to be tried again, or nobody spoke.

    What repeats itself or is unlikely has failed; but where it is unlikely and speech is too, there is silence. At the
    limits it is as in the makers' own program (`transcribe`, with its default thresholds): text as unlikely as the
    limit is tried again for repetition alone, and is dropped where speech is unlikely.
    """
    if is_silence(figures) and figures.avg_logprob < UNLIKELY:
        return "silence"
    if figures.avg_logprob < UNLIKELY or figures.compression_ratio > REPETITIVE:
        return "failed"
    return "silence" if is_silence(figures) else "accepted"


def is_silence(figures: Figures) -> bool:
    """Whether a window's text is dropped, however it came about: the last try's too."""
    return (figures.no_speech_prob or 0.0) > SILENT and not figures.avg_logprob > UNLIKELY


class Span(msgspec.Struct, frozen=True):
    """What was said between two times, in steps; `text` are its tokens, without times."""

    first: int
    last: int
    text: tuple[int, ...]


class WindowSpans(msgspec.Struct, frozen=True):
    """A window's spans; `rest` is the step at which its unfinished speech begins, None when all is told.

    `closed`: it ended with a time that says when the last of it was spoken. If it didn't, more may be spoken behind.
    """

    spans: tuple[Span, ...]
    rest: int | None
    closed: bool = False


def read(said: Sequence[int], marks: ControlTokens, steps: int, cut: bool) -> WindowSpans:
    """The spans of a window that is `steps` long; tokens as `allowed` has them, without the end; `cut` before it.

    A pair of times closes a span. What comes behind the last pair is unfinished, unless it is closed by a time that
    nothing follows. A window without a pair is one span, to its last time, or else to its end.
    """
    closings = [place for place in range(1, len(said)) if marks.is_time(said[place - 1]) and marks.is_time(said[place])]
    closed = len(said) > 1 and marks.is_time(said[-1]) and not marks.is_time(said[-2])
    if not said:
        return WindowSpans((), None)
    if not closings:
        last = said[-1] - marks.first_time if closed else steps
        return WindowSpans(_within([_span(said, marks, last)], steps), None, closed)
    borders = [0, *closings, *([len(said)] if closed else [])]
    runs = [said[begin:end] for begin, end in zip(borders, borders[1:], strict=False)]
    spans = [_span(run, marks, run[-1] - marks.first_time) for run in runs]
    rest = None if closed and not cut else min(said[borders[-1] - 1] - marks.first_time, steps)
    return WindowSpans(_within(spans, steps), rest, closed)


def _span(said: Sequence[int], marks: ControlTokens, last: int) -> Span:
    return Span(said[0] - marks.first_time, last, tuple(token for token in said if token < marks.end))


def _within(spans: Sequence[Span], steps: int) -> tuple[Span, ...]:
    """Clipped to the window; what seems to be said behind its end was said just before."""
    result: list[Span] = []
    for span in spans:
        if span.first < steps:
            result.append(Span(span.first, min(span.last, steps), span.text))
        elif result:
            before = result.pop()
            result.append(Span(before.first, steps, before.text + span.text))
        else:
            result.append(Span(0, steps, span.text))
    return tuple(result)


def seconds(steps: int) -> float:
    return steps / STEPS_PER_SECOND
