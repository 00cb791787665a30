"""What a client sent as a tool's arguments → native values. Pure.

Clients send numbers as strings, objects and lists where JSON as text is wanted, null for what they leave out, and keys
that they made up. The last are errors that name the nearest valid key, because an argument that is silently dropped
changes the answer; all others are taken.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from engines.types.errors import InvalidRequest

Schema = Mapping[str, Any]
Value = str | int | float | bool


def parse(schema: Schema, given: Mapping[str, Any] | None) -> dict[str, Value]:
    """The arguments by the schema's `properties` and `required`. Raises `InvalidRequest`, naming the argument."""
    properties: Mapping[str, Schema] = schema["properties"]
    values: dict[str, Value] = {}
    for name, value in (given or {}).items():
        if name not in properties:
            raise InvalidRequest(_unknown(name, list(properties)), param=name)
        if value is not None:
            values[name] = _value(name, properties[name]["type"], value)
    for name in schema.get("required", ()):
        if name not in values:
            raise InvalidRequest(f"The argument {name} is missing.", param=name)
        if not str(values[name]).strip():
            raise InvalidRequest(f"The argument {name} is empty.", param=name)
    return values


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known) or 'none'}."
    return f"There is no argument {name}. {hint}"


def _value(name: str, kind: str, value: object) -> Value:
    if kind == "string" and isinstance(value, str | dict | list):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if kind == "boolean" and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind in ("number", "integer") and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
            if kind == "number":
                return number
            if number == int(number):
                return int(number)
        except (ValueError, OverflowError):
            pass
    raise InvalidRequest(f"The argument {name} must be of type {kind}.", param=name)
