"""Whisper's rules: what may be said next, what is accepted, and what it means; for any tokens there may be."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.runner.whisper import rules
from engines.runner.whisper.figures import compression_ratio
from engines.runner.whisper.rules import Allowed, Figures, Span
from engines.runner.whisper.vocabulary import ControlTokens
from tests.promises import promise

MARKS = ControlTokens(100, 101, 102, 103, 104, 105, 106, first_time=200, times=1501)
END = MARKS.end


def time(step: int) -> int:
    return MARKS.first_time + step


def may(allowed: Allowed, token: int) -> bool:
    if token == END:
        return allowed.end
    if token < END:
        return allowed.text
    return allowed.first <= token - MARKS.first_time < allowed.last


@st.composite
def windows(draw: st.DrawFn) -> list[int]:
    """What a model could say under the rules, without the end."""
    said: list[int] = []
    for _ in range(draw(st.integers(0, 25))):
        allowed = rules.allowed(said, MARKS)
        choices = []
        if allowed.text:
            choices.append(st.integers(0, END - 1))
        if allowed.first < allowed.last:
            choices.append(st.integers(allowed.first, min(allowed.last, allowed.first + 300) - 1).map(time))
        if not choices:
            break
        said.append(draw(st.one_of(choices)))
    return said


# -- what may follow ------------------------------------------------------------------------------------------------


def test_a_window_begins_with_a_time_within_its_first_second() -> None:
    allowed = rules.allowed([], MARKS)
    assert allowed == Allowed(text=False, end=False, first=0, last=51)


def test_behind_the_first_time_comes_text_or_nothing() -> None:
    allowed = rules.allowed([time(7)], MARKS)
    assert may(allowed, 5) and may(allowed, END) and not any(may(allowed, time(step)) for step in range(1501))


def test_behind_text_anything_may_come_but_times_that_are_not_later() -> None:
    allowed = rules.allowed([time(7), 5], MARKS)
    assert may(allowed, 5) and may(allowed, END) and may(allowed, time(8)) and not may(allowed, time(7))


def test_an_end_is_followed_by_a_beginning_that_may_be_the_same_or_by_nothing() -> None:
    allowed = rules.allowed([time(7), 5, time(20)], MARKS)
    assert may(allowed, END) and may(allowed, time(20)) and not may(allowed, 5) and not may(allowed, time(19))


def test_behind_a_pair_comes_text_or_nothing() -> None:
    allowed = rules.allowed([time(7), 5, time(20), time(22)], MARKS)
    assert may(allowed, 5) and may(allowed, END) and not may(allowed, time(23))


@given(windows())
def test_times_never_go_back_and_segments_have_some_length(said: list[int]) -> None:
    times = [token for token in said if MARKS.is_time(token)]
    assert times == sorted(times)
    pairs = zip(times[::2], times[1::2], strict=False)
    assert all(begin < end for begin, end in pairs)


@given(windows())
def test_something_may_always_follow(said: list[int]) -> None:
    allowed = rules.allowed(said, MARKS)
    assert allowed.text or allowed.end or allowed.first < allowed.last


# -- accepted or not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "tried"),
    [
        (0.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0.5, (0.5, 0.7, 0.9)),
        (0.8, (0.8, 1.0)),
        (1.0, (1.0,)),
        (1.5, (1.5,)),
    ],
)
def test_what_fails_is_tried_hotter(asked: float, tried: Sequence[float]) -> None:
    assert rules.temperatures(asked) == tried


@pytest.mark.parametrize(
    ("logprob", "ratio", "no_speech", "verdict"),
    [
        (-0.3, 1.5, 0.1, "accepted"),
        (-1.0, 2.4, 0.1, "accepted"),  # at the limits
        (-1.01, 1.5, 0.1, "failed"),
        (-0.3, 2.41, 0.1, "failed"),
        (-0.3, 2.41, 0.9, "failed"),  # repetition isn't silence
        (-1.01, 1.5, 0.61, "silence"),
        (-1.01, 1.5, 0.6, "failed"),
        (-1.01, 9.9, 0.61, "silence"),
        (-0.99, 1.5, 0.99, "accepted"),  # sure of its text, though not of speech
        (-1.0, 1.5, 0.61, "silence"),  # at the limit
        (-1.0, 2.41, 0.61, "failed"),
        (-1.01, 1.5, None, "failed"),
    ],
)
def test_verdicts(logprob: float, ratio: float, no_speech: float | None, verdict: str) -> None:
    assert rules.judged(Figures(logprob, ratio, no_speech)) == verdict


def _reference(figures: Figures) -> tuple[bool, bool]:
    """Whether OpenAI's `transcribe` tries a window again, and whether it skips it: its two conditions."""
    again = figures.compression_ratio > 2.4
    again = again or figures.avg_logprob < -1.0
    if figures.no_speech_prob > 0.6 and figures.avg_logprob < -1.0:  # type: ignore[operator]
        again = False
    skipped = figures.no_speech_prob > 0.6  # type: ignore[operator]
    if figures.avg_logprob > -1.0:
        skipped = False
    return again, skipped


