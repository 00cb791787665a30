"""A tool's arguments in a markup that writes each of them by itself, as Qwen3-Coder's does. Pure.

What may be any string is written as it is, up to its end mark, so nothing but a choice of values bounds it; all else is
JSON. `unbounded` says what of a schema such a markup can't hold to.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from engines.runner.generation.grammar.schemas import (
    ANNOTATIONS,
    DEFINITIONS,
    ENFORCED,
    KEPT,
    MAX_HOPS,
    NUMBERS,
    SchemaFault,
)
from engines.types.common import Json

MAX_NESTED = 20  # schemas that describe one value, one within the other
ENDS_VALUE = ("</parameter>", "\n<parameter=", "\n</function>")
_OF_TEXTS = frozenset({"pattern", "format", "minLength", "maxLength"})
_CHOICES = frozenset({"const", "enum"})
_OPTIONS = ("anyOf", "oneOf", "allOf")
_OF_ROOT = frozenset({"type", "properties", "required", "additionalProperties"}) | DEFINITIONS
_REASON = "this model's markup of calls can't hold to it"
_NAMES = "this model's markup of calls can't write such a name"


class AnyText(msgspec.Struct, frozen=True):
    """A value may be any text."""


class LiteralValue(msgspec.Struct, frozen=True):
    """A value as it is written."""

    text: str


class JsonValue(msgspec.Struct, frozen=True):
    """A value that is JSON by a schema, which stands alone."""

    schema: Json


Way = AnyText | LiteralValue | JsonValue


class Arguments(msgspec.Struct, frozen=True):
    """The arguments that a schema names, those that must be there, and the schema of all others (False: none)."""

    known: dict[str, Any]
    required: frozenset[str]
    others: Any


def arguments_of(root: Json) -> Arguments:
    schema = _root(root)
    properties = schema.get("properties")
    others = True if "patternProperties" in schema else schema.get("additionalProperties", True)
    known: dict[str, Any] = dict(properties) if isinstance(properties, dict) else {}
    needed = schema.get("required")
    required = frozenset(needed) if isinstance(needed, list) else frozenset()
    known |= {name: others for name in sorted(required - known.keys())}
    known = {name: value for name, value in known.items() if value is not False and _is_writable(name)}
    return Arguments(known, required, others)


def ways_of(schema: Any, root: Json) -> list[Way]:
    """The ways in which a value may be written; any text stands alone, since it is all of them."""
    ways = list(_ways(schema, root, 0))
    return [AnyText()] if AnyText() in ways else list({msgspec.json.encode(way): way for way in ways}.values())


def unbounded(schema: Json) -> Iterator[SchemaFault]:
    """What of a schema that can be enforced in JSON can't be here."""
    root = _root(schema)
    for keyword in sorted(KEPT & root.keys() - _OF_ROOT):
        yield SchemaFault(f"/{keyword}", _REASON)
    properties = root.get("properties", {})
    others = root.get("additionalProperties")
    values = [(f"/properties/{_escaped(name)}", value) for name, value in properties.items()]
    for path, value in [*values, *([("/additionalProperties", others)] if isinstance(others, dict) else [])]:
        yield from _unbounded_value(value, path, schema)
    for name in {**properties, **dict.fromkeys(root.get("required", ()))}:
        if not _is_writable(name):
            yield SchemaFault(f"/properties/{_escaped(name)}", _NAMES)


def types_of(schema: Any, root: Json, depth: int = 0) -> set[str]:
    """The types that a schema names for a value; none if it says nothing. Takes any JSON for a schema."""
    if not isinstance(schema, dict) or depth > MAX_NESTED:
        return set()
    given = schema.get("type")
    types = {one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str)}
    for _, inner in _beside(schema, "", root):
        types |= types_of(inner, root, depth + 1)
    return types or {type_of(value) for value in _choices(schema)}


def types_of_argument(name: str, root: Json) -> set[str]:
    """What an argument of this name may be; none if the schema says nothing."""
    types: set[str] = set()
    for _, part in _in_place(root, "", root, 0):
        properties = part.get("properties")
        if isinstance(properties, dict) and name in properties:
            types |= types_of(properties[name], root)
        elif not types:
            types |= types_of(part.get("additionalProperties"), root)
    return types


def type_of(value: object) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _ways(schema: Any, root: Json, depth: int) -> Iterator[Way]:
    schema = _resolved(schema, root)
    if schema is False:
        return
    if not isinstance(schema, dict) or depth > MAX_NESTED:
        yield AnyText()
    elif _CHOICES & schema.keys():
        yield from (LiteralValue(value if isinstance(value, str) else _json(value)) for value in _choices(schema))
    elif _own(schema) == {"anyOf"}:
        for option in schema["anyOf"]:
            yield from _ways(option, root, depth + 1)
    elif "string" in (types := types_of(schema, root)) or not types:
        yield AnyText()
    else:
        yield JsonValue(_alone(schema, root))


