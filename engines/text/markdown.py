"""Markdown as the text that a reader sees, in lines. Follows CommonMark, except where its rules would remove words.

`a*b*c` is no emphasis and `List<String>` no tag; lines that begin with blanks are no code; a definition is one only if
an address is defined. Strikethrough, highlights, tables, tasks, footnotes and formulas are read too.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock, paragraph, reference
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline, backtick
from markdown_it.token import Token

from engines.text import tags

DEEPEST = 6  # quotes and lists in one another on a line
WIDEST = 40  # blanks at the beginning of a line
NESTING, NESTING_OF_SIGNS = 200, 8  # what is deeper would be lost of blocks, and is text of signs

_DEEP = re.compile(rf"^(?:[ \t]*(?:>|(?:[-+*]|\d{{1,9}}[.)])[ \t])){{{DEEPEST}}}[ \t]*\d*(?=[-+*>.)])", re.MULTILINE)
_WIDE = re.compile(rf"^[ \t]{{{WIDEST},}}", re.MULTILINE)
_ADDRESS = re.compile(r"\[[^\]]{1,999}\]:\s*<?(?:[a-z][a-z0-9+.-]*:|[/#.]|\S{1,200}?[./]\w)", re.IGNORECASE)
_FOOTNOTE = re.compile(r"\[\^([^\]\s]{1,60})\](:?)[ \t]*")
# A formula has no blank inside its dollars, no digit after them, and a sign that doesn't occur in prices.
_FORMULA = re.compile(r"\$\$([^$]{1,2000})\$\$|\$(?=\S)([^$\n]{0,300}[\\^_={][^$\n]{0,300}|[A-Za-z])(?<=\S)\$(?!\d)")
_COMMAND = re.compile(r"\\(?=[A-Za-z])|\\[,;:! ]|[{}]")
_PREFIXED_TAG = re.compile(r"</?(?:mstts|amazon|ssml|apple):[a-z][\w.-]{0,40}(?:\s[^<>]{0,300})?/?>", re.IGNORECASE)
_BACKTICKS = re.compile("`+")
_TASK = re.compile(r"\[[ xX]\][ \t]+")
_WRAPPED = re.compile(r"(?<=[^\W\d_]|,)(?<=.{40})\n(?=[^\W\d_])")  # in mid-sentence, if it goes on in small letters
_HIGHLIGHT = re.compile(r"(?<!\w)==(?=\S)([^=\n]{1,300}?)(?<=\S)==(?!\w)")
_LEFT_OVER = re.compile(r"(?<!\w)[*~]{2,}(?=\S)|(?<=\S)[*~]{2,}(?!\w)|`")
_LINK = re.compile(
    r"!?\[([^\[\]\n]{1,300})\]\((?:[a-z]{2,20}:|[/#.])[^)\s]{0,500}\)", re.IGNORECASE
)  # its brackets don't match
_RULER = re.compile(r"^[ \t]*\|?[ \t]*:?-{2,}[-:| \t]*$", re.MULTILINE)
_CELLS = re.compile(r"(?<=\S)[ \t]+\|[ \t]+(?=\S)")
_BREAKS = ("softbreak", "hardbreak")
# Literal signs are replaced with these private characters until all markup is removed.
_SIGNS = "*~=|`-["
_KEPT = {ord(sign): 0xE000 + place for place, sign in enumerate(_SIGNS)}
_BACK = {kept: sign for sign, kept in _KEPT.items()}


def read(text: str, shown: Callable[[str], str]) -> str:
    """The visible text, in lines. `text` has no private-use characters; `shown` maps a character reference (`&amp;`)
    to its visible text.

    If nothing is visible, the addresses of the links and pictures.
    """
    env: dict[str, object] = {}
    source = _WIDE.sub(" " * WIDEST, _DEEP.sub(r"\g<0>\\", text))
    tokens = _parser().parse(source, env)
    reading = _MarkdownReading(source, tokens, shown)
    lines = reading.lines()
    if any(char.isalnum() for char in lines):
        return lines
    return "\n".join(dict.fromkeys([*reading.addresses, *_addresses(env)]))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": NESTING}).enable("strikethrough")
    parser.disable(["code", "html_block", "text_join"])
    stops: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    parser.block.ruler.before("reference", "comment", _comment, stops)
    parser.block.ruler.before("reference", "footnote", _footnote, stops)
    parser.block.ruler.at("reference", _definition)
    parser.core.ruler.after("block", "shallow", _shallow)
    parser.inline.ruler.at("backticks", _code)
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.inline.ruler.before("link", "footnote_mark", _footnote_mark)
    parser.inline.ruler.before("autolink", "prefixed_tag", _prefixed_tag)
    return parser


def _addresses(env: dict[str, object]) -> Iterator[str]:
    found = env.get("references")
    for one in found.values() if isinstance(found, dict) else ():
        yield one["href"]


def _shallow(state: StateCore) -> None:
    """Between blocks and their text: to look for deeper signs takes time and finds none."""
    state.md.options["maxNesting"] = NESTING_OF_SIGNS


# -- rules of blocks and of text ----------------------------------------------------------------------------------


def _comment(state: StateBlock, line: int, end: int, silent: bool) -> bool:
    """A comment that spans paragraphs, on lines of its own."""
    start = state.bMarks[line] + state.tShift[line]
    if not state.src.startswith("<!--", start):
        return False
    if "last_end" not in state.env:
        state.env["last_end"] = state.src.rfind("-->")
    if state.env["last_end"] < start + 4:
        return False
    found = state.src.find("-->", start + 4)
    last = next((at for at in range(line, end) if state.eMarks[at] >= found + 3), None)
    if last is None or state.src[found + 3 : state.eMarks[last]].strip():
        return False
    if not silent:
        state.line = last + 1
    return True


def _footnote(state: StateBlock, line: int, end: int, silent: bool) -> bool:
    """`[^1]: its text`; the text is read in place."""
    start = state.bMarks[line] + state.tShift[line]
    match = _FOOTNOTE.match(state.src, start, state.eMarks[line])
    if match is None or not match[2]:
        return False
    if silent:
        return True
    state.env.setdefault("footnotes", set()).add(match[1])
    state.bMarks[line], state.tShift[line] = match.end(), 0
    if match.end() >= state.eMarks[line]:
        state.line = line + 1
        return True
    return paragraph(state, line, end, silent)


def _definition(state: StateBlock, line: int, end: int, silent: bool) -> bool:
    """`[1]: https://…`; but `[Anna]: Hello!` is said by Anna."""
    start = state.bMarks[line] + state.tShift[line]
    if _ADDRESS.match(state.src, start) is None:
        return False
    return reference(state, line, end, silent)


def _code(state: StateInline, silent: bool) -> bool:
    """`so`, but not `so ` nor ` so`: those are signs that went astray, or quotes."""
    start = state.pos
    if not backtick(state, silent):
        return False
    run = _BACKTICKS.match(state.src, start)
    size = run.end() - start if run else 0
    content = state.src[start + size : state.pos - size]
    if not content or content[:1].isspace() == content[-1:].isspace():
        return True
    state.pos = start + size
    if not silent:
        state.tokens.pop()
        state.pending += state.src[start : state.pos]
    return True


def _formula(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "$" or (match := _FORMULA.match(state.src, state.pos, state.posMax)) is None:
        return False
    if not silent:
        state.push("formula", "", 0).content = match[1] or match[2]
    state.pos = match.end()
    return True


def _footnote_mark(state: StateInline, silent: bool) -> bool:
    match = _FOOTNOTE.match(state.src, state.pos, state.posMax)
    if match is None or match[1] not in state.env.get("footnotes", ()):
        return False
    state.pos = match.end(1) + 1
    return True


def _prefixed_tag(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "<" or (match := _PREFIXED_TAG.match(state.src, state.pos, state.posMax)) is None:
        return False
    if not silent:
        state.push("html_inline", "", 0).content = match[0]
    state.pos = match.end()
    return True


# -- what is seen -------------------------------------------------------------------------------------------------


class _MarkdownReading:
    """The text of parsed tokens; `addresses` are those of its links and pictures."""

    def __init__(self, source: str, tokens: Sequence[Token], shown: Callable[[str], str]) -> None:
        self._source = source.split("\n")
        self._tokens = tokens
        self._shown = shown
        found = [tag for token in tokens if token.type == "inline" for tag in _tags(token.children or ())]
        self._marks = iter(tags.marks_of(found))
        self.addresses: list[str] = []

    def lines(self) -> str:
        lines: list[str] = []
        number = ""
        for token in self._tokens:
            if token.type == "list_item_open":
                lines += [number] if number else []
                number = f"{token.info}{token.markup} " if token.info else ""
            elif token.type == "list_item_close" and number:
                lines.append(number)
                number = ""
            elif token.type == "fence":
                lines += [number + _kept(line) for line in self._fenced(token)]
                number = ""
            elif token.type == "inline":
                text = _unmarked(self._inline(token.children or ()))
                lines.append(number + (_TASK.sub("", text, count=1) if _TASK.match(text) else text))
                number = ""
        return "\n".join(lines).translate(_BACK)

    def _fenced(self, token: Token) -> list[str]:
        """The lines of a code block. Without a closing fence it isn't code, so the info string is text too."""
        start, end = token.map or [0, 0]
        closed = end - start > 1 and set(self._source[end - 1].strip(" \t>")) == {token.markup[0]}
        return [*([] if closed else [token.info]), *token.content.split("\n")]

    def _inline(self, tokens: Sequence[Token]) -> str:
        text = ""
        literal: list[bool] = []
        links: list[tuple[str, int]] = []
        for place, token in enumerate(tokens):
            match token.type:
                case "em_open" | "strong_open" | "s_open":
                    literal.append(_is_within_word(text, tokens, place))
                    text += _kept(token.markup) if literal[-1] else ""
                case "em_close" | "strong_close" | "s_close":
                    text += _kept(token.markup) if literal.pop() else ""
                case "link_open":
                    links.append((str(token.attrs.get("href", "")), len(text)))
                case "link_close":
                    href, start = links.pop()
                    self.addresses.append(href)
                    text += "" if text[start:].strip() else href
                case "image":
                    self.addresses.append(str(token.attrs.get("src", "")))
                    text += self._inline(token.children or ())
                case _:
                    text += self._seen(token)
        return text

    def _seen(self, token: Token) -> str:
        match token.type:
            case type if type in _BREAKS:
                return "\n"
            case "html_inline":
                mark = next(self._marks)
                return _kept(_without_cdata(token.content)) if mark is None else mark
            case "text_special":
                return _kept(self._shown(token.content))
            case "code_inline":
                return _kept(_LEFT_OVER.sub("", token.content))
            case "formula":
                return _kept(_COMMAND.sub(" ", token.content))
            case _:
                return token.content


