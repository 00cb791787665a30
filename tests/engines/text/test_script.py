import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.text.script import Converter
from engines.types.audio import Script, Segment, Word

CONVERTER = Converter()
CANTONESE = "嘅咗喺啲唔冇佢嚟嗰哋嘢咁㗎啦喇噃咩乜嘥瞓攞畀嗌啱攰脷孭嬲冧掟曱甴嚿嘞嘛嗱呃吓呢唞喐睇餸劏噉啫嗮晒郁喎"
SCRIPTS: list[Script] = ["traditional", "simplified"]
# Characters that change, that are ambiguous, that take two rounds, that have rare forms; and some of other scripts.
DIFFICULT = st.text(
    st.sampled_from(
        "台臺湾灣台风風后後里裏裡面麵干乾系係系统晒曬吓嚇郁鬱仆发發髮苎苧薴幺么着著只隻嗰餸𠮶雲云污a1 の.,。\n😀ｅ"
    )
)


def traditional(text: str, language: str = "") -> str:
    return CONVERTER.text(text, "traditional", language)


def simplified(text: str, language: str = "") -> str:
    return CONVERTER.text(text, "simplified", language)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("后面的皇后头发发现面条干净", "後面的皇后頭髮發現麵條乾淨"),
        ("为什么软件里有鼠标", "為什麼軟件裡有鼠標"),
        ("台湾的人群", "台灣的人群"),
        ("佢哋喺屋企，冇嚟咗，啲嘢畀你睇", "佢哋喺屋企，冇嚟咗，啲嘢畀你睇"),
        ("唔系咁，佢系边个", "唔係咁，佢係邊個"),
        ("多谢晒，晒太阳", "多謝晒，曬太陽"),
        ("睇吓先，吓死我", "睇吓先，嚇死我"),
        ("唔好郁，忧郁", "唔好郁，憂鬱"),
        ("这个系统", "這個系統"),
    ],
)
def test_text_goes_from_one_script_to_the_other_and_back(one: str, other: str) -> None:
    assert traditional(one) == other
    assert simplified(other) == one


def test_in_cantonese_the_simplified_verb_to_be_is_told_from_systems() -> None:
    assert traditional("我系学生，呢个系统系好旧嘅", "yue") == "我係學生，呢個系統係好舊嘅"
    assert traditional("中文系的教授") == "中文系的教授"


@pytest.mark.parametrize("script", SCRIPTS)
def test_cantonese_characters_are_kept(script: Script) -> None:
    assert CONVERTER.text(CANTONESE, script, "yue") == CANTONESE


@pytest.mark.parametrize("text", ["范先生與后妃在千里之外了解余家", "裏面嘅人", "羣眾說，食着麪", "台灣着重污染"])
def test_text_that_is_traditional_already_is_left_as_it_stands(text: str) -> None:
    assert traditional(text) == text


@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_but_chinese_is_touched(script: Script) -> None:
    for text in (
        "Hello, wörld! 1,234.5",
        "https://a.example/b?c=%E5%8F%B0#d",
        "me@mail.example",
        "😀",
        "これは国際会議です",
    ):
        assert CONVERTER.text(text, script) == text
    assert CONVERTER.text("日本語 国会", script, "ja") == "日本語 国会"
    mixed = CONVERTER.text("请看 https://a.example/x 这里 OK", script)
    assert "https://a.example/x" in mixed and mixed.endswith(" OK")


def test_a_chinese_text_with_a_japanese_word_in_it_is_still_converted() -> None:
    assert traditional("鲜の每日，这个", "zh") == "鮮の每日，這個"


def test_as_is_reads_no_dictionary() -> None:
    converter = Converter()
    assert converter.text("台湾臺灣", "as-is") == "台湾臺灣"
    assert anyio.run(converter.segments, (Segment(0, 1, "台湾"),), "as-is") == (Segment(0, 1, "台湾"),)


@given(DIFFICULT | st.text(), st.sampled_from(SCRIPTS), st.sampled_from(["", "zh", "yue", "en"]))
def test_converting_twice_is_converting_once_and_keeps_the_length(text: str, script: Script, language: str) -> None:
    once = CONVERTER.text(text, script, language)
    assert len(once) == len(text)
    assert CONVERTER.text(once, script, language) == once


@given(st.text(st.characters(max_codepoint=0x2E7F)), st.sampled_from(SCRIPTS))
def test_scripts_of_others_are_untouched(text: str, script: Script) -> None:
    assert CONVERTER.text(text, script, "zh") == text


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_read_as_their_segment_and_keep_their_times(script: Script) -> None:
    text = "后面的头发发现了"
    words = tuple(Word(character, float(at), at + 0.5) for at, character in enumerate(text))
    (segment,) = anyio.run(CONVERTER.segments, (Segment(0, 8, text, words),), script, "zh")
    assert "".join(word.text for word in segment.words) == segment.text
    assert [(word.start, word.end) for word in segment.words] == [(word.start, word.end) for word in words]
