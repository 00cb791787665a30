"""How much of a text was heard, by what a listener wrote down. Pure.

Letters, digits and characters are compared, in their order: then it matters little how a listener divides words or
spells a name. Numbers are written in many ways: words for them count as digits, and digits of the text may be missing.
"""

import re
import unicodedata
from collections.abc import Sequence

import msgspec

# Letters: of a shorter text one word that a listener mistakes would be too large a share.
LEAST_COMPARED = 20
EASTERN, LETTERS_EASTERN = 0x2E80, 3  # the first code of Han, kana, Hangul; letters that take as long to say

_RUNS = re.compile(r"[^\W\d_]+|\d+")
_ONES = "zero one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = {
    **{word: str(number) for number, word in enumerate(_ONES + _TEENS)},
    **{word: str(number) for number, word in enumerate(_TENS, start=2)},
    **dict.fromkeys(("hundred", "thousand", "million", "billion"), ""),
}
_HAN_NUMBERS = dict(zip("零〇一二两兩三四五六七八九", "0012223456789", strict=True)) | dict.fromkeys(
    "十百千万萬亿億", ""
)
# Cantonese, and what listeners who were taught Mandarin write for it.
_MANDARIN = dict(zip("係嘅唔喺佢冇嚟俾畀睇啲嗰乜她它妳", "是的不在他没来给给看些那什他他你", strict=True))
_CHARACTERS = str.maketrans(_HAN_NUMBERS | _MANDARIN)


class Recall(msgspec.Struct, frozen=True):
    """`share` of the text was heard, `extra` is what was heard besides, as a share of it too; `missing` are the words
    of which more than half is missing, as they are written."""

    share: float
    extra: float
    missing: tuple[str, ...]


class _Word(msgspec.Struct, frozen=True):
    """As it is written, and its letters as they are compared. A soft one may be read as words that look otherwise."""

    written: str
    letters: str
    soft: bool

    @property
    def eastern(self) -> bool:
        """Of a script that is written without blanks, or with letters as dense."""
        return ord(self.written[0]) >= EASTERN

    @property
    def weight(self) -> int:
        return len(self.letters) * (LETTERS_EASTERN if self.eastern else 1)


def recall(text: str, heard: str) -> Recall | None:
    """None where the text has too little to compare. Chinese must be written in one script in both."""
    heard_words = _words(heard)
    words = _comparable(_words(text), heard_words)
    others = "".join(word.letters for word in heard_words)
    found = _common("".join(word.letters for word in words), others)
    if sum(word.weight for word in words if not word.soft) < LEAST_COMPARED:
        return None
    wanted, lost, missing, start = 0, 0, [], 0
    for word in words:
        size = len(word.letters)
        heard_of_it = sum(found[start : start + size])
        start += size
        wanted += heard_of_it if word.soft else size
        lost += 0 if word.soft else size - heard_of_it
        if not word.soft and 2 * heard_of_it < size:
            missing.append(word.written)
    return Recall(1 - lost / wanted, (len(others) - sum(found)) / wanted, tuple(missing))


def _comparable(words: Sequence[_Word], heard: Sequence[_Word]) -> Sequence[_Word]:
    """Of a text in two scripts the words in the one that was heard, if that is most of it: listeners may write one."""
    kinds = {word.eastern for word in heard if not word.soft}
    kept = [word for word in words if word.soft or word.eastern in kinds]
    return kept if 2 * sum(word.weight for word in kept) > sum(word.weight for word in words) else words


def _words(text: str) -> list[_Word]:
    """Runs of letters and of digits; characters of scripts without blanks are words of their own."""
    plain = unicodedata.normalize("NFKC", text)
    found: list[_Word] = []
    for run in _RUNS.findall(plain):
        if run[0].isdecimal():
            found.append(_Word(run, "".join(str(int(digit)) for digit in run), soft=True))
        elif ord(run[0]) >= EASTERN:
            found += (_Word(char, char.casefold().translate(_CHARACTERS), soft=False) for char in run)
        else:
            found.append(_Word(run, _NUMBERS.get(run.casefold(), run.casefold()), soft=False))
    return found


def _common(one: str, other: str) -> list[bool]:
    """Which letters of `one` stand in `other` too, in the same order: the most that can.

    Hyyrö's bits: in the row of a prefix of `other`, those of letters with which what is common grows are 0.
    """
    places: dict[str, int] = {}
    for place, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << place
    every = (1 << len(one)) - 1
    rows = [every]
    for letter in other:
        matched = rows[-1] & places.get(letter, 0)
        rows.append((rows[-1] + matched | rows[-1] - matched) & every)
    found, row, place = [False] * len(one), len(other), len(one) - 1
    while row and place >= 0:
        if rows[row] >> place & 1:
            place -= 1
            continue
        row -= 1
        if rows[row] >> place & 1:
            found[place] = True
            place -= 1
    return found


def joined(missing: Sequence[str], most: int) -> str:
    """Some of the missing words, as a person reads them."""
    text = ""
    for word in missing:
        blank = "" if not text or ord(word[0]) >= EASTERN else " "
        if len(text) + len(word) > most:
            return text + "…"
        text += blank + word
    return text
