import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.text.joining import MOST_NAMED, Joiner, clock, file_cut, incompleteness, join, main_language


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["Hello there.", "How are you?"], "Hello there. How are you?"),
        (["one", "two ", " three"], "one two three"),
        (["你好。", "今天"], "你好。今天"),
        (["你好", "世界"], "你好世界"),
        (["我用", "Python 写"], "我用Python 写"),
        (["It is done.", "好的"], "It is done. 好的"),
        (["好的。", "Yes"], "好的。Yes"),
        (["こんにちは", "世界"], "こんにちは世界"),
        (["안녕", "하세요"], "안녕 하세요"),
        (["so", ", he said"], "so, he said"),
        (["so", "，他说"], "so，他说"),
        (["he said", '"no"'], 'he said "no"'),
        (["", " ", "a", "", "b", "\n"], "a b"),
        ([], ""),
    ],
)
def test_texts_are_joined_with_space_where_their_script_has_it(texts: list[str], whole: str) -> None:
    assert join(texts) == whole


@given(st.lists(st.text(), max_size=8))
def test_nothing_is_lost_or_doubled_at_a_seam(texts: list[str]) -> None:
    joiner = Joiner()
    whole = "".join(joiner.add(text) for text in texts)
    assert whole == join(texts)
    assert re.sub(r"\s", "", whole) == re.sub(r"\s", "", "".join(texts))


def test_the_language_is_the_one_that_is_spoken_longest() -> None:
    assert main_language([("zh", 10), ("en", 25), ("zh", 20), ("", 100)]) == "zh"
    assert main_language([("", 10)]) == main_language([]) == ""


def test_what_is_missing_is_said_with_its_times() -> None:
    assert incompleteness([], []) == ()
    looped, cut = incompleteness([(60.0, 90.5)], [(3600.0, 3630.0)])
    assert "from 1:00 to 1:30" in looped
    assert "from 1:00:00 to 1:00:30" in cut
    assert "0:12" in file_cut(12.7)


def test_a_thousand_places_make_no_thousand_sentences() -> None:
    (sentence,) = incompleteness([(float(n), n + 1.0) for n in range(1000)], [])
    assert sentence.count("from") == MOST_NAMED
    assert f"{1000 - MOST_NAMED} times more" in sentence


def test_times_are_written_as_people_read_them() -> None:
    assert [clock(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 360_000)] == [
        "0:00", "0:59", "1:00", "59:59", "1:00:00", "100:00:00",
    ]  # fmt: skip
