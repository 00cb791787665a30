"""Chinese text in one script, by OpenCC's dictionaries and a few rules for what they get wrong in speech.

Characters are converted one for one, so times and lengths stay valid. Words stay those that were spoken, also where
regions use others. Traditional is as written in Taiwan and Hong Kong alike (為, 麵, 群), and either's forms are left
where they stand (裏 or 裡, 着 or 著, 台 or 臺); text that is traditional already is not touched.
"""

import asyncio
import re
import threading
from collections.abc import Sequence
from typing import Protocol

import msgspec

from engines.types.audio import Script, Segment, Word

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3041-\u30ff]")
_CHINESE = ("zh", "yue")
_OTHERS_WITH_HAN = ("ja", "ko")

# Forms that OpenCC takes for another region's, and that are right in either.
_EITHER = frozenset("爲牀痹癡皁祕竈糉繮纔羣梁棱樑檐污泄僞啓喫嫺嬀峯幺脣衆裏覈踊鉢鍼鮎齶着睾潙潨蔘蔿麪")
# Simplified forms that are also traditional characters of their own, as 后 in 皇后: they don't decide the script.
_AMBIGUOUS = _EITHER | frozenset(
    "熏淀郁适雇采里辟荐胜苹虫跖腊腌范蚝蝎蜡膻准几凶厂厘划占台叶吁后帘岩岳党夸咨咸尸干广征确种筑挂涂涌杠杰极游据斗愿朴棱"
    "柜万丑丰伙于云亘仆价余佣㐹恒虱霉揾晒吓"
)
# Words of their own in Cantonese (食晒, 睇吓, 郁手, 仆街): converted only where they mean what they mean in Mandarin.
_MANDARIN = {
    "晒": re.compile(r"(?<=[日暴曝晾防翻])晒|晒(?=[太衣衫被干乾黑伤傷谷穀图圖台月照])"),
    "吓": re.compile(r"(?<=[惊驚恐哄威])吓|吓(?=[死坏壞到唬倒跑退得了]|人[的一]|一跳|出)"),
    "郁": re.compile(r"(?<=[忧憂抑沉沈阴陰葱蔥蓊气氣肝躁悲])郁|郁(?=[闷悶结結积積症])"),
    "仆": re.compile(r"仆(?!街|倒)"),
}
# 系 is 係, "to be", in Cantonese that is written simplified; and elsewhere 系, "system".
_TO_BE = re.compile(r"(?<=[唔佢哋咁就都即但定仲净])系(?![统統列数數])|系(?=[咪唔喺佢啲嗰咁嘅])")
_TO_BE_IN_CANTONESE = re.compile(r"(?<![体體学學派星水语語直谱譜干院母父科山根色])系(?![统統列数數])")


class _Dictionary(Protocol):
    def convert(self, text: str) -> str: ...


class Converter:
    """Converts to a script; reads its dictionaries once, when they are first needed. Safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dictionaries: tuple[_Dictionary, _Dictionary] | None = None

    async def segments(self, segments: Sequence[Segment], script: Script, language: str = "") -> tuple[Segment, ...]:
        """`text` for each segment and its words, in a thread, so that the event loop never waits for it."""
        if script == "as-is":
            return tuple(segments)
        return await asyncio.to_thread(self._segments, segments, script, language)

    def text(self, text: str, script: Script, language: str = "") -> str:
        """`text` in one script, as long as before; converting twice is converting once.

        Only Chinese is converted: not a text in Japanese or Korean, by its language (a code, "" for unknown) or kana.
        """
        if script == "as-is" or not _HAN.search(text) or not _is_chinese(text, language):
            return text
        to_traditional, to_simplified = self._load()
        for _ in range(4):  # a few characters take two rounds (苎, 苧, 薴)
            if script == "traditional":
                converted = _traditional(text, language, to_traditional, to_simplified)
            else:
                converted = _simplified(text, to_simplified)
            if converted == text:
                break
            text = converted
        return text

    def _segments(self, segments: Sequence[Segment], script: Script, language: str) -> tuple[Segment, ...]:
        return tuple(self._segment(segment, script, language) for segment in segments)

    def _segment(self, segment: Segment, script: Script, language: str) -> Segment:
        text = self.text(segment.text, script, language)
        return msgspec.structs.replace(segment, text=text, words=self._words(segment.words, script, language))

    def _words(self, words: Sequence[Word], script: Script, language: str) -> tuple[Word, ...]:
        """Converts the joined words, as a form depends on its neighbours, and splits them again by length."""
        whole = self.text("".join(word.text for word in words), script, language)
        converted, at = [], 0
        for word in words:
            end = at + len(word.text)
            converted.append(msgspec.structs.replace(word, text=whole[at:end]))
            at = end
        return tuple(converted)

    def _load(self) -> tuple[_Dictionary, _Dictionary]:
        with self._lock:
            if self._dictionaries is None:
                from opencc import OpenCC  # 28 MB that are needed only if a request names a script

                self._dictionaries = OpenCC("s2tw"), OpenCC("t2s")
            return self._dictionaries


def _is_chinese(text: str, language: str) -> bool:
    return language in _CHINESE or (language not in _OTHERS_WITH_HAN and not _KANA.search(text))


def _traditional(text: str, language: str, to_traditional: _Dictionary, to_simplified: _Dictionary) -> str:
    converted = to_traditional.convert(text)
    if len(converted) != len(text):
        return text
    if _tells_traditional(text, to_simplified) and not _tells_simplified(text, to_traditional):
        return text
    changed = list(converted)
    for at, (old, new) in enumerate(zip(text, converted, strict=True)):
        if old in _EITHER or (old == "台" and new == "臺") or old in _MANDARIN:
            changed[at] = old
    for character, mandarin in _MANDARIN.items():
        if character in text:
            for match in mandarin.finditer(text):
                changed[match.start()] = converted[match.start()]
    if "系" in text:
        for match in (_TO_BE_IN_CANTONESE if language == "yue" else _TO_BE).finditer(text):
            changed[match.start()] = "係"
    return "".join(changed)


def _simplified(text: str, to_simplified: _Dictionary) -> str:
    """Simplified text without forms that fonts lack: OpenCC's result for 嗰 or 餸 shows as an empty box."""
    converted = to_simplified.convert(text)
    if len(converted) != len(text):
        return text
    pairs = zip(text, converted, strict=True)
    return "".join(new if new < "\u3400" or "\u4e00" <= new <= "\u9fff" else old for old, new in pairs)


def _tells_traditional(text: str, to_simplified: _Dictionary) -> bool:
    return _simplified(text, to_simplified) != text


def _tells_simplified(text: str, to_traditional: _Dictionary) -> bool:
    alone = "\n".join(set(_HAN.findall(text)) - _AMBIGUOUS)
    return to_traditional.convert(alone) != alone
