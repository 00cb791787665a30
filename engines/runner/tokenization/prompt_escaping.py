"""Users' text never becomes control tokens: their strings are broken in it, and it is encoded apart at each break."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence


def any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    """What finds each of these strings, the longest first."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) if tokens else r"(?!)")


def breaker(control: re.Pattern[str], sentinel: str) -> Callable[[str], str]:
    """What puts `sentinel` behind the first character of all that `control` finds in a text."""
    return lambda text: control.sub(lambda match: match[0][0] + sentinel + match[0][1:], text)


def unused_characters(texts: Iterable[str]) -> Iterator[str]:
    """Characters of the private use area that stand in none of these texts."""
    used: set[str] = set()
    for text in texts:
        for start in range(0, len(text), 1 << 16):  # others run in between
            used.update(text[start : start + (1 << 16)])
    return (chr(code) for code in range(0xE000, 0xF900) if chr(code) not in used)
