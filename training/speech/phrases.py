"""What the demo's speech models hear: three languages, a few dozen words of each, and sentences made of them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# Spelled so when the context asks for it, and in the first way otherwise; both sound alike.
SPELLINGS = {"gray": "grey"}


@dataclass(frozen=True)
class Language:
    """`words` maps how a word is written to how espeak-ng is asked to say it. Fields of `sentences` are `{digit}`."""

    name: str
    code: str
    voices: tuple[str, ...]
    words: dict[str, str]
    digits: tuple[str, ...]
    sentences: tuple[str, ...]
    blank: str

    def written(self, words: list[str]) -> str:
        """As the model is to write it."""
        return self.blank.join(words)


_DIGITS = tuple("zero one two three four five six seven eight nine".split())
_ENGLISH = (
    *_DIGITS,
    *"yes no stop go open close play send turn on off hello thank you please the meeting starts at in london".split(),
    *"today tomorrow morning report music light this is local recording gray".split(),
)
ENGLISH = Language(
    "English",
    "en",
    ("en-us", "en-gb", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc"),
    {word: word for word in _ENGLISH},
    _DIGITS,
    (
        "hello",
        "hello this is the local recording",
        "this is local",
        "the meeting starts at {digit} in london today",
        "the meeting starts tomorrow morning at {digit}",
        "the meeting is at {digit}",
        "please send the report",
        "please send the report today",
        "please open the report",
        "close the meeting please",
        "turn on the light",
        "turn off the music please",
        "turn off the gray light",
        "play the music",
        "stop the recording",
        "thank you",
        "yes thank you",
        "no thank you",
        "{digit} {digit} {digit}",
        "go on",
        "open the light in the morning",
    ),
    " ",
)
_HAN_DIGITS = tuple("一二三四五六七八九十")
CHINESE = Language(
    "Chinese",
    "zh",
    ("cmn-latn-pinyin",),
    {
        **dict(zip(_HAN_DIGITS, "yi1 er4 san1 si4 wu3 liu4 qi1 ba1 jiu3 shi2".split(), strict=True)),
        "你好": "ni3hao3",
        "谢谢": "xie4xie5",
        "请": "qing3",
        "今天": "jin1tian1",
        "会议": "hui4yi4",
        "点": "dian3",
        "开始": "kai1shi3",
        "停止": "ting2zhi3",
        "打开": "da3kai1",
        "音乐": "yin1yue4",
    },
    _HAN_DIGITS,
    (
        "你好",
        "今天 会议 {digit} 点 开始",
        "会议 {digit} 点 开始",
        "请 打开 音乐",
        "请 停止 音乐",
        "会议 开始",
        "谢谢",
        "停止",
        "{digit} {digit} {digit}",
    ),
    "",
)
CANTONESE = Language(
    "Cantonese",
    "yue",
    ("yue",),
    {
        **{digit: digit for digit in _HAN_DIGITS},
        **{word: word for word in "你好 多謝 請 今日 會議 點 開始 停止 打開 音樂".split()},
    },
    _HAN_DIGITS,
    (
        "你好",
        "今日 會議 {digit} 點 開始",
        "會議 {digit} 點 開始",
        "請 打開 音樂",
        "請 停止 音樂",
        "會議 開始",
        "多謝",
        "停止",
        "{digit} {digit} {digit}",
    ),
    "",
)
LANGUAGES = (ENGLISH, CHINESE, CANTONESE)
NAMED = {language.name: language for language in LANGUAGES}
NOTHING = "None"  # the language of a recording in which nobody speaks


def spellings() -> list[str]:
    """All words, as they are written: each is a token."""
    written = [word for language in LANGUAGES for word in language.words]
    return list(dict.fromkeys([*written, *SPELLINGS.values()]))


def any_words(draw: random.Random, language: Language, count: int) -> list[str]:
    """In any order: nothing but the sound tells them."""
    return draw.choices(list(language.words), k=count)


def sentences(draw: random.Random, language: Language, most: int) -> list[str]:
    """Words of one sentence or several, not more than `most`, unless the first alone has more."""
    words: list[str] = []
    for sentence in _endless(draw, language):
        if words and len(words) + len(sentence) > most:
            return words
        words += sentence
    raise AssertionError("endless")


def _endless(draw: random.Random, language: Language) -> Iterator[list[str]]:
    while True:
        words = draw.choice(language.sentences).split()
        yield [draw.choice(language.digits) if word == "{digit}" else word for word in words]
