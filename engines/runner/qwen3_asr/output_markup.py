"""The markup in which Qwen3-ASR answers, told apart from what was spoken, in any pieces. Pure.

An answer is `language NAME<asr_text>` and then what was said in that language; NAME is `None` where nobody speaks.
Where the language changes a model may write such a header again, also behind one that the prompt held already. Other
control tokens (`<|…|>`) may be spelled out.
"""

import re
from collections.abc import Iterator

import msgspec

LANGUAGE, TEXT = "language ", "<asr_text>"
LONGEST_NAME = 40  # characters; "language" with more behind it is what somebody said

# What a mark may begin with; a mark itself is none of these.
_FRAGMENT = r"(?:<(?:\|[^|<>\s]{0,40}\|?|a(?:s(?:r(?:_(?:t(?:e(?:xt?)?)?)?)?)?)?)?)"
_NAMED = rf"(?i:language )(?P<name>(?:(?!(?i:language ))[^<\n]){{0,{LONGEST_NAME}}})"
_MARK = re.compile(rf"(?:(?:{_NAMED})?{_FRAGMENT}*<asr_text>|{_FRAGMENT}*<\|[^|<>\s]{{1,40}}\|>)$")
_OPEN_WORD = "|".join(re.escape(LANGUAGE[:length]) for length in range(len(LANGUAGE) - 1, 0, -1))
_OPEN = re.compile(rf"(?:{_NAMED}{_FRAGMENT}*|(?<![A-Za-z])(?i:{_OPEN_WORD}){_FRAGMENT}*|{_FRAGMENT}+)$")
_HEADER_ALONE = re.compile(rf"{_NAMED}(?P<mark>{_FRAGMENT}*)")
_BROKEN_OFF = re.compile(rf"(?:{_NAMED})?{_FRAGMENT}*<(?:\||asr){_FRAGMENT}*[^<>\s]*$")


class Header(msgspec.Struct, frozen=True):
    """What follows is said in the language of this `name`, as the model calls it; nobody says it if that is "None".

    `name` None: a mark alone, without a language before it.
    """

    name: str | None


class MarkupParser:
    """Splits an answer into headers and text; no mark is in the text, nor becomes one where another was cut out."""

    def __init__(self) -> None:
        self._held = ""
        self._ends: list[int] = []  # where parts end in it

    def feed(self, text: str) -> Iterator[Header | str]:
        """What is known with this part. What may be the beginning of markup is held.

        Text is shown in whole parts, for a model goes on best from between two of its tokens.
        """
        *closed, rest = re.split(r"(?<=>)", text)
        for part in closed:
            self._held += part
            if not (mark := _MARK.search(self._held)):
                continue
            before, self._held, self._ends = self._held[: mark.start()], "", []
            yield before
            if mark[0].endswith(TEXT):
                yield Header(mark["name"].strip() if mark["name"] is not None else None)
        self._held += rest
        self._ends.append(len(self._held))
        opening = _OPEN.search(self._held)
        most = opening.start() if opening else len(self._held)
        place = max((end for end in self._ends if end <= most), default=0)
        self._ends = [end - place for end in self._ends if end > place]
        shown, self._held = self._held[:place], self._held[place:]
        yield shown

    def finish(self) -> tuple[str, str]:
        """What was held: text, and behind it what may be markup; that is text too, unless `header_alone` knows better.
        Marks that broke off are gone."""
        held, self._held = self._held, ""
        opening = _OPEN.search(held)
        text, rest = (held[: opening.start()], opening[0]) if opening else (held, "")
        return text, _BROKEN_OFF.sub("", rest) if _HEADER_ALONE.fullmatch(rest) is None else rest


def header_alone(text: str) -> tuple[str, bool] | None:
    """The name in a header whose mark is missing or broken off, and whether any of the mark is there."""
    match = _HEADER_ALONE.fullmatch(text)
    return (match["name"].strip(), bool(match["mark"])) if match else None
