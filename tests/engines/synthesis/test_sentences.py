import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.synthesis.duration_check import usual_seconds
from engines.synthesis.sentences import COMMA, LONGEST, PARAGRAPH, SENTENCE, TARGET, split
from engines.text.speakable import is_spoken, speakable

URL = "https://example.com/" + "path/to-some/page?query=value&more=1;x.y," * 7 + "end"


def texts(text: str, soon: bool = False) -> list[str]:
    return [piece.text for piece in split(text, soon=soon)]


def bare(text: str) -> str:
    return "".join(text.split())


WORDS = "The weather was fine, and so we went on our way without a care in the world. "
ASKED = "他说：“今天天气很好，我们一起去公园里散步，好不好？”"
ANSWERED = "她想了很久很久，然后说：“当然可以，我们马上就走吧！”于是他们出发了。"
ENDS = {
    WORDS * 3: [(WORDS * 2).strip(), WORDS.strip()],
    f"{ASKED}{ANSWERED}": [ASKED, ANSWERED],
    "One.\nTwo.": ["One.", "Two."],
    "。。。你好。。。": ["。。。你好。。。"],
    "Yes!\n…\nNo.": ["Yes! …", "No."],
    "…\nNo.": ["… No."],
}


@pytest.mark.parametrize(("text", "expected"), ENDS.items(), ids=range(len(ENDS)))
def test_pieces_end_where_sentences_and_lines_do(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


WHOLE = [
    "Dr. Smith and Mrs. Jones met J. R. R. Tolkien, e.g. in Oxford.",
    "It costs $1,234.56, or 3.14159 times 1,000,000.00 in version 2.0.1.",
    "See https://example.com/a.b?c=d;e,f. or write to a.b@example.com!",
    '"Why?" she asked. "No!" he said.',
    "12/23/2024 at 10:30, 50% of 3.5°",
]


@pytest.mark.parametrize("text", WHOLE)
def test_numbers_names_and_addresses_are_never_cut(text: str) -> None:
    long = f"{text} " * 12
    for piece in texts(long.strip()):
        for word in piece.split():
            assert word in text.split()
        assert piece.count("Dr.") <= piece.count("Smith") and not piece.endswith(("Mrs.", "J.", "R.", "e.g."))
        assert not piece.startswith(("she asked", "he said"))


def test_an_address_of_three_hundred_characters_stays_whole() -> None:
    assert len(URL) >= 300
    assert any(URL in piece for piece in texts(f"You find it at {URL} and nowhere else."))
    assert texts(URL) == [URL]


def test_two_thousand_chinese_characters_without_a_mark_are_cut_evenly() -> None:
    text = "天地玄黄宇宙洪荒日月盈昃辰宿列张" * 125
    pieces = texts(text)
    assert "".join(pieces) == text
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) - min(sizes) <= 3
    assert all(usual_seconds(piece) <= 1.2 * TARGET for piece in pieces)


def test_a_long_sentence_is_cut_at_its_commas() -> None:
    pieces = split("春天来了，花园里的花都开了，孩子们在树下唱歌，" * 10 + "大家都很高兴。")
    assert all(piece.text.endswith("，") and piece.pause == COMMA for piece in pieces[:-1])
    assert [piece.pause for piece in split("One.\nTwo two. " + "Word " * 60)][:1] == [PARAGRAPH]


def test_the_first_piece_is_short_when_sound_is_wanted_soon() -> None:
    text = "Good morning to you. " * 20
    assert usual_seconds(texts(text, soon=True)[0]) < 4.1 < usual_seconds(texts(text)[0])
    assert split(text)[0].pause == SENTENCE


ATOMS = st.sampled_from(
    [
        *"天地玄黄。！？；，、…”“(). ,;:!?'\"-\n 0123456789abcXYZé한か",
        "word ",
        "3.14",
        "https://a.b/c?d=e ",
        "1,000",
        " Dr. ",
        "…",
        "नमस्ते ",
        "สวัสดี",
    ]
)


@given(st.lists(ATOMS, max_size=400).map("".join), st.booleans())
def test_nothing_is_lost_and_no_piece_is_too_long_or_silent(text: str, soon: bool) -> None:
    if not is_spoken(text):
        return
    clean = speakable(text)
    pieces = split(clean, soon=soon)
    assert bare("".join(piece.text for piece in pieces)) == bare(clean)
    assert all(is_spoken(piece.text) for piece in pieces)
    assert all(usual_seconds(piece.text) <= 2.5 * LONGEST for piece in pieces)
    assert pieces[-1].pause == 0.0


@given(st.integers(1, 60), st.sampled_from(["字", "か", "한", "a", "7", "word ", "字，", "a, ", "ไ"]))
def test_any_length_of_anything_is_cut(size: int, unit: str) -> None:
    text = (unit * size * 20).strip()
    pieces = texts(text)
    assert bare("".join(pieces)) == bare(text)
    assert max(map(usual_seconds, pieces)) <= 40


def test_a_hundred_thousand_characters_take_little_time() -> None:
    assert len(split("字" * 50_000 + "word " * 10_000)) > 1000