EDGES = [-3.0, -1.0000001, -1.0, -0.9999999, -0.1]


@promise("audio:whisper:rules")
@given(
    st.sampled_from(EDGES) | st.floats(-4, 0),
    st.sampled_from([0.0, 1.5, 2.4, 2.4000001]) | st.floats(0, 6),
    st.sampled_from([0.0, 0.6, 0.6000001, 1.0]) | st.floats(0, 1),
)
def test_windows_are_tried_again_and_skipped_as_in_the_reference(logprob: float, ratio: float, nobody: float) -> None:
    figures = Figures(logprob, ratio, nobody)
    again, skipped = _reference(figures)
    verdict = rules.judged(figures)
    assert (verdict == "failed") == again
    assert rules.is_silence(figures) == skipped
    if not again:
        assert verdict == ("silence" if skipped else "accepted")


def test_repetition_shows_in_how_far_a_text_can_be_compressed() -> None:
    assert compression_ratio("") == 0
    assert compression_ratio("Once there was a queen who had a garden.") < 1.2
    assert compression_ratio("and then " * 40) > 2.4


# -- what it means --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "spans", "rest"),
    [
        ([], [], None),
        ([time(3)], [Span(3, 500, ())], None),
        ([time(3), 5, 6], [Span(3, 500, (5, 6))], None),
        ([time(3), 5, 6, time(90)], [Span(3, 90, (5, 6))], None),
        ([time(3), 5, time(90), time(95)], [Span(3, 90, (5,))], 90),
        ([time(3), 5, time(90), time(95), 6], [Span(3, 90, (5,))], 90),
        ([time(3), 5, time(90), time(95), 6, time(99)], [Span(3, 90, (5,)), Span(95, 99, (6,))], None),
        (
            [time(3), 5, time(90), time(90), 6, time(99), time(99), 7],
            [Span(3, 90, (5,)), Span(90, 99, (6,))],
            99,
        ),
        ([time(3), 5, time(700)], [Span(3, 500, (5,))], None),
        ([time(3), 5, time(90), time(600), 6, time(700)], [Span(3, 500, (5, 6))], None),
        ([time(3), 5, time(600), time(610)], [Span(3, 500, (5,))], 500),
    ],
)
def test_spans_and_what_is_left_to_hear(said: list[int], spans: list[Span], rest: int | None) -> None:
    reading = rules.read(said, MARKS, steps=500, cut=False)
    assert (list(reading.spans), reading.rest) == (spans, rest)


def test_a_window_that_was_cut_goes_on_behind_the_last_time_it_got_to() -> None:
    said = [time(3), 5, time(90), time(95), 6, time(99)]
    assert rules.read(said, MARKS, steps=500, cut=True).rest == 99
    assert rules.read([time(3), 5, 6], MARKS, steps=500, cut=True).rest is None


def test_speech_said_to_be_behind_the_end_of_a_very_short_sound_is_in_it() -> None:
    assert rules.read([time(40), 5], MARKS, steps=20, cut=False).spans == (Span(0, 20, (5,)),)


@given(windows(), st.integers(1, 1500), st.booleans())
def test_spans_are_in_order_within_the_window_and_have_some_length(said: list[int], steps: int, cut: bool) -> None:
    reading = rules.read(said, MARKS, steps, cut)
    borders = [0, *(border for span in reading.spans for border in (span.first, span.last)), steps]
    assert borders == sorted(borders)
    assert all(span.first < span.last for span in reading.spans)
    if reading.rest is not None:
        assert reading.spans[-1].last <= reading.rest <= steps


@given(windows(), st.integers(1, 1500))
def test_no_text_is_lost_unless_it_is_heard_again(said: list[int], steps: int) -> None:
    reading = rules.read(said, MARKS, steps, cut=False)
    told = [token for span in reading.spans for token in span.text]
    text = [token for token in said if token < END]
    assert told == text[: len(told)]
    if reading.rest is None:
        assert told == text
