"""Any text → the part of it that can be spoken. Pure.

Markup is removed, words never: HTML and SSML tags, Markdown's signs (`markdown`), emoji,
characters that can't be seen. How a number or a name is read is left to the model. Every pattern
has bounded lookahead, so the time is linear in the length of the text.
"""

import re
import unicodedata

from engines.types.errors import InvalidRequest

LONGEST_TEXT = 100_000  # characters in one request

_PAUSE = re.compile(r"\[pause(?::[^\]\n]{0,20})?\](?!\()", re.IGNORECASE)
_BLANKS = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[\n ]*")

# Arrows, boxes, dingbats and pictures; letter-like signs (№, ℃), units in one character (㎡) and mathematics stay.
_PICTURES = ((0x2190, 0x21FF), (0x2300, 0x23FF), (0x2400, 0x2BFF), (0x1F000, 0x1FAFF), (0xE0000, 0xE007F))
_NUMBERED = (0x2460, 0x24FF)  # ①
_JOINERS = "\u200c\u200d"  # some scripts are written with them; between pictures they go with them
_LOOSE = re.compile(rf"(?<!\w)[{_JOINERS}]+|[{_JOINERS}]+(?!\w)")
_LINE_ENDS = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")


def speakable(text: str) -> str:
    """One line a paragraph, single blanks. Raises `InvalidRequest` when nothing remains that can be spoken."""
    from engines.text import markdown  # the import takes 0.14 s, and most servers never need it

    clean = markdown.read(_PAUSE.sub("\n", _visible(_LINE_ENDS.sub("\n", text))), _visible)
    clean = _LINES.sub("\n", _BLANKS.sub(" ", clean)).strip()
    if not is_spoken(clean):
        message = "There is nothing to speak: the text must have a letter or a digit of some script."
        raise InvalidRequest(message, param="input")
    return clean


def is_spoken(text: str) -> bool:
    """Whether the text has a letter or digit that a voice would say."""
    return any(char.isalnum() for char in text)


def _visible(text: str) -> str:
    return _LOOSE.sub("", "".join(map(_shown, unicodedata.normalize("NFC", text))))


def _shown(char: str) -> str:
    """The character, or a blank or nothing for one that is neither visible nor spoken."""
    if char == "\n" or char.isascii() and char.isprintable():
        return char
    kind, code = unicodedata.category(char), ord(char)
    if kind == "Cf":
        return char if char in _JOINERS else ""
    if kind in ("Cc", "Cs", "Co", "Cn") or kind[0] == "Z":
        return " "
    if kind == "Mn" and 0xFE00 <= code <= 0xFE0F:  # how a picture is to be drawn
        return ""
    if _NUMBERED[0] <= code <= _NUMBERED[1]:
        return char
    return " " if kind in ("So", "Sm", "Sk", "Me") and any(first <= code <= last for first, last in _PICTURES) else char
