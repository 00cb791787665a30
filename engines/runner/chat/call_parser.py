"""What stands between `<tool_call>` and `</tool_call>`, read character by character. Pure.

The arguments of a call go to the client while the model still writes them, so everything here decides at each character
whether what it has read is still right, in constant time. What it gives back is strict JSON: verbatim when the model
wrote strict JSON, and mended where it used Python's quotes and words, left a comma before a closing bracket, or escaped
an apostrophe.
"""

import json
from collections.abc import Callable
from typing import Literal

_State = Literal[
    "value", "key", "item", "colon", "after", "string", "escape", "unicode", "number", "literal", "done"
]  # fmt: skip
_BLANKS = frozenset(" \t\n\r")
_QUOTES = frozenset("\"'")
_DIGITS = frozenset("0123456789")
_WORDS = {
    "t": ("true", "true"),
    "f": ("false", "false"),
    "n": ("null", "null"),
    "T": ("True", "true"),
    "F": ("False", "false"),
    "N": ("None", "null"),
}
# Of a number: what has been read → what may follow → what has been read then.
_NUMBER = {
    "minus": {"zero": "zero", "digit": "whole"},
    "zero": {".": "point", "e": "exponent"},
    "whole": {"zero": "whole", "digit": "whole", ".": "point", "e": "exponent"},
    "point": {"zero": "fraction", "digit": "fraction"},
    "fraction": {"zero": "fraction", "digit": "fraction", "e": "exponent"},
    "exponent": {"zero": "power", "digit": "power", "+": "sign", "-": "sign"},
    "sign": {"zero": "power", "digit": "power"},
    "power": {"zero": "power", "digit": "power"},
}
_NUMBER_ENDS = frozenset({"zero", "whole", "fraction", "power"})
_FENCE = "```json"
_FENCES = frozenset({"", "```", _FENCE})


class JsonScanner:
    """One JSON value. `depth` counts the brackets that are open; `state` says what the next character may be."""

    def __init__(self) -> None:
        self.state: _State = "value"
        self._due: list[str] = []  # closing brackets, the innermost last
        self._comma = ""  # a comma and the white space behind it: dropped if a closing bracket follows
        self._quote = ""
        self._is_key = False
        self._number = ""
        self._word = ("", "")
        self._matched = 0  # characters of the word, or digits of the \u escape

    @property
    def depth(self) -> int:
        return len(self._due)

    @property
    def in_string(self) -> bool:
        return self.state in ("string", "escape", "unicode")

    def feed(self, c: str) -> str | None:
        """What `c` adds to the JSON text (all of it together is valid so far); None: it can't stand here."""
        return _STEPS[self.state](self, c)

    def closers(self) -> str | None:
        """What is missing if the text ends here; None if brackets alone don't make it valid."""
        complete = self.state in ("after", "key", "item", "done")
        if complete or (self.state == "number" and self._number in _NUMBER_ENDS):
            return "".join(reversed(self._due))
        return None

    def _blank(self, c: str) -> str:
        shown = c if c in _BLANKS else ""  # JSON knows four kinds of white space; models write more
        if self._comma:
            self._comma += shown
            return ""
        return shown

    def _show(self, text: str) -> str:
        held, self._comma = self._comma, ""
        return held + text

    def _value_ended(self) -> None:
        self.state = "after" if self._due else "done"

    def _open(self, c: str) -> str:
        self._due.append("}" if c == "{" else "]")
        self.state = "key" if c == "{" else "item"
        return self._show(c)

    def _close(self) -> str:
        blanks, self._comma = self._comma[1:], ""
        closer = self._due.pop()
        self._value_ended()
        return blanks + closer

    def _begin_string(self, c: str, is_key: bool) -> str:
        self._quote, self._is_key, self.state = c, is_key, "string"
        return self._show('"')

    def _value(self, c: str) -> str | None:
        if c.isspace():
            return self._blank(c)
        if c in "{[":
            return self._open(c)
        if c in _QUOTES:
            return self._begin_string(c, is_key=False)
        if c == "-" or c in _DIGITS:
            self._number = {"-": "minus", "0": "zero"}.get(c, "whole")
            self.state = "number"
            return self._show(c)
        if c in _WORDS:
            self._word, self._matched, self.state = _WORDS[c], 1, "literal"
            return ""
        return None

    def _key(self, c: str) -> str | None:
        if c.isspace():
            return self._blank(c)
        if c in _QUOTES:
            return self._begin_string(c, is_key=True)
        return self._close() if c == "}" else None

    def _item(self, c: str) -> str | None:
        return self._close() if c == "]" else self._value(c)

    def _colon(self, c: str) -> str | None:
        if c.isspace():
            return self._blank(c)
        if c != ":":
            return None
        self.state = "value"
        return c

    def _after(self, c: str) -> str | None:
        if c.isspace():
            return self._blank(c)
        if c == self._due[-1]:
            return self._close()
        if c != ",":
            return None
        self._comma = c
        self.state = "key" if self._due[-1] == "}" else "item"
        return ""

    def _string(self, c: str) -> str | None:
        if c == self._quote:
            if self._is_key:
                self.state = "colon"
            else:
                self._value_ended()
            return '"'
        if c == "\\":
            self.state = "escape"
            return ""
        if c == '"':
            return '\\"'
        return c if c >= " " else None

    def _escape(self, c: str) -> str | None:
        self.state = "string"
        if c == "u":
            self.state, self._matched = "unicode", 0
            return "\\u"
        if c == "'":
            return c
        return "\\" + c if c in '"\\/bfnrt' else None

    def _unicode(self, c: str) -> str | None:
        self._matched += 1
        if self._matched == 4:
            self.state = "string"
        return c if c in "0123456789abcdefABCDEF" else None

    def _digit(self, c: str) -> str | None:
        kind = "zero" if c == "0" else "digit" if c in _DIGITS else c.lower()
        follows = _NUMBER[self._number].get(kind)
        if follows:
            self._number = follows
            return c
        if self._number not in _NUMBER_ENDS:
            return None
        self._value_ended()
        return self.feed(c)

    def _letter(self, c: str) -> str | None:
        written, meant = self._word
        if c != written[self._matched]:
            return None
        self._matched += 1
        if self._matched < len(written):
            return ""
        self._value_ended()
        return self._show(meant)

    def _nothing(self, c: str) -> str | None:
        return None


