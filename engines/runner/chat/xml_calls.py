"""Calls as Qwen3-Coder writes them, read character by character. Pure.

    <function=look>
    <parameter=city>
    Paris
    </parameter>
    </function>

A value is text; what it means follows from the tool's schema, as the model's makers read it: a string stays what it is,
anything else is JSON, or Python's way of writing it; what is neither stays text. Strings go to the client while they
are written. JSON in place of `<function=` is read as `CallBlock` reads it.
"""

import ast
import json
from collections.abc import Mapping
from typing import Any, Literal

from engines.runner.chat.call_parser import CallBlock, CallScanner
from engines.runner.generation.grammar.parameters import ENDS_VALUE, type_of, types_of_argument
from engines.types.common import Json

_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"
# What ends a value: its own mark, or, at the beginning of a line, the next one where it was forgotten.
_HELD = max(map(len, ENDS_VALUE)) + 1  # of a value's end, with the line's end before it

_State = Literal["name", "between", "key", "value", "done"]


class XmlCall:
    """One call of a declared tool, from behind `<function=`."""

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        self.name = ""
        self.complete = False
        self._schemas = schemas
        self._state: _State = "name"
        self._text = ""  # of the name or key that is read, or of the mark that may begin
        self._types: set[str] = set()
        self._keys: set[str] = set()
        self._value: list[str] = []  # not shown yet
        self._begun = False  # whether the value has shown something
        self._arguments: list[str] = []

    @property
    def in_string(self) -> bool:
        return self._state == "value"

    @property
    def ready(self) -> bool:
        return bool(self.name and self._arguments)

    def take(self) -> str:
        piece = "".join(self._arguments)
        self._arguments.clear()
        return piece

    def close(self) -> bool:
        """Between parameters the end of the function alone was forgotten."""
        if self._state == "between" and not self._text:
            self._end()
        return self.complete

    def feed(self, c: str) -> bool:
        match self._state:
            case "name" | "key":
                return self._in_name(c)
            case "between":
                return self._between(c)
            case "value":
                return self._in_value(c)
        return False

    def _in_name(self, c: str) -> bool:
        if c != ">":
            self._text += c
            return c not in "<\n" and len(self._text) <= 256
        name, self._text = self._text.strip(), ""
        if self._state == "name":
            self.name, self._state = name, "between"
            self._arguments.append("{")
            return name in self._schemas
        self._state, self._begun = "value", False
        self._types = types_of_argument(name, self._schemas[self.name]) or {"string"}  # where nothing is said
        known = name in self._keys
        self._keys.add(name)
        self._arguments.append((", " if len(self._keys) > 1 else "") + json.dumps(name, ensure_ascii=False) + ": ")
        return bool(name) and not known

    def _between(self, c: str) -> bool:
        if not self._text and c.isspace():
            return True
        self._text += c
        if self._text == _PARAMETER:
            self._state, self._text = "key", ""
        elif self._text == _FUNCTION_END:
            self._end()
        return not self._text or any(mark.startswith(self._text) for mark in (_PARAMETER, _FUNCTION_END))

    def _in_value(self, c: str) -> bool:
        self._value.append(c)
        if c in ">=":
            tail = "".join(self._value[-_HELD:])
            ended = next((mark for mark in ENDS_VALUE if tail.endswith(mark)), None)
            if ended is not None:
                del self._value[-len(ended) :]
                self._value_ended(ended)
                return True
        if len(self._value) >= 2 * _HELD and self._types == {"string"}:
            self._show_text(self._value[:-_HELD])
            del self._value[:-_HELD]
        return True

    def _value_ended(self, mark: str) -> None:
        if self._value and self._value[-1] == "\n" and mark == _PARAMETER_END:
            self._value.pop()
        if self._begun or self._types == {"string"}:
            self._show_text(self._value)
            self._arguments.append('"')
        else:
            text = "".join(self._value)
            value = _converted(text[1:] if text.startswith("\n") else text, self._types)
            self._arguments.append(json.dumps(value, ensure_ascii=False))
        self._value = []
        self._state, self._text = "between", ""
        if mark == "\n" + _PARAMETER:
            self._state = "key"
        elif mark == "\n" + _FUNCTION_END:
            self._end()

    def _show_text(self, text: list[str]) -> None:
        if not self._begun:
            text = text[1:] if text[:1] == ["\n"] else text
            self._arguments.append('"')
            self._begun = True
        self._arguments.append(json.dumps("".join(text), ensure_ascii=False)[1:-1])

    def _end(self) -> None:
        self._arguments.append("}")
        self._state, self._text, self.complete = "done", "", True


class XmlBlock:
    """Calls behind one `<tool_call>`, or without it; as `CallBlock`."""

    def __init__(self, schemas: Mapping[str, Json], opening: str, lead: str) -> None:
        self.lead = lead
        self.raw = [opening]
        self._schemas = schemas
        self._opening = opening
        self._call: XmlCall | None = None
        self._json: CallBlock | None = None
        self._called = False
        self._mark = ""

    @property
    def call(self) -> XmlCall | CallScanner | None:
        return self._json.call if self._json is not None else self._call

    @property
    def in_string(self) -> bool:
        return self._json.in_string if self._json is not None else self._call is not None and self._call.in_string

    @property
    def behind(self) -> bool:
        if self._json is not None:
            return self._json.behind
        return self._called and self._call is None and not self._mark

    def feed(self, c: str) -> bool:
        right = self._fed(c)
        if right:
            self.raw.append(c)
        return right

    def completed(self) -> None:
        if self._json is not None:
            self._json.completed()
        self._called, self._call, self.lead = True, None, ""
        self.raw.clear()

    def _fed(self, c: str) -> bool:
        if self._json is not None:
            return self._json.feed(c)
        if self._call is not None:
            return self._call.feed(c)
        if not self._mark and c.isspace():
            return True
        if not self._mark and not self._called and c in "{[`":
            self._json = CallBlock(frozenset(self._schemas), self._opening, self.lead)
            return self._json.feed(c)
        self._mark += c
        if self._mark == _FUNCTION:
            self._mark, self._call = "", XmlCall(self._schemas)
            return True
        right = _FUNCTION.startswith(self._mark)
        if not right:
            self._mark = ""
        return right


def _converted(text: str, types: set[str]) -> Any:
    """The value that a text is, by what it may be; the text where it is none of that."""
    value = _read(text.strip())
    if "integer" in types and isinstance(value, float) and value.is_integer():
        value = int(value)
    kind = type_of(value) if value is not ... else ""
    fits = kind in types or (kind == "integer" and "number" in types)
    return value if fits and kind != "string" else text


def _read(text: str) -> Any:
    """JSON, or Python's way of writing it; `...` where it is neither."""
    try:
        value = json.loads(text, parse_constant=lambda _: ...)
    except (ValueError, RecursionError):
        if text.lower() in ("true", "false", "null", "none"):
            return {"true": True, "false": False}.get(text.lower())
        try:
            value = ast.literal_eval(text)
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return ...
    return value
