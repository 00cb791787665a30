import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.text.timing import LONGEST, apportioned, by_words, placed, weight
from engines.types.audio import Segment, Word

TEXTS = st.lists(
    st.sampled_from(
        ["好", "的", "word", "It's", " ", " ", "。", "，", ".", ",", "3.14", "！", "”", "\n", "…", "ข", "1,000"]
    ),
    max_size=120,
).map("".join)


def texts(of: str) -> list[str]:
    return [segment.text for segment in apportioned(of, 0, max(len(of) / 5, 1))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("你好。今天天气怎么样？很好！", ["你好。", "今天天气怎么样？", "很好！"]),
        ("He said “no.” Then he left. Pi is 3.14, not 3.", ["He said “no.”", "Then he left.", "Pi is 3.14, not 3."]),
        (
            "See https://a.example/b?c=1,2:3;d! Yes,really?好!好吗?!",
            ["See https://a.example/b?c=1,2:3;d!", "Yes,really?", "好!", "好吗?!"],
        ),
        ("Really?! Yes...", ["Really?!", "Yes..."]),
        ("…好。。。", ["…好。。。"]),
        ("no marks at all", ["no marks at all"]),
        ("one line\nand another", ["one line", "and another"]),
        ("", []),
        (" \n ", []),
        ("。。。", ["。。。"]),
    ],
)
def test_a_segment_is_a_sentence(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    text = "因为今天的天气非常的好，所以我们决定一起到公园里面去散步，顺便买一点水果，回来以后还要做饭。"
    assert texts(text) == [
        "因为今天的天气非常的好，所以我们决定一起到公园里面去散步，",
        "顺便买一点水果，回来以后还要做饭。",
    ]


def test_in_slow_speech_segments_hold_less() -> None:
    text = "因为今天的天气非常的好，所以我们决定一起到公园里面去散步，"
    assert [segment.text for segment in apportioned(text, 0, 11)] == [text[:12], text[12:]]


def test_without_marks_text_is_cut_by_length_and_never_within_a_word() -> None:
    words = " ".join(f"word{number}" for number in range(300))
    assert " ".join(texts(words)) == words
    assert len(texts("字" * 100)) == 4
    assert texts("a" * 500) == ["a" * 500]


def test_time_goes_by_what_is_said_and_not_by_letters() -> None:
    first, second = apportioned("你好你好。Nihao nihao.", 100, 110)
    assert (first.start, second.end) == (100, 110)
    assert first.end == pytest.approx(105, abs=0.5)
    assert first.approximate and second.approximate


@given(TEXTS, st.floats(0, 36_000), st.floats(0, 120))
def test_segments_fill_the_time_in_order_and_lose_no_text(text: str, start: float, seconds: float) -> None:
    end = start + seconds
    segments = apportioned(text, start, end)
    assert re.sub(r"\s", "", "".join(segment.text for segment in segments)) == re.sub(r"\s", "", text)
    assert bool(segments) == bool(text.strip())
    if segments:
        assert segments[0].start == start and segments[-1].end == end
    for one, next_one in itertools.pairwise(segments):
        assert one.start <= one.end == next_one.start
    for segment in segments:
        assert segment.text == segment.text.strip() != ""
        assert weight(segment.text) <= 2 * LONGEST or not re.search(r"\s", segment.text)


def test_what_a_model_told_becomes_time_of_the_recording() -> None:
    segments = (
        Segment(0.5, 2.0, " Hello", (Word(" Hello", 0.5, 2.0, 0.9),)),
        Segment(2.0, 3.0, " "),
        Segment(2, 4, "you"),
    )
    assert placed(segments, 7200.0, 7230.0) == (
        Segment(7200.5, 7202.0, "Hello", (Word(" Hello", 7200.5, 7202.0, 0.9),)),
        Segment(7202.0, 7204.0, "you"),
    )


TIMES = st.floats(-10, 100)
WORDS = st.lists(st.builds(Word, st.just("w"), TIMES, TIMES), max_size=4).map(tuple)


@given(st.lists(st.builds(Segment, TIMES, TIMES, st.just("text"), WORDS), max_size=8), st.floats(0, 36_000))
def test_times_never_go_backwards_overlap_or_leave_the_piece(segments: list[Segment], start: float) -> None:
    result = placed(segments, start, start + 30)
    for spans in ([(one.start, one.end) for one in result], *([(w.start, w.end) for w in one.words] for one in result)):
        flat = [time for span in spans for time in span]
        assert flat == sorted(flat)
        assert all(start <= time <= start + 30 for time in flat)
    for one in result:
        assert all(one.start <= word.start and word.end <= one.end for word in one.words)


def spoken(*texts: str) -> list[Word]:
    return [Word(text, number, number + 0.5) for number, text in enumerate(texts)]


def test_words_give_each_sentence_its_times() -> None:
    first, second = by_words("Good morning, all! How are you?", spoken("Good", "morning", "all", "How", "are", "you"))
    assert (first.text, first.start, first.end) == ("Good morning, all!", 0, 2.5)
    assert (second.text, second.start, second.end) == ("How are you?", 3, 5.5)
    assert [word.text for word in second.words] == ["How", "are", "you"]


def test_characters_are_words_where_there_are_no_spaces() -> None:
    found = by_words("早晨。你好嗎？", spoken(*"早晨你好嗎"))
    assert [(one.text, one.start, one.end) for one in found] == [("早晨。", 0, 1.5), ("你好嗎？", 2, 4.5)]


@given(TEXTS, st.lists(st.sampled_from(["好", "word", "It's", "3.14"]), max_size=30))
def test_whatever_the_words_are_none_is_lost_and_times_do_not_go_back(text: str, words: list[str]) -> None:
    found = by_words(text, spoken(*words))
    if found:
        assert [word.text for segment in found for word in segment.words] == words
    times = [time for segment in found for time in (segment.start, segment.end)]
    assert times == sorted(times)