def _unbounded_value(value: Any, path: str, root: Json) -> Iterator[SchemaFault]:
    """Of one argument."""
    ways = ways_of(value, root)
    if any(isinstance(way, LiteralValue) and any(end in way.text for end in ENDS_VALUE) for way in ways):
        yield SchemaFault(path, _REASON)
    if all(isinstance(way, JsonValue) for way in ways):
        return
    any_text = AnyText() in ways
    for place, part in _in_place(value, path, root, 0):
        types = types_of(part, root) or {"string"}
        bounds = _bounds_of_text(part, place, types) if any_text else _bounds_of_choice(part)
        for keyword in sorted(bounds):
            yield SchemaFault(f"{place}/{keyword}", _REASON)


def _bounds_of_text(schema: Json, place: str, types: set[str]) -> set[str]:
    bounds = {keyword for keyword in ENFORCED & schema.keys() if _bounds(keyword, types)} | ({"oneOf"} & schema.keys())
    subsumed = "allOf" not in place and all(isinstance(one, str) for one in _choices(schema))
    return bounds if subsumed else bounds | (_CHOICES & schema.keys())


def _bounds_of_choice(schema: Json) -> set[str]:
    is_choice = bool(_CHOICES & schema.keys())
    return set(KEPT & schema.keys() - _CHOICES - DEFINITIONS - {"type"}) if is_choice else set()


def _bounds(keyword: str, types: set[str]) -> bool:
    """Whether a keyword says something of values of these types."""
    if keyword in _OF_TEXTS:
        return "string" in types
    if keyword in NUMBERS:
        return bool(types & {"number", "integer"})
    if "tems" in keyword:  # items, prefixItems, minItems …
        return "array" in types
    return keyword != "type" and "object" in types


def _in_place(schema: Any, path: str, root: Json, depth: int) -> Iterator[tuple[str, Json]]:
    """A schema and those that describe the same value, each with its place."""
    if not isinstance(schema, dict) or depth > MAX_NESTED:
        return
    yield path, schema
    for place, inner in _beside(schema, path, root):
        yield from _in_place(inner, place, root, depth + 1)


def _beside(schema: Json, path: str, root: Json) -> Iterator[tuple[str, Any]]:
    for keyword in _OPTIONS:
        options = schema.get(keyword)
        for number, option in enumerate(options if isinstance(options, list) else ()):
            yield f"{path}/{keyword}/{number}", option
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        yield unquote(reference[1:]), _target(reference, root)


def _root(schema: Json) -> Json:
    """What names the arguments; that they are an object says the markup itself."""
    root = _resolved({name: value for name, value in schema.items() if name != "type"}, schema)
    return root if isinstance(root, dict) else {}


def _resolved(schema: Any, root: Json) -> Any:
    """What a schema names that does nothing else; a schema of one part is that part."""
    for _ in range(MAX_HOPS):
        if not isinstance(schema, dict):
            break
        if (own := _own(schema)) == {"$ref"}:
            schema = _target(str(schema["$ref"]), root)
        elif own == {"allOf"} and isinstance(schema["allOf"], list) and len(schema["allOf"]) == 1:
            schema = schema["allOf"][0]
        else:
            break
    return schema


def _target(reference: str, root: Json) -> Any:
    found: Any = root
    for step in unquote(reference[1:]).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def _own(schema: Json) -> set[str]:
    return set(schema) - ANNOTATIONS - DEFINITIONS


def _choices(schema: Json) -> list[Any]:
    values = schema.get("enum")
    return [schema["const"]] if "const" in schema else values if isinstance(values, list) else []


def _alone(schema: Json, root: Json) -> Json:
    """A part of a schema by itself: what its references name comes with it."""
    if '"$ref"' not in _json(schema):
        return schema
    kept = {name: value for name, value in schema.items() if name not in DEFINITIONS}
    return {**_moved(kept), "$defs": {"root": _moved(root)}}


def _moved(value: Any) -> Any:
    """With references into the definition `root` in place of those into the root."""
    if isinstance(value, list):
        return [_moved(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    made = {name: inner if name in _CHOICES else _moved(inner) for name, inner in value.items()}
    if isinstance(reference := value.get("$ref"), str) and reference.startswith("#"):
        made["$ref"] = f"#/$defs/root{reference[1:]}"
    return made


def _is_writable(name: str) -> bool:
    return bool(name) and name == name.strip() and len(name) <= 256 and not set(name) & set("<>\n")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
