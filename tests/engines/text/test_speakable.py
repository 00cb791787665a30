from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from engines.text.speakable import is_spoken, speakable
from engines.types.errors import InvalidRequest
from tests.promises import promise

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
# What looks like markup, and isn't.
LOOKALIKES = [
    "A List<String> and a Map<String, List<Integer>> hold T extends Comparable<? super T>.",
    "If a < b and c > d, or a<b && c>d, then x <y> z and 5 > 3.",
    "cp <source> <target>, then log in as <your-name> in <address> at <time>.",
    "a*b*c, 2 * 3, 5*x and 6*y, x**2 + y**2, 2 ** 3, **kwargs",
    "snake_case_name, _private, file_name_2.txt and a __dunder",
    "#1, C#, F# and #hashtag, 5 > 3, ~5 to ~6, $5 and $6, 5 $",
    "/usr/local/bin/python3 and C:\\Users\\me\\file.txt",
    "array[0][1] and f(x)[i] at [12:30] by [Anna]",
    "[Anna]: Hello!",
    "[Anna]: Hello.",
    "1.",
    "10. March 2024",
    "AT&T, R&D and Q&A; a && b || c == d",
    "x == y and a==b, 100% ^ 2 | 3",
    "<- this one, that one ->, <3 and >.<",
    "a <!b> c",
    "I use a Button<Label> and <Table> and <Form/>",
    "function<p>() and vector<i> and List<b>",
]
MARKDOWN = {
    "==marked== words": "marked words",
    r"\*not emphasised\* and \_plain\_ \# 1": "*not emphasised* and _plain_ # 1",
    "see [the page][1] and [docs]\n\n[1]: https://x.org/a 'A title'\n[docs]: <https://x.org/docs>": (
        "see the page and docs"
    ),
    "It is so.[^1] Or[^note] not.\n\n[^1]: The source says it.\n[^note]: A *second* note.": (
        "It is so. Or not.\nThe source says it.\nA second note."
    ),
    "a set [^a-z] of signs": "a set [^a-z] of signs",
    "AT&amp;T &lt;String&gt; 5&nbsp;km &copy; &#65;&#x42;": "AT&T <String> 5 km © AB",
    "| name | age |\n|:---|---:|\n| Ann | 7 |\n| Bo | 8 | extra |": "name, age\nAnn, 7\nBo, 8, extra",
    "name | age\n--- | ---\nAnn | 7": "name, age\nAnn, 7",
    "- [x] done\n- [ ] to do\n- [link](x) text": "done\nto do\nlink text",
    "<https://x.org/a?b=c> and <me@x.org>": "https://x.org/a?b=c and me@x.org",
    "one <!-- unseen --> two\n<!-- more\n\nof it -->\nthree <!-- open": "one two\nthree <!-- open",
    "~~gone~~ and ***both*** and __strong__": "gone and both and strong",
    "Energy $E = mc^2$ and $x$ for $5.": "Energy E = mc^2 and x for $5.",
    "$$\n\\frac{a}{b}\n$$": "frac a b",
    "Title\n=====\nText\n\n## Next ##": "Title\nText\nNext",
    "`List<String> **kwargs a|b` and ``a `b` c``": "List<String> kwargs a|b and a b c",
    "```python\ndef f(**kw):\n    return a*b*c  # <b>\n```": "def f(**kw):\nreturn a*b*c # <b>",
    "a `quoted' word and `another' one, and a` b `c": "a quoted' word and another' one, and a b c",
    "~~~ Chapter One ~~~\nIt began.": "Chapter One ~~~\nIt began.",
    "    indented **words**": "indented words",
    "H<sub>2</sub>O and <span class='a > b'>this</span><br>that": "H2O and this\nthat",
    "<p>Hello\n<p>World</p>": "Hello\nWorld",
    "<note to='x'>Hi</note> <img src='a.png'/>there": "Hi there",
    "<?xml version='1.0'?><speak version='1.1'>Hi <mstts:express-as style='sad'>you</mstts:express-as>": "Hi you",
    "这是**重点**内容，和_强调_。": "这是重点内容，和_强调_。",
    "1. first\n2. second\n   - inner\n3.": "1. first\n2. second\ninner\n3.",
    "[![badge](b.svg)](https://x.org) text": "badge text",
    "line one  \nline two\\\nline three": "line one\nline two\nline three",
}
# Where there is nothing but a link or a picture, its words or its address.
ALONE = {
    "https://example.com/news": "https://example.com/news",
    "<https://example.com/news>": "https://example.com/news",
    "[x](y)": "x",
    "[](https://x.org)": "https://x.org",
    "[👍](https://x.org)": "https://x.org",
    "![](cat.png)": "cat.png",
    "[1]: https://x.org": "https://x.org",
    "<me@x.org>": "me@x.org",
    "`x`": "x",
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


@promise("audio:speech:words")
@pytest.mark.parametrize("text", LOOKALIKES, ids=ascii)
def test_what_looks_like_markup_and_is_none_keeps_its_words(text: str) -> None:
    assert letters(speakable(text)) == letters(text)


@promise("audio:speech:words")
@pytest.mark.parametrize(("text", "expected"), MARKDOWN.items(), ids=map(ascii, MARKDOWN))
def test_markdown_is_read_as_it_is_seen(text: str, expected: str) -> None:
    assert speakable(text) == expected


@promise("audio:speech:words")
@pytest.mark.parametrize(("text", "expected"), ALONE.items(), ids=map(ascii, ALONE))
def test_a_link_alone_is_spoken(text: str, expected: str) -> None:
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


SIGNS = st.sampled_from(
    [
        *"*_~`#>|<=-+[](){}!\\/.:;,'\"&$^%@ \t\n0",
        *"** __ ~~ ``` ~~~ *** --- == => <= <b> </b> <p> </T> <T> <br>".split(),
        *"&amp; &lt; &#42; ]( [x] ![ $$".split(),
        *[
            "- ",
            "1. ",
            "> ",
            "# ",
            "    ",
            "\n\n",
            "\n- ",
            "\n> ",
            "\n1. ",
            "|---|",
            "](/u)",
            "[a]: /u",
            "<a b='c'>",
            "<my@x.org>",
        ],
    ]
)
WORDS = st.sampled_from(["word", "Big", "你好", "世界", "3", "été", "слово", "a1"])


@promise("audio:speech:words")
@settings(max_examples=300)
@given(st.lists(SIGNS | WORDS, max_size=30))
def test_every_word_that_commonmark_shows_is_spoken_in_its_order(parts: list[str]) -> None:
    text = "".join(parts)
    wanted = letters(seen(text))
    try:
        spoken = speakable(text)
    except InvalidRequest:
        assert not wanted
        return
    left = iter(letters(spoken))
    assert all(char in left for char in wanted), (wanted, spoken)


@pytest.mark.parametrize("inner", ["- ", "> ", "1. ", "> - ", "+ 1) "])
def test_words_however_deep_in_lists_and_quotes_are_spoken(inner: str) -> None:
    for depth in (5, 50, 500):
        assert "word" in speakable(inner * depth + "word")
    ladder = "\n".join("  " * depth + f"- word{depth}" for depth in range(120))
    assert letters(speakable(ladder)) == letters(ladder)


def letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


class Seen(HTMLParser):
    """The text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(text: str) -> str:
    """What CommonMark shows of a text in which no indented line is code. Boxes of tasks are no words."""
    page = Seen()
    page.feed(MarkdownIt("commonmark").disable("code").render(text))
    page.close()
    return page.text.replace("[x]", "")


def test_nonsense_takes_no_time() -> None:
    for part in ("<a", "[a](", "**a", "*a *", "| ", "<!--\n", "![", "a@", "- ", "[\n", "$", "`a", "[^1]", "<b>"):
        assert is_spoken(speakable(part * (30_000 // len(part)) + " the end"))