_STEPS: dict[_State, Callable[[JsonScanner, str], str | None]] = {
    "value": JsonScanner._value,
    "key": JsonScanner._key,
    "item": JsonScanner._item,
    "colon": JsonScanner._colon,
    "after": JsonScanner._after,
    "string": JsonScanner._string,
    "escape": JsonScanner._escape,
    "unicode": JsonScanner._unicode,
    "number": JsonScanner._digit,
    "literal": JsonScanner._letter,
    "done": JsonScanner._nothing,
}


class CallScanner:
    """One call of a declared tool: `{"name": "f", "arguments": {…}}`.

    The keys come in any order; `parameters` means `arguments`. Arguments that are missing, null or a blank string are
    `{}`; a string that holds an object is that object. `id` and `type` with a scalar are passed over. Any other key, a
    key twice, and a name that isn't declared, make it no call.

    The bracket that closes the arguments is held back until the call is complete: what was shown of a call that breaks
    off can never be taken for one.
    """

    def __init__(self, declared: frozenset[str]) -> None:
        self.name = ""
        self.complete = False
        self._declared = declared
        self._json = JsonScanner()
        self._key = ""
        self._seen: set[str] = set()
        self._token: list[str] = []
        self._arguments: list[str] = []
        self._rest = "{}"
        self._python = False

    @property
    def in_string(self) -> bool:
        return self._json.in_string

    @property
    def ready(self) -> bool:
        """Whether there is something to take. A call in Python's quotes often breaks, so it is shown when complete."""
        return bool(self.name and self._arguments) and (self.complete or not self._python)

    def take(self) -> str:
        """The arguments' next piece."""
        piece = "".join(self._arguments)
        self._arguments.clear()
        return piece

    def feed(self, c: str) -> bool:
        """False: this is no call."""
        depth, state = self._json.depth, self._json.state
        shown = self._json.feed(c)
        if shown is None:
            return False
        if depth > 1 and self._json.depth == 1:
            self._rest = shown
            return True
        if depth > 1:
            if shown:
                self._arguments.append(shown)
            return True
        return self._outside(c, state, shown) if depth else c == "{"

    def close(self) -> bool:
        """The model says that the call is over: add the brackets that it forgot. False: they don't make it a call."""
        closers = self._json.closers()
        if closers is None:
            return False
        if len(closers) > 1:
            self._rest = closers[:-1]
        return self._ended()

    def _outside(self, c: str, state: _State, shown: str) -> bool:
        """A character of the call's own object, outside of its arguments."""
        if state in ("key", "value"):
            self._python |= c == "'"
            if state == "value" and not c.isspace():
                return self._value_begins(c, shown)
            self._token = ['"']
        else:
            self._token.append(shown)
        match self._json.state:
            case "colon" if state == "string":
                return self._key_ended()
            case "after" if state in ("string", "literal"):
                return self._value_ended()
            case "done":
                return self._ended()
        return True

    def _key_ended(self) -> bool:
        key = json.loads("".join(self._token))
        self._key = "arguments" if key == "parameters" else key
        if self._key in self._seen or self._key not in ("name", "arguments", "id", "type"):
            return False
        self._seen.add(self._key)
        return True

    def _value_begins(self, c: str, shown: str) -> bool:
        self._token = [shown]
        if self._key == "name":
            return c in _QUOTES
        if self._key == "arguments" and c == "{":
            self._arguments.append(shown)
            return True
        return c in _QUOTES or c in "nN" if self._key == "arguments" else c not in "{["

    def _value_ended(self) -> bool:
        text = "".join(self._token)
        if self._key == "name":
            self.name = json.loads(text)
            return self.name in self._declared
        if self._key == "arguments":
            self._rest = "{}" if text == "null" else _unwrapped(json.loads(text))
            return bool(self._rest)
        return True

    def _ended(self) -> bool:
        self._arguments.append(self._rest)
        self.complete = bool(self.name)
        return self.complete


