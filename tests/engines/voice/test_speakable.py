import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import InvalidRequest
from engines.voice.speakable import is_spoken, speakable

SPOKEN = {
    "Good morning.": "Good morning.",
    "\ufeff你好\u200b，\x00世界": "你好， 世界",
    "<speak>Hello <b>there</b></speak>": "Hello there",
    'Wait.<break time="1s"/>Go on.': "Wait.\nGo on.",
    "[pause:1s] hi": "hi",
    "one[pause]two": "one\ntwo",
    "# Title\n\n**bold**, *soft* and `code`": "Title\nbold, soft and code",
    "- first\n* second\n1. third": "first\nsecond\n1. third",
    "> quoted\n---\n```python\nx = 1\n```": "quoted\nx = 1",
    "see [our page](https://example.com/a_(b) and ![a cat](cat.png)": "see our page and a cat",
    "| name | age |\n|---|---|\n| Ann | 7 |": "name, age\nAnn, 7",
    "5 * 3 * 2 = 30, snake_case_name, C#, a < b > c": "5 * 3 * 2 = 30, snake_case_name, C#, a < b > c",
    "family 👨‍👩‍👧 and ❤️ love → joy ☕": "family and love joy",
    "25 °C, № 5, ① 3㎡ 5€ +7 ½": "25 °C, № 5, ① 3㎡ 5€ +7 ½",
    "שלום \u202eעולם\u202c. مرحبا": "שלום עולם. مرحبا",
    "न\u200dम": "न\u200dम",
    "a\r\nb\rc\u2028d\te": "a\nb\nc\nd e",
    "\ud800half": "half",
    "a line of a letter that was wrapped by hand,\nand goes on here.": (
        "a line of a letter that was wrapped by hand, and goes on here."
    ),
    "apples\npears": "apples\npears",
    "e\u0301te\u0301": "\u00e9t\u00e9",
}
UNSPOKEN = [
    "",
    " ",
    "\n\t ",
    "。。。",
    "…",
    "!?",
    "😀🎉👍🏽",
    "<speak></speak>",
    "\x00",
    "\u200b\ufeff",
    "[pause:1s]",
    "---",
    "\ud800",
    "**",
]


@pytest.mark.parametrize(("text", "expected"), SPOKEN.items(), ids=map(ascii, SPOKEN))
def test_words_stay_and_marks_for_screens_and_machines_go(text: str, expected: str) -> None:
    assert speakable(text) == expected


@pytest.mark.parametrize("text", UNSPOKEN, ids=ascii)
def test_text_without_anything_to_speak_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="nothing to speak") as caught:
        speakable(text)
    assert caught.value.param == "input"


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_any_text_is_spoken_or_refused_and_what_is_spoken_can_be_written_and_stays_as_it_is(text: str) -> None:
    try:
        spoken = speakable(text)
    except InvalidRequest:
        return
    assert is_spoken(spoken)
    assert spoken.encode() and spoken == spoken.strip()
    assert all(char == "\n" or char.isprintable() or char in "\u200c\u200d" for char in spoken)


@given(st.lists(st.sampled_from(["word", "你好", "3.5", "été", "слово"]), min_size=1, max_size=12), st.data())
def test_no_word_is_lost_among_marks(words: list[str], data: st.DataObject) -> None:
    marks = st.sampled_from(
        ["\n", " **", "** ", " `", "\n# ", "\n- ", " 😀 ", " <b>", "</b> ", "\u200b ", " | ", "\n> "]
    )
    text = "".join(word + data.draw(marks) for word in words)
    spoken = speakable(text)
    assert [word for word in spoken.replace("\n", " ").replace(",", " ").split() if is_spoken(word)] == words


def test_a_megabyte_of_nonsense_takes_no_time() -> None:
    for part in ("<a", "[a](", "**a", "*a *", "| ", "<!-- ", "![", "a@", "- "):
        assert is_spoken(speakable(part * (100_000 // len(part)) + " the end"))
