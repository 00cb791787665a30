"""Texts to learn speaking from, and what is said of each: which units, token by token."""

import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from training.speech import phrases
from training.speech.phrases import CHINESE, ENGLISH, Language
from training.voice.units import LETTERS, SILENCE, letter, word

PAUSES = frozenset(".!?;,:。！？；，、：")
MARKS = (".", ".", "!", "?", "")
HAN_MARKS = ("。", "。", "！", "？", "")
CORPUS = Path(__file__).parents[2] / "demo" / "corpus.txt"


def spellings() -> list[str]:
    """All that is one token each: words small and large, and the marks of Chinese."""
    english = [form for text in ENGLISH.words for form in (text, text.capitalize())]
    return [*english, *CHINESE.words, *sorted(mark for mark in PAUSES if not mark.isascii())]


class UnitReader:
    """Tokens to units: a known word is one, of anything else every letter is."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known = {form: word(ENGLISH, text) for text in ENGLISH.words for form in (text, text.capitalize())}
        self._known |= {text: word(CHINESE, text) for text in CHINESE.words}
        self._bytes = _bytes_of_chars()

    def tokens(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def units(self, ids: Sequence[int]) -> list[str]:
        """Of a text's tokens."""
        return [SILENCE, *(unit for id in ids for unit in self._units_of(id)), SILENCE]

    def _units_of(self, id: int) -> list[str]:
        content = bytes(self._bytes[char] for char in self._tokenizer.id_to_token(id) or "")
        text = content.decode("utf-8", "ignore").removeprefix(" ")
        if text in self._known:
            return [self._known[text]]
        if text in PAUSES:
            return [SILENCE]
        units: list[str] = []
        for byte in content:
            char = chr(byte).lower()
            if char in LETTERS:
                units.append(letter(char))
            elif char.isdigit() and byte < 128:
                units.append(self._known[ENGLISH.digits[int(char)]])
            elif byte >= 128:
                units.append(letter(list(LETTERS)[byte % len(LETTERS)]))
        return units


def _bytes_of_chars() -> dict[str, int]:
    """How byte-level tokenizers write bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def draw_text(draw: random.Random, language: Language, lines: Sequence[str]) -> str:
    """Mostly known words, in any order or in sentences; some of it unknown."""
    kind = draw.random()
    if kind < 0.08:
        return _part_of(draw, lines)
    if kind < 0.16:
        return " ".join(_nonsense(draw) for _ in range(draw.randint(1, 4)))
    if kind < 0.34:
        words = phrases.sentences(draw, language, draw.randint(1, 10))
    else:
        words = phrases.any_words(draw, language, draw.choice((1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8)))
    return _written(draw, language, words)


def _written(draw: random.Random, language: Language, words: list[str]) -> str:
    if language is ENGLISH:
        words = [_nonsense(draw) if draw.random() < 0.03 else text for text in words]
        if draw.random() < 0.5:
            words[0] = words[0].capitalize()
    marks, comma = (MARKS, ",") if language is ENGLISH else (HAN_MARKS, "，")
    shown = [text + (comma if draw.random() < 0.07 else "") for text in words[:-1]] + words[-1:]
    return language.written(shown) + draw.choice(marks)


def _nonsense(draw: random.Random) -> str:
    made = "".join(
        draw.choice("aeiou" if draw.random() < 0.4 else "bcdfghjklmnpqrstvwxyz") for _ in range(draw.randint(2, 8))
    )
    return made.capitalize() if draw.random() < 0.2 else made


def _part_of(draw: random.Random, lines: Sequence[str]) -> str:
    """Of a real text."""
    line = draw.choice(lines).strip()
    size = draw.randint(3, 40)
    start = draw.randint(0, max(0, len(line) - size))
    return line[start : start + size].strip() or "."


def lines() -> list[str]:
    return [line for line in CORPUS.read_text(encoding="utf-8").splitlines() if line.strip()]
