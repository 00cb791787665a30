import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.synthesis.recall import joined, recall

HEARD_WHOLE = [
    ("The meeting in town is at three o'clock.", "the meeting in town is at 3 oclock"),
    ("Twenty five people came to dinner.", "25 people came to dinner"),
    ("It costs 1850000000 dollars or more.", "it costs one billion eight hundred fifty million dollars or more"),
    ("今天会议二十四点开始", "今天会议24点开始"),
    ("12月23日下雨了吗没有呢", "十二月二十三日下雨了吗没有呢"),
    ("佢哋係我嘅朋友，唔係佢嘅朋友", "他哋是我的朋友不是他的朋友"),
    ("E-mail me about the best ice cream.", "email me about the best icecream"),
    ("Über die Brücke am Fluss, ﬁnally!", "über die brücke am fluss finally"),
    ("오늘은 날씨가 좋아요", "오늘은날씨가 좋아요"),
    ("Hello. This is the local recording. 你好。", "hello this is the local recording"),
    ("请打开今天的会议记录 please 谢谢", "请打开今天的会议记录谢谢"),
    ("**Bold** words, and other signs: 5 > 3!", "bold words and other signs five is greater than three"),
]
PARTIAL = [
    ("Please open the report. The meeting is at six in London.", "please open the report"),
    ("The meeting starts at two in London today.", "the meeting today"),
    ("今天会议五点开始，请打开音乐。", "今天会议五点开始"),
    ("Hello to everyone who is here.", ""),
    ("Hello to everyone who is here.", "music"),
]


@pytest.mark.parametrize(("text", "heard"), HEARD_WHOLE)
def test_a_text_that_was_heard_whole_is_known_however_it_is_written(text: str, heard: str) -> None:
    found = recall(text, heard)
    assert found is not None and found.share == 1 and found.missing == ()


@pytest.mark.parametrize(("text", "heard"), PARTIAL)
def test_what_is_missing_is_known_by_its_words(text: str, heard: str) -> None:
    found = recall(text, heard)
    assert found is not None and found.share < 0.7 and found.missing


def test_missing_words_are_those_that_were_left_out() -> None:
    found = recall("Please open the report. The meeting is at six in London.", "please open the report in london")
    assert found is not None and set(found.missing) >= {"meeting", "six"} and "report" not in found.missing


def test_a_text_with_too_little_to_compare_tells_nothing() -> None:
    for text in ("Yes.", "Good morning to you.", "123 456 789 1011 121314 151617", "你好，谢谢，停止", "…", ""):
        assert recall(text, "something else") is None


def test_what_was_said_besides_is_counted() -> None:
    found = recall("hello to the world of words again", "hello to the world of words again " * 2)
    assert found is not None and (found.share, found.extra) == (1, 1)


WORDS = st.sampled_from("please open the report today été".split())


@given(st.lists(WORDS, min_size=10, max_size=30), st.data())
def test_the_share_is_that_of_the_words_that_were_heard(words: list[str], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    heard = [word for word, keep in zip(words, kept, strict=True) if keep]
    found = recall(" ".join(words), " ".join(heard))
    assert found is not None
    assert found.share == pytest.approx(len("".join(heard)) / len("".join(words))) and found.extra == 0
    assert bool(found.missing) <= (not all(kept))


def test_missing_words_are_shown_as_they_are_read() -> None:
    assert joined(("the", "report", "会", "议"), 80) == "the report会议"
    assert joined(("wonderful",) * 20, 40) == "wonderful wonderful wonderful wonderful…"
