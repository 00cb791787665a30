"""A grammar in EBNF, as llama.cpp (GBNF) and XGrammar write it → Lark, as llguidance reads it. Pure.

The lexer behind Lark takes the longest of what may come, so `("a" | "ab") "bc"` would never be "abc". A grammar whose
rules don't lead back to themselves becomes one regular expression, for which that isn't so, as long as it isn't too
long; any other is written with one lexeme a character.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

MAX_NESTED = 100
MAX_TIMES = 10_000
MAX_REGEX = 50_000  # characters
ROOT = "root"

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]+|\#[^\n]*)
    |(?P<define>::=)
    |(?P<name>[A-Za-z0-9_][A-Za-z0-9_-]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<set>\[(?:[^\]\\\n]|\\.)*\])
    |(?P<times>\{\s*[0-9]+\s*(?:,\s*[0-9]*\s*)?\})
    |(?P<sign>[()|*+?.])""",
    re.VERBOSE,
)
_CHARACTER = re.compile(
    r"\\x(?P<x>[0-9a-fA-F]{2})|\\u(?P<u>[0-9a-fA-F]{4})|\\U(?P<U>[0-9a-fA-F]{8})|\\(?P<escape>.)|(?P<plain>.)",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "e": "\x1b"}
_ITSELF = frozenset("\"'\\/[]^-?.(){}|*+")
_SIGNS: Mapping[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class EbnfFault(ValueError):
    """What is wrong with a grammar, in words that go on behind its name."""


class Text(msgspec.Struct, frozen=True):
    characters: str


class Set(msgspec.Struct, frozen=True):
    """One character: `regex` says which."""

    regex: str


class Ref(msgspec.Struct, frozen=True):
    name: str


class Concatenation(msgspec.Struct, frozen=True):
    """One after the other."""

    parts: "tuple[Node, ...]"


class Either(msgspec.Struct, frozen=True):
    options: "tuple[Node, ...]"


class Times(msgspec.Struct, frozen=True):
    """From `least` to `most` times; None: any number."""

    node: "Node"
    least: int
    most: int | None


Node = Text | Set | Ref | Concatenation | Either | Times
Rules = dict[str, Node]


def is_ebnf(grammar: str) -> bool:
    """Whether a grammar is written in EBNF, and not in Lark."""
    return re.search(r"^\s*[A-Za-z0-9_-]+\s*::=", grammar, re.MULTILINE) is not None


def lark_of(grammar: str) -> str:
    """The grammar from `root` on. Raises `EbnfFault` for what can't be read, or never ends."""
    rules = _Parser(grammar).rules()
    reached = _reached(rules)
    if ROOT not in _ending(rules, reached):
        raise EbnfFault("can't be enforced: no text that ends can satisfy root")
    regex = _regex(rules, reached)
    if regex is not None:
        return f"start: /{regex}/"
    names = {name: f"r_{place}" for place, name in enumerate(reached)}
    lines = [f"{names[name]}: {_written(rules[name], names)}" for name in reached]
    return "\n".join([f"start: {names[ROOT]}", *lines])


class _Parser:
    """Recursive descent; a rule ends where the next one is defined."""

    def __init__(self, grammar: str) -> None:
        self._tokens = list(_tokens(grammar))
        self._at = 0

    def rules(self) -> Rules:
        rules: Rules = {}
        while self._at < len(self._tokens):
            (kind, name), (next_kind, _) = self._peek(), self._peek(1)
            if kind != "name" or next_kind != "define":
                raise EbnfFault(f"isn't understood: a rule begins with NAME ::=, and not with {name}")
            if name in rules:
                raise EbnfFault(f"isn't understood: the rule {name} is defined twice")
            self._at += 2
            rules[name] = self._either(0)
        if ROOT not in rules:
            raise EbnfFault(f"isn't understood: it has no rule {ROOT}")
        for name in (one for node in rules.values() for one in _refs(node)):
            if name not in rules:
                raise EbnfFault(f"isn't understood: the rule {name} isn't defined")
        return rules

    def _peek(self, further: int = 0) -> tuple[str, str]:
        place = self._at + further
        return self._tokens[place] if place < len(self._tokens) else ("end", "its end")

    def _either(self, depth: int) -> Node:
        if depth > MAX_NESTED:
            raise EbnfFault(f"is nested deeper than {MAX_NESTED} levels")
        options = [self._row(depth)]
        while self._peek() == ("sign", "|"):
            self._at += 1
            options.append(self._row(depth))
        return options[0] if len(options) == 1 else Either(tuple(options))

    def _row(self, depth: int) -> Node:
        parts: list[Node] = []
        while (part := self._part(depth)) is not None:
            parts.append(self._repeated(part))
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def _part(self, depth: int) -> Node | None:
        kind, token = self._peek()
        if kind in ("end", "define", "times") or (kind, token) in (("sign", "|"), ("sign", ")")):
            return None
        if kind == "name" and self._peek(1)[0] == "define":
            return None
        self._at += 1
        match kind:
            case "name":
                return Ref(token)
            case "text":
                return Text("".join(_characters(token[1:-1])))
            case "set":
                return Set(_set(token[1:-1]))
        if token == ".":
            return Set("(?s:.)")
        if token != "(":
            raise EbnfFault(f"isn't understood: {token} follows nothing that it could repeat")
        inner = self._either(depth + 1)
        if self._peek() != ("sign", ")"):
            raise EbnfFault(f"isn't understood: a bracket isn't closed before {self._peek()[1]}")
        self._at += 1
        return inner

    def _repeated(self, node: Node) -> Node:
        for _ in range(MAX_NESTED):
            kind, token = self._peek()
            if kind == "times":
                least, _, most = token[1:-1].partition(",")
                bounds = int(least), (int(most) if most.strip() else None) if "," in token else int(least)
            elif kind == "sign" and token in _SIGNS:
                bounds = _SIGNS[token]
            else:
                return node
            self._at += 1
            if max(bounds[0], bounds[1] or 0) > MAX_TIMES or (bounds[1] is not None and bounds[1] < bounds[0]):
                raise EbnfFault(f"can't be enforced: {token} isn't a number of times up to {MAX_TIMES}")
            node = Times(node, *bounds)
        raise EbnfFault(f"is nested deeper than {MAX_NESTED} levels")


def _tokens(grammar: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(grammar):
        found = _TOKEN.match(grammar, place)
        if found is None:
            line = grammar.count("\n", 0, place) + 1
            raise EbnfFault(f"isn't understood in line {line}: {grammar[place : place + 20].splitlines()[0]!r}")
        place = found.end()
        if found.lastgroup is not None and found.lastgroup != "blank":
            yield found.lastgroup, found[0]


def _characters(text: str) -> list[str]:
    """What a text or a set holds; what was escaped there is one character as well."""
    found: list[str] = []
    for match in _CHARACTER.finditer(text):
        if match["plain"]:
            found.append(match["plain"])
        elif match["escape"]:
            if match["escape"] not in _ESCAPES and match["escape"] not in _ITSELF:
                raise EbnfFault(f"isn't understood: \\{match['escape']} escapes nothing")
            found.append(_ESCAPES.get(match["escape"], match["escape"]))
        else:
            found.append(_scalar(int(match["x"] or match["u"] or match["U"], 16)))
    return found


def _scalar(code: int) -> str:
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise EbnfFault(f"isn't understood: {code:x} is no character")
    return chr(code)


def _set(text: str) -> str:
    """A set of characters as a regular expression."""
    negated = text.startswith("^")
    inner = text[negated:]
    characters = _characters(inner)
    plain = [match["plain"] == "-" for match in _CHARACTER.finditer(inner)]
    items: list[str] = []
    place = 0
    while place < len(characters):
        first = characters[place]
        if place + 2 < len(characters) and plain[place + 1]:
            last = characters[place + 2]
            if last < first:
                raise EbnfFault(f"isn't understood: the set [{text}] has a range that runs backwards")
            items.append(f"{_code(first)}-{_code(last)}")
            place += 3
        else:
            items.append(_code(first))
            place += 1
    if not items:
        raise EbnfFault(f"isn't understood: the set [{text}] is empty")
    return f"[{'^' if negated else ''}{''.join(items)}]"


def _code(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"


def _parts(node: Node) -> Sequence[Node]:
    match node:
        case Concatenation():
            return node.parts
        case Either():
            return node.options
        case Times():
            return (node.node,)
        case _:
            return ()


def _refs(node: Node) -> Iterator[str]:
    if isinstance(node, Ref):
        yield node.name
    for part in _parts(node):
        yield from _refs(part)


def _reached(rules: Rules) -> list[str]:
    reached = {ROOT: None}
    left = [ROOT]
    while left:
        new = [name for name in dict.fromkeys(_refs(rules[left.pop()])) if name not in reached]
        reached |= dict.fromkeys(new)
        left += new
    return list(reached)


def _inside_out(rules: Rules, reached: Sequence[str]) -> list[str]:
    """The rules that aren't part of themselves, each behind its parts."""
    users: dict[str, list[str]] = {name: [] for name in reached}
    waits: dict[str, int] = {}
    for name in reached:
        parts = set(_refs(rules[name]))
        waits[name] = len(parts)
        for part in parts:
            users[part].append(name)
    settled = [name for name in reached if not waits[name]]
    for name in settled:
        for user in users[name]:
            waits[user] -= 1
            if not waits[user]:
                settled.append(user)
    return settled


def _ending(rules: Rules, reached: Sequence[str]) -> set[str]:
    """The rules that some text satisfies."""
    users: dict[str, set[str]] = {name: set() for name in reached}
    for name in reached:
        for part in _refs(rules[name]):
            users[part].add(name)
    ending: set[str] = set()
    left = list(reached)
    while left:
        name = left.pop()
        if name not in ending and _ends(rules[name], ending):
            ending.add(name)
            left += users[name]
    return ending


def _ends(node: Node, ending: set[str]) -> bool:
    match node:
        case Ref():
            return node.name in ending
        case Either():
            return any(_ends(option, ending) for option in node.options)
        case Times():
            return node.least == 0 or _ends(node.node, ending)
        case _:
            return all(_ends(part, ending) for part in _parts(node))


class _Regex(msgspec.Struct, frozen=True):
    """`depth` counts the groups within each other; `loose` is what needs one before something can follow."""

    text: str
    depth: int = 0
    loose: bool = False

    @property
    def grouped(self) -> str:
        return f"(?:{self.text})"


def _regex(rules: Rules, reached: Sequence[str]) -> str | None:
    """The grammar as one regular expression; None where there is none, or a too long one."""
    order = _inside_out(rules, reached)
    if len(order) < len(reached):
        return None
    made: dict[str, _Regex] = {}
    for name in order:
        made[name] = found = _regex_of(rules[name], made)
        if len(found.text) > MAX_REGEX or found.depth > MAX_NESTED:
            return None
    return made[ROOT].text or "(?:)"


def _regex_of(node: Node, made: Mapping[str, _Regex]) -> _Regex:
    match node:
        case Text():
            return _Regex("".join(map(_code, node.characters)))
        case Set():
            return _Regex(node.regex)
        case Ref():
            return made[node.name]
        case Concatenation():
            parts = [_regex_of(part, made) for part in node.parts]
            depth = max((part.depth + part.loose for part in parts), default=0)
            return _Regex("".join(part.grouped if part.loose else part.text for part in parts), depth)
        case Either():
            options = [_regex_of(option, made) for option in node.options]
            return _Regex("|".join(option.text for option in options), max(one.depth for one in options), loose=True)
        case Times():
            inner = _regex_of(node.node, made)
            return _Regex(f"{inner.grouped}{_times(node)}", inner.depth + 1)


def _times(node: Times) -> str:
    sign = next((sign for sign, bounds in _SIGNS.items() if bounds == (node.least, node.most)), None)
    return sign or f"{{{node.least},{'' if node.most is None else node.most}}}"


def _written(node: Node, names: Mapping[str, str]) -> str:
    """As Lark, texts one character at a time."""
    match node:
        case Text():
            return " ".join(json.dumps(piece, ensure_ascii=False) for piece in node.characters) or '""'
        case Set():
            return f"/{node.regex}/"
        case Ref():
            return names[node.name]
        case Concatenation():
            return " ".join(_inner(part, names) for part in node.parts) or '""'
        case Either():
            return " | ".join(_written(option, names) for option in node.options)
        case Times():
            return f"({_written(node.node, names)}){_times(node)}"


def _inner(node: Node, names: Mapping[str, str]) -> str:
    written = _written(node, names)
    return f"({written})" if isinstance(node, Either) else written
