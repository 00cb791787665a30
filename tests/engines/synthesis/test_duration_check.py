import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.synthesis import duration_check
from engines.synthesis.duration_check import Verdict, bounds, cap, judge, usual_seconds

# Text, and how long a person takes to read it out, roughly.
READ = {
    "The quick brown fox jumps over the lazy dog.": 2.9,
    "今天天气很好，阳光明媚，适合出去散步。": 4.1,
    "오늘은 날씨가 정말 좋아요.": 2.3,
    "今日はとても良い天気ですね。": 2.5,
    "Сегодня очень хорошая погода, пойдём гулять.": 3.2,
    "مرحبا بكم في هذا البرنامج": 2.2,
    "1850000000": 3.0,
    "12月23日": 2.0,
    "NASA and the FBI": 2.5,
    "https://example.com/news": 3.3,
    "Hi!": 0.5,
}


@pytest.mark.parametrize(("text", "seconds"), READ.items())
def test_reading_times_are_about_right_in_many_scripts(text: str, seconds: float) -> None:
    assert usual_seconds(text) == pytest.approx(seconds, rel=0.35)


CASES: list[tuple[float, bool, bool, Verdict]] = [
    (3.0, False, False, "whole"),
    (1.2, False, False, "whole"),
    (7.0, False, False, "whole"),
    (0.5, False, False, "short"),
    (0.0, False, False, "silent"),
    (9.5, False, False, "long"),
    (9.5, False, True, "whole"),
    (20.0, False, True, "long"),
    (3.0, True, False, "cut"),
    (9.5, True, True, "cut"),
]


@pytest.mark.parametrize(("seconds", "capped", "instructed", "verdict"), CASES)
def test_sound_is_judged_by_its_length(seconds: float, capped: bool, instructed: bool, verdict: Verdict) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    assert judge(text, seconds, 0.3, capped=capped, instructed=instructed) == verdict


def test_silence_of_the_right_length_is_not_speech() -> None:
    assert judge("The quick brown fox.", 1.6, 0.0001, capped=False, instructed=False) == "silent"


@given(st.text(max_size=60), st.booleans())
def test_the_cap_lies_beyond_what_passes_and_instructions_only_widen(text: str, instructed: bool) -> None:
    least, most = bounds(text, instructed)
    assert 0 <= least < most < cap(text, instructed)
    assert least <= bounds(text, False)[0] and most >= bounds(text, False)[1]
    assert least <= usual_seconds(text) <= most


@given(st.text(max_size=40), st.text(max_size=40))
def test_more_text_never_takes_less_time(first: str, second: str) -> None:
    assert usual_seconds(first + "\n" + second) >= usual_seconds(first) - duration_check.BEFORE