def _tags(tokens: Sequence[Token]) -> Iterator[tags.Tag]:
    before = ""
    for place, token in enumerate(tokens):
        if token.type == "html_inline":
            behind = _begins_with(tokens[place + 1]) if place + 1 < len(tokens) else ""
            yield tags.Tag(token.content, before, behind)
        elif token.type == "image":
            yield from _tags(token.children or ())
        before = "" if token.type in _BREAKS else (token.content or token.markup)[-1:] or before


def _begins_with(token: Token) -> str:
    return "" if token.type in _BREAKS else (token.content or token.markup)[:1]


def _is_within_word(before: str, tokens: Sequence[Token], place: int) -> bool:
    """Whether a sign stands between letters or digits of one word, as in `a*b*c`; scripts without blanks have no such
    words."""
    after = next((tokens[at].content for at in range(place + 1, len(tokens)) if tokens[at].content), "")
    return "*" in tokens[place].markup and _in_word(before[-1:]) and _in_word(after[:1])


def _in_word(char: str) -> bool:
    return char.isalnum() and ord(char) < 0x2E80


def _kept(text: str) -> str:
    return text.translate(_KEPT)


def _without_cdata(tag: str) -> str:
    return tag[9:-3] if tag.startswith("<![CDATA[") else tag


def _unmarked(text: str) -> str:
    """The text of a paragraph without the signs that CommonMark doesn't know."""
    text = _WRAPPED.sub(lambda end: " " if text[end.end()].islower() else "\n", text)
    text = _HIGHLIGHT.sub(r"\1", _RULER.sub("", _LINK.sub(r"\1", text)))
    return _LEFT_OVER.sub("", _CELLS.sub(", ", "\n".join(map(_row, text.split("\n")))))


def _row(line: str) -> str:
    """A row of a table as its cells with commas; another line as it is."""
    bare = line.strip()
    if not (bare.startswith("|") or bare.endswith("|")):
        return line
    return ", ".join(filter(None, map(str.strip, bare.split("|"))))