def _unwrapped(text: str) -> str:
    """The JSON object that `text` is, "" if it is none."""
    text = text.strip() or "{}"
    if not text.startswith("{") or any("\ud800" <= c <= "\udfff" for c in text):
        return ""
    scanner = JsonScanner()
    shown = [scanner.feed(c) for c in text]
    whole = scanner.state == "done" and None not in shown
    return "".join(piece for piece in shown if piece) if whole else ""


class CallBlock:
    """Calls behind one `<tool_call>`: an object, objects one after another, or a list of them; in a fence or not.

    `raw` is what was written since the last complete call, `lead` the white space before the block.
    """

    def __init__(self, declared: frozenset[str], opening: str, lead: str) -> None:
        self.lead = lead
        self.raw = [opening]
        self.call: CallScanner | None = None
        self.called = False
        self._declared = declared
        self._fence = ""
        self._is_list = False

    @property
    def in_string(self) -> bool:
        return self.call is not None and self.call.in_string

    @property
    def behind(self) -> bool:
        """Whether a call was complete and no other has begun: the block may end here."""
        return self.called and self.call is None

    def feed(self, c: str) -> bool:
        """False: `c` can't stand here. It isn't in `raw` then."""
        if self.call is None and c == "{" and (self.called or self._fence in _FENCES):
            self.call = CallScanner(self._declared)
        if self.call is not None:
            right = self.call.feed(c)
        else:
            right = self._behind(c) if self.called else self._before(c)
        if right:
            self.raw.append(c)
        return right

    def completed(self) -> None:
        """Its call was complete and is taken."""
        self.called, self.call, self.lead = True, None, ""
        self.raw.clear()

    def _before(self, c: str) -> bool:
        if c.isspace():
            return True
        if c == "[" and not self._is_list and self._fence in _FENCES:
            self._is_list = True
            return True
        self._fence += c
        return _FENCE.startswith(self._fence)

    def _behind(self, c: str) -> bool:
        """Between calls and after the last: separators, and brackets, of which models write one too many."""
        return c.isspace() or c in ",]}" or (c == "`" and bool(self._fence))
