"""Calls as Mistral's models write them behind `[TOOL_CALLS]`, read character by character. Pure.

Up to version 7 of their tokenizer a list of JSON, since then `name[ARGS]{…}` or `name[CALL_ID]id[ARGS]{…}`, each call
behind a `[TOOL_CALLS]` of its own; version 11 left the mark between name and arguments out.
"""

import string
from collections.abc import Mapping
from typing import Literal

from engines.runner.chat.call_parser import CallBlock, CallScanner, JsonScanner
from engines.types.common import Json

_ARGS, _CALL_ID = "[ARGS]", "[CALL_ID]"
_NAME = frozenset(string.ascii_letters + string.digits + "_-./:")

_State = Literal["name", "mark", "id", "arguments"]


class NamedCall:
    """One call: its name, marks, and an object."""

    def __init__(self, declared: frozenset[str]) -> None:
        self.name = ""
        self.complete = False
        self._declared = declared
        self._state: _State = "name"
        self._text = ""
        self._json = JsonScanner()
        self._arguments: list[str] = []
        self._last = ""

    @property
    def in_string(self) -> bool:
        return self._json.in_string

    @property
    def ready(self) -> bool:
        return bool(self._arguments)

    def take(self) -> str:
        piece = "".join(self._arguments)
        self._arguments.clear()
        return piece

    def close(self) -> bool:
        """Brackets that the model forgot; without arguments there are none."""
        closers = self._json.closers() if self._state == "arguments" else None
        if not self.name or closers is None:
            return False
        self._arguments.append(closers)
        self.complete = True
        return True

    def feed(self, c: str) -> bool:
        match self._state:
            case "name":
                return self._in_name(c)
            case "mark":
                return self._in_mark(c)
            case "id":
                return self._in_id(c)
        return self._in_arguments(c)

    def _in_name(self, c: str) -> bool:
        if c in _NAME:
            self._text += c
            return len(self._text) <= 256
        if self._text not in self._declared:
            return False
        self.name, self._text = self._text, ""
        self._state = "mark"
        return self._in_mark(c)

    def _in_mark(self, c: str) -> bool:
        if not self._text and c.isspace():
            return True
        if not self._text and c == "{":
            self._state = "arguments"
            return self._in_arguments(c)
        self._text += c
        if self._text == _ARGS:
            self._state, self._text = "arguments", ""
            return True
        if self._text == _CALL_ID:
            self._state, self._text = "id", ""
            return True
        return any(mark.startswith(self._text) for mark in (_ARGS, _CALL_ID))

    def _in_id(self, c: str) -> bool:
        if c == "[":
            self._state = "mark"
            return self._in_mark(c)
        return c in _NAME or c.isspace()

    def _in_arguments(self, c: str) -> bool:
        if self._json.state == "value" and not self._json.depth and c != "{":
            return c.isspace()
        shown = self._json.feed(c)
        if shown is None:
            return False
        self._arguments.append(shown)
        self.complete = self._json.state == "done"
        return True


class MistralBlock:
    """Calls behind one `[TOOL_CALLS]`, in any of its versions; as `CallBlock`."""

    def __init__(self, schemas: Mapping[str, Json], opening: str, lead: str) -> None:
        self.lead = lead
        self.raw = [opening]
        self._declared = frozenset(schemas)
        self._opening = opening
        self._call: NamedCall | None = None
        self._json: CallBlock | None = None
        self._called = False
        self._comma = False  # behind the last call

    @property
    def call(self) -> NamedCall | CallScanner | None:
        return self._json.call if self._json is not None else self._call

    @property
    def in_string(self) -> bool:
        if self._json is not None:
            return self._json.in_string
        return self._call is not None and self._call.in_string

    @property
    def behind(self) -> bool:
        return self._json.behind if self._json is not None else self._called and self._call is None

    def feed(self, c: str) -> bool:
        right = self._fed(c)
        if right:
            self.raw.append(c)
        return right

    def completed(self) -> None:
        if self._json is not None:
            self._json.completed()
        self._called, self._call, self._comma, self.lead = True, None, False, ""
        self.raw.clear()

    def _fed(self, c: str) -> bool:
        if self._json is not None:
            return self._json.feed(c)
        if self._call is not None:
            return self._call.feed(c)
        if c.isspace():
            return True
        if self._called and not self._comma:
            self._comma = c in ",;"
            return self._comma
        if c in "{[`" and not self._called:
            self._json = CallBlock(self._declared, self._opening, self.lead)
            return self._json.feed(c)
        self._call = NamedCall(self._declared)
        return self._call.feed(c)
