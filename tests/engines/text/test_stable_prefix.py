import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engines.text.repetition import collapsed, find
from engines.text.stable_prefix import StablePrefix

PHRASES = [
    "a",
    "no",
    "la la",
    "yes, sir",
    "it's",
    "it'",
    "好",
    "谢谢大家。",
    "x y",
    " ",
    "-",
    "’",
    "…",
    "8",
    "ha" * 12,
    "ไม่",
]
REPEATED = st.tuples(
    st.sampled_from(PHRASES), st.sampled_from([1, 1, 2, 3, 7, 13, 30]), st.sampled_from(["", " ", ", "])
)
TEXTS = st.lists(REPEATED.map(lambda part: part[2].join([part[0]] * part[1])), max_size=8).map("".join)


def cut(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


def told_of(parts: list[str], telling: StablePrefix | None = None) -> str:
    """All that was told; which is checked to be `told` at any time."""
    telling = telling or StablePrefix()
    told = telling.stable
    for part in parts:
        told += telling.feed(part)
        assert telling.stable == told
    return told


def once(text: str) -> str:
    for loop in reversed(find(text)):
        text = text[: loop.once] + text[loop.end :]
    return text


@given(st.one_of(TEXTS, st.text()), st.data())
@example("好" + "像" * 60, None)
def test_what_was_told_begins_the_text_and_what_is_left_of_it_without_its_loops(
    text: str, data: st.DataObject | None
) -> None:
    for parts in (cut(text, data) if data else [text], list(text)):
        told = told_of(parts)
        assert text.startswith(told)
        assert collapsed(text, len(told)).startswith(told)
        if not find(once(text)):
            assert collapsed(text).startswith(told)
            assert collapsed(text, len(told)) == collapsed(text)


@given(st.one_of(TEXTS, st.text()), st.data())
def test_a_text_that_goes_on_otherwise_keeps_what_was_told_of_it(text: str, data: st.DataObject) -> None:
    told = told_of(cut(text, data))
    other = told + data.draw(TEXTS)
    more = told_of(cut(other[len(told) :], data), StablePrefix(told))
    assert other.startswith(more) and more.startswith(told)
    assert collapsed(other, len(more)).startswith(more)
    if not find(other):
        assert told == more or told_of(list(other)).startswith(more)


def test_a_word_is_told_as_soon_as_it_has_ended() -> None:
    telling = StablePrefix()
    parts = [" So", " he", " said", ",", " it", "'", "s", " fine", ".", "好", "的", "。", "ไ", "ม่", "!", " "]
    assert [telling.feed(part) for part in parts] == [
        *["", " So", " he", " said", "", "", "", ", it's", " fine", ".好", "的", "", "", "。ไ", "ม่", ""]
    ]


def test_what_is_told_ends_where_a_part_does() -> None:
    telling = StablePrefix()
    parts = ["今天", "谢谢", "大家", "。 ", "yes ", "wo", "rd", "s, ", "and ", "on"]
    assert [telling.feed(part) for part in parts] == [
        "今天",
        "",
        "谢谢大家",
        "",
        "。 yes",
        "",
        "",
        " word",
        "s, and",
        "",
    ]


def test_space_is_told_with_what_follows_it() -> None:
    telling = StablePrefix()
    parts = [" ", "\n", "yes", " ", " ", "no", " ", "\n", "。", " "]
    assert [telling.feed(part) for part in parts] == ["", "", "", " \nyes", "", "", "  no", "", "", ""]
    assert told_of(["yes", " ", " ", "no。"]) == "yes"


@given(st.one_of(TEXTS, st.text()), st.data())
def test_what_is_told_is_whole_parts_without_the_space_behind(text: str, data: st.DataObject) -> None:
    parts = cut(text, data)
    ends = {"".join(parts[:count]).rstrip() for count in range(len(parts) + 1)}
    assert told_of(parts) in ends
    assert told_of(list(text)).startswith(told_of(parts))


def test_what_is_repeated_waits_until_it_is_known_to_be_no_loop() -> None:
    assert told_of(list("No, no, no, no, no, ")) == "No"
    assert told_of(list("No, no, no, no, no, yes, ")) == "No, no, no, no, no, yes"
    assert told_of(list("We will, we will rock ")) == "We will, we will rock"
    assert told_of(list("eggs, milk, bread, eggs, milk, ")) == "eggs, milk, bread"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("好" + "像" * 119 + "。", "好像"),
        ("我哋开始" + "谢谢大家。" * 30, "我哋开始谢谢大家"),
        ("so " + "I don't know, " * 50 + "right? Yes.", "so I don't know"),
        (" ".join([*map(str, range(40))] * 10) + " end ", " ".join(map(str, range(40)))),
        ("8" * 100 + " is a number ", ""),
        ("one two " + "8" * 40 + " ", "one two"),
    ],
)
def test_of_a_loop_and_what_follows_nothing_is_told_but_its_first_repetition(text: str, told: str) -> None:
    assert told_of(list(text)) == told
    assert collapsed(text).startswith(told)


def test_what_was_told_stays_where_cutting_a_loop_makes_another() -> None:
    text = "a b " * 5 + "a" + " b" * 40 + " a b" * 9 + "."
    assert told_of(list(text)) == "a b a b a b a b a b a b"
    assert collapsed(text) == "a b."
    assert collapsed(text, len("a b " * 6) - 1) == "a b a b a b a b a b a b."


def test_long_texts_and_long_words_are_read_once() -> None:
    telling = StablePrefix()
    words = [f" {number}" for number in range(20_000)]
    assert told_of(words, telling) == "".join(words[:-1])
    assert told_of(["x"] * 50_000) == ""
    assert told_of([*["…"] * 50_000, "a", "."]) == "…" * 50_000 + "a"
