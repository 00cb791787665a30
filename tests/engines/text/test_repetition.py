import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.text.repetition import collapsed, collapsed_segments, find, has_loop
from engines.types.audio import Segment, Word

HONEST = [
    "no no no no",
    "哈哈哈哈哈",
    "哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈",
    "88888888",
    "my number is 1850000000, I repeat, 1850000000, yes, 1850000000",
    " ".join(map(str, range(1, 200))),
    "一二三四五六七八九十" * 3,
    "一、二、三、一、二、三、一、二、三、一、二、三",
    "加油！" * 10,
    "We will, we will rock you. " * 4,
    "Let it go, let it go! Can't hold it back any more. " * 4,
    "谢谢。谢谢。谢谢大家。",
    "eggs, milk, bread, eggs, milk, flour, eggs, milk, sugar",
    "",
    "…………………………………………………………………………",
]


@pytest.mark.parametrize("text", HONEST)
def test_what_people_say_is_no_loop(text: str) -> None:
    assert find(text) == ()
    assert collapsed(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("好像" + "像" * 119, "好像"),
        ("我哋开始" + "谢谢大家。" * 30, "我哋开始谢谢大家"),
        ("so " + "I don't know, " * 50 + "right?", "so I don't know, right?"),
        ("Thank you. " * 40, "Thank you. "),
        ("the the " * 30 + "end", "the end"),
        ("8" * 100, "8"),
        ("ha" * 60, "ha"),
        ("and then he said that he would go home " * 6 + "and then he", "and then he said that he would go home "),
        ("一二三四五六七八九十" * 8 + "好的", "一二三四五六七八九十好的"),
        ("頭" + "係咁㗎" * 10 + "中" + "啦" * 40 + "尾", "頭係咁㗎中啦尾"),
        ("спасибо " * 30, "спасибо "),
        ("ขอบคุณ" * 20, "ขอบคุณ"),
    ],
)
def test_a_loop_is_cut_to_one_and_the_rest_is_kept(text: str, left: str) -> None:
    assert find(text)
    assert collapsed(text).rstrip(" .。,") == left.rstrip(" .。,")


def test_a_loop_says_where_it_is_and_how_often_it_repeats() -> None:
    text = "ok " + "no no yes " * 30 + "done"
    (loop,) = find(text)
    assert text[loop.start : loop.once] == "no no yes"
    assert text[loop.start : loop.end] == ("no no yes " * 30).strip()
    assert loop.times == 30


@given(
    st.lists(st.sampled_from(["a", "b", "c", "好", "the", "。", "d"]), min_size=1, max_size=20).map(" ".join),
    st.integers(25, 60),
    st.lists(st.sampled_from(["x", "y", "尾", "。"]), max_size=10).map(" ".join),
)
def test_any_phrase_repeated_often_enough_is_found_and_cut(phrase: str, times: int, after: str) -> None:
    text = " ".join(["start", *[phrase] * times, after])
    left = collapsed(text)
    assert find(left) == ()
    assert left.startswith("start") and left.endswith(after)
    if any(letter.isalnum() for letter in phrase):
        assert find(text) and len(left) < 3 * len(phrase) + len(after) + 10


@given(st.text())
def test_cutting_twice_is_cutting_once_and_only_removes(text: str) -> None:
    left = collapsed(text)
    assert collapsed(left) == left
    letters = iter(text)
    assert all(letter in letters for letter in left)


def test_a_loop_over_many_segments_leaves_the_one_in_which_it_begins() -> None:
    segments = (
        Segment(0, 1, "Before."),
        *(Segment(n, n + 1, "Thank you.") for n in range(1, 31)),
        Segment(31, 32, "After."),
    )
    assert has_loop(segments)
    assert collapsed_segments(segments) == (
        Segment(0, 1, "Before."),
        Segment(1, 2, "Thank you.", looped=True),
        Segment(31, 32, "After."),
    )


def test_words_of_what_is_cut_are_gone_and_the_others_keep_their_times() -> None:
    texts = ["yes", *["no"] * 30, "end"]
    words = tuple(Word(f" {text}", float(at), at + 1.0) for at, text in enumerate(texts))
    (segment,) = collapsed_segments((Segment(0, 32, " ".join(texts), words),))
    assert segment.text == "yes no end" and segment.looped
    assert segment.words == (words[0], words[1], words[-1])


def test_segments_without_a_loop_are_left_alone() -> None:
    segments = (Segment(0, 1, "a b"), Segment(1, 2, ""), Segment(2, 3, "a b"))
    assert collapsed_segments(segments) == segments


def test_a_long_text_is_searched_at_once() -> None:
    assert find("一" * 20 + "二" * 20) == ()
    assert find(("abc " * 5 + "d ") * 3 + " ".join(map(str, range(20_000)))) == ()
