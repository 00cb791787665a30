"""Which tags in a text are markup, and which only look like it: `List<String>`, `cp <source> <target>`. Pure.

A tag with an end tag is markup, whatever its name. One without is markup only where HTML or SSML allow it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_SHAPE = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z][\w:.-]*)(?P<rest>.*)>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*-->|<!DOCTYPE\b.*>|<\?xml\b.*\?>", re.DOTALL | re.IGNORECASE)

ENDS_LINE = frozenset("br p div li ul ol tr table hr break h1 h2 h3 h4 h5 h6".split())
# Removed without a blank, also between letters: H<sub>2</sub>O.
_WITHIN_WORDS = frozenset(
    "a abbr b big bdi bdo cite code del dfn em font i ins kbd mark q s samp small span strike strong sub sup tt u var "
    "wbr emphasis phoneme prosody say-as w lang".split()
)
_ALWAYS = frozenset("br hr wbr".split())
# HTML needs no end tag for `_OPENS_LINE` at the beginning of a line; people leave it out of `_OPENS_WORD` (<b>so).
_OPENS_WORD = frozenset("b i u s em strong".split())
_OPENS_LINE = frozenset("p li dt dd tr td th option speak".split())
_KNOWN = frozenset(
    "address article aside audio blockquote body button caption center col colgroup dd details div dl dt embed "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header html iframe img input label legend li link "
    "main map meta nav noscript object ol optgroup option output p param picture pre progress rp rt ruby script "
    "section select source style summary svg table tbody td template textarea tfoot th thead time title tr track "
    "ul video break desc lexicon media p par s seq speak voice".split()
) | (_WITHIN_WORDS | _ALWAYS)
_PREFIXED = re.compile(r"(?:mstts|amazon|ssml|apple):", re.IGNORECASE)


class Tag(NamedTuple):
    """A tag as it is written, and the characters before and after it; "" at either end of the line."""

    source: str
    before: str
    behind: str


def marks_of(tags: Sequence[Tag]) -> list[str | None]:
    """The replacement of each tag, in order: "", a blank or a line break; None for a tag that is text."""
    found = [_SHAPE.fullmatch(tag.source) for tag in tags]
    paired = _paired(found)
    marks: list[str | None] = []
    for place, (match, tag) in enumerate(zip(found, tags, strict=True)):
        if match is None:
            marks.append("" if _COMMENT.fullmatch(tag.source) else None)
        elif place in paired or _means_it(match, tag):
            name = match["name"].casefold()
            marks.append("\n" if name in ENDS_LINE else "" if name in _WITHIN_WORDS else " ")
        else:
            marks.append(None)
    return marks


def _paired(found: Sequence[re.Match[str] | None]) -> set[int]:
    """The indices of start tags that have an end tag, and of these: an end tag closes the nearest one before it."""
    paired: set[int] = set()
    opened: dict[str, list[int]] = {}
    for place, match in enumerate(found):
        if match is None or match["rest"].endswith("/"):
            continue
        if not match["end"]:
            opened.setdefault(match["name"].casefold(), []).append(place)
        elif begun := opened.get(match["name"].casefold()):
            paired |= {begun.pop(), place}
    return paired


def _means_it(match: re.Match[str], tag: Tag) -> bool:
    """Whether a tag without its other end is one of HTML or SSML, which are written in small letters or in capitals."""
    written, rest = match["name"], match["rest"]
    name = written.casefold()
    if _PREFIXED.match(name):
        return True
    if name not in _KNOWN or not (written.islower() or written.isupper()):
        return False
    if match["end"] or name in _ALWAYS or "=" in rest or rest.endswith("/"):
        return True
    if name in _OPENS_WORD:
        return not tag.before.isalnum() and tag.behind != " "
    return not tag.before and name in _OPENS_LINE
