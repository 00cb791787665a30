"""A JSON schema, cut down to the keywords that are enforced. Pure.

One that holds anything else, and not as a plain annotation, is refused with the path to it: nothing is ignored in
silence.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from engines.runner.generation.grammar.patterns import FORMATS, pattern_fault
from engines.types.common import Json
from engines.types.errors import InvalidRequest

MAX_SCHEMA_BYTES = 256 * 1024
MAX_DEPTH = 100
MAX_HOPS = 8
MAX_OPTIONS, MAX_NESTED = 100, 3  # of a oneOf that is looked into
MAX_ROUNDS = 50

IN_PLACE = frozenset({"const", "enum", "allOf", "anyOf", "oneOf", "$ref"})
DEFINITIONS = frozenset({"$defs", "definitions"})
ENFORCED = frozenset(
    "type items prefixItems additionalItems minItems maxItems properties additionalProperties patternProperties "
    "required minProperties maxProperties minLength maxLength pattern format minimum maximum exclusiveMinimum "
    "exclusiveMaximum multipleOf".split()
)
KEPT = ENFORCED | IN_PLACE | DEFINITIONS
ANNOTATIONS = frozenset(
    "title description default example examples $comment deprecated readOnly writeOnly contentMediaType "
    "contentEncoding discriminator $schema $anchor".split()
)
WITHOUT_EFFECT = {"uniqueItems": False, "nullable": False, "unevaluatedProperties": True, "unevaluatedItems": True}
OF_MAPS = ("properties", "patternProperties", "$defs", "definitions")
OF_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
OF_ONE = ("items", "additionalItems", "additionalProperties")
TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
COUNTS = frozenset({"minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"})
NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
EXACT = 2**53  # llguidance reads numbers as floats
KNOWN_FORMATS = frozenset({*FORMATS, "duration", "email", "ipv4", "ipv6", "uuid", "uri"})


class SchemaFault(NamedTuple):
    """What can't be enforced: a JSON pointer to a keyword or a schema, and the reason."""

    path: str
    reason: str


def enforced(schema: object, at: str) -> Json:
    """A schema without what is a mere annotation. Raises `InvalidRequest` for what else we can't enforce."""
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{at} must hold a JSON schema, an object.", param=at)
    for fault in faults(schema):
        raise schema_refused(at, fault)
    return cut(schema)


def faults(schema: Json) -> Iterator[SchemaFault]:
    """All of a schema that can't be enforced, as far as it shows without compiling it."""
    if _deeper_than(schema, MAX_DEPTH):
        yield SchemaFault("", f"it is nested deeper than {MAX_DEPTH} levels")
    elif len(json_text(schema).encode()) > MAX_SCHEMA_BYTES:
        yield SchemaFault("", f"it is longer than {MAX_SCHEMA_BYTES // 1024} KB")
    else:
        yield from _Schema(schema).faults()


def cut(schema: Json) -> Json:
    """A schema without faults as llguidance gets it: what is enforced of it, in its order."""
    return _Schema(schema).cut()


def schema_refused(at: str, fault: SchemaFault) -> InvalidRequest:
    """The error for a fault of the schema in the field `at`."""
    where = fault.path or "as a whole"
    return InvalidRequest(f"The schema in {at} can't be enforced: {where}: {fault.reason}.", param=at)


def json_text(value: object) -> str:
    """As JSON, every character as it stands."""
    return json.dumps(value, ensure_ascii=False)


def _deeper_than(value: object, depth: int) -> bool:
    level: list[object] = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def places(schema: object, path: str) -> Iterator[tuple[str, object]]:
    """All schemas inside a schema, each with its path, inner ones first."""
    for place, inner in _children(schema, path):
        yield from places(inner, place)
        yield place, inner


def _children(schema: object, path: str) -> Iterator[tuple[str, object]]:
    for keyword, value in schema.items() if isinstance(schema, dict) else ():
        if keyword in OF_MAPS and isinstance(value, dict):
            for name, inner in value.items():
                yield f"{path}/{keyword}/{_escaped(name)}", inner
        elif keyword in OF_LISTS and isinstance(value, list):
            for index, inner in enumerate(value):
                yield f"{path}/{keyword}/{index}", inner
        elif keyword in OF_ONE:
            yield f"{path}/{keyword}", value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


class _Schema:
    """One schema on its way to llguidance; paths are JSON pointers."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._places: dict[str, object] = {"": root, **dict(places(root, ""))}

    def faults(self) -> Iterator[SchemaFault]:
        found = False
        for path, schema in self._places.items():
            for fault in self._faults_of(schema, path):
                found = True
                yield fault
        if not found:
            yield from self._endless()

    def cut(self) -> Json:
        return self._cut(self._root)

    def _faults_of(self, schema: object, path: str) -> Iterator[SchemaFault]:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            yield SchemaFault(path, "a schema must be an object or a boolean")
            return
        misshapen = False
        for keyword, value in schema.items():
            here = f"{path}/{_escaped(keyword)}"
            if keyword not in KEPT:
                if not _is_idle(keyword, value, path):
                    yield SchemaFault(here, f"the keyword {keyword} isn't supported")
            elif wrong := _misshapen(keyword, value):
                misshapen = True
                yield SchemaFault(here, wrong)
            else:
                yield from self._value_faults(keyword, value, here)
        if not misshapen:
            yield from _faults_together(schema, path)

    def _cut(self, schema: Json) -> Json:
        kept = {keyword: value for keyword, value in schema.items() if keyword in KEPT}
        kept = self._formatted(self._chosen(_grouped(kept)))
        return {keyword: self._cut_inside(keyword, value) for keyword, value in kept.items()}

    def _cut_inside(self, keyword: str, value: Any) -> object:
        if keyword in OF_MAPS:
            return {name: self._cut_value(inner) for name, inner in value.items()}
        if keyword in OF_LISTS and isinstance(value, list):
            return [self._cut_value(inner) for inner in value]
        if keyword == "$ref":
            return "#" + quote(unquote(value[1:]))  # llguidance wants a proper URI
        return self._cut_value(value) if keyword in OF_ONE else value

    def _cut_value(self, schema: Json | bool) -> Json | bool:
        return schema if isinstance(schema, bool) else self._cut(schema)

    def _value_faults(self, keyword: str, value: Any, here: str) -> Iterator[SchemaFault]:
        if keyword == "$ref" and not self._is_reference(value):
            yield SchemaFault(here, f"{value} doesn't name a schema in this one (#, or #/ and a path)")
        if keyword == "format" and value not in KNOWN_FORMATS:
            yield SchemaFault(here, f"the format {value} isn't supported, only {', '.join(sorted(KNOWN_FORMATS))}")
        if keyword == "pattern" and (wrong := pattern_fault(value)):
            yield SchemaFault(here, wrong)
        if keyword == "patternProperties":
            for pattern in value:
                if wrong := pattern_fault(pattern):
                    yield SchemaFault(f"{here}/{_escaped(pattern)}", wrong)
        if keyword in NUMBERS | {"const", "enum"} and any(abs(number) > EXACT for number in _integers(value)):
            yield SchemaFault(here, "integers beyond 2^53 can't be told apart")

    def _is_reference(self, value: str) -> bool:
        return value[:1] == "#" and isinstance(self._target(value), dict | bool)

    def _target(self, reference: str) -> object:
        return self._places.get(unquote(reference[1:]))

    def _formatted(self, schema: Json) -> Json:
        """With our own patterns for some formats."""
        if schema.get("format") not in FORMATS:
            return schema
        pattern = {"pattern": f"^(?:{FORMATS[schema['format']]})$"}
        rest = {keyword: value for keyword, value in schema.items() if keyword != "format"}
        if "pattern" not in rest:
            return {**rest, **pattern}
        return {**rest, "allOf": [*rest.get("allOf", ()), pattern]}

    def _chosen(self, schema: Json) -> Json:
        """With `anyOf` in place of a `oneOf` whose options exclude each other."""
        options = schema.get("oneOf", ())
        if not 0 < len(options) <= MAX_OPTIONS or "anyOf" in schema:
            return schema
        if not all(self._apart(one, other, 0) for one, other in combinations(options, 2)):
            return schema
        return {"anyOf" if keyword == "oneOf" else keyword: value for keyword, value in schema.items()}

    def _apart(self, one: object, other: object, depth: int) -> bool:
        """No document is both; False if that isn't plain to see."""
        one, other = self._resolved(one), self._resolved(other)
        if depth > MAX_NESTED or not isinstance(one, dict) or not isinstance(other, dict):
            return False
        if not _types(one) & _types(other):
            return True
        values, others = _values(one), _values(other)
        if values is not None and others is not None:
            return not values & others
        keys = {*one.get("required", ()), *other.get("required", ())}
        parts, others_parts = one.get("properties", {}), other.get("properties", {})
        is_object = _types(one) == {"object"} or _types(other) == {"object"}
        shared = [key for key in keys if key in parts and key in others_parts]
        return is_object and any(self._apart(parts[key], others_parts[key], depth + 1) for key in shared)

    def _resolved(self, schema: object) -> object:
        for _ in range(MAX_HOPS):
            if not isinstance(schema, dict) or set(schema) - ANNOTATIONS != {"$ref"}:
                break
            schema = self._target(str(schema["$ref"]))
        return schema

    def _endless(self) -> Iterator[SchemaFault]:
        """References that only lead on to themselves, so that no document ends."""
        schemas = [schema for schema in self._places.values() if isinstance(schema, dict)]
        targets = {schema["$ref"] for schema in schemas if "$ref" in schema}
        ending: set[str] = set()
        for _ in range(MAX_ROUNDS):
            found = {name for name in targets - ending if _ends(self._target(name), ending)}
            ending |= found
            if not found:
                break
        else:
            return
        for name in sorted(targets - ending):
            if self._target(name) is not False:
                yield SchemaFault(unquote(name[1:]), "no document that ends can satisfy it")


def _is_idle(keyword: str, value: object, path: str) -> bool:
    """A keyword that isn't enforced needn't be."""
    harmless = keyword in ANNOTATIONS or (keyword.startswith("x-") and keyword != "x-guidance")
    idle = keyword in WITHOUT_EFFECT and WITHOUT_EFFECT[keyword] is value
    return harmless or idle or (keyword in ("$id", "id") and not path)


def _faults_together(schema: Json, path: str) -> Iterator[SchemaFault]:
    named = schema.get("required", ())
    # Keys that aren't listed may come twice, so that more than one of them can't be counted.
    if isinstance(least := schema.get("minProperties"), int) and least > len(set(named)) + 1:
        yield SchemaFault(f"{path}/minProperties", "it may be at most one more than the required properties")
    if "prefixItems" in schema and ("additionalItems" in schema or isinstance(schema.get("items"), list)):
        yield SchemaFault(f"{path}/prefixItems", "it can't be mixed with an older draft's keywords for items")


def _ends(schema: object, ending: set[str]) -> bool:
    """A document that satisfies `schema` can end, as far as references to `ending` schemas show."""
    if not isinstance(schema, dict):
        return schema is True
    if "$ref" in schema and schema["$ref"] not in ending:
        return False
    if not all(_ends(inner, ending) for inner in schema.get("allOf", ())):
        return False
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema and not any(_ends(inner, ending) for inner in schema[keyword]):
            return False
    types = _types(schema)
    if types - {"array", "object"} or "const" in schema or "enum" in schema:
        return True
    properties = schema.get("properties", {})
    if "object" in types and all(_ends(properties.get(name, True), ending) for name in schema.get("required", ())):
        return True
    return "array" in types and all(_ends(one, ending) for one in _first_items(schema))


def _first_items(schema: Json) -> list[object]:
    """The schemas of the items that an array must have: a tuple's own, then that of all others."""
    items = schema.get("items", True)
    own = items if isinstance(items, list) else schema.get("prefixItems", [])
    others = schema.get("additionalItems", True) if isinstance(items, list) else items
    least = schema.get("minItems", 0)
    return [*own[:least], *([others] if least > len(own) else [])]


def _misshapen(keyword: str, value: object) -> str:
    """What is wrong with a keyword's value by itself; empty if nothing is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if keyword in COUNTS and not (isinstance(value, int) and is_number and value >= 0):
        return "it must be a whole number, 0 or more"
    if keyword in NUMBERS and not (is_number and (keyword != "multipleOf" or value > 0)):  # type: ignore[operator]
        return "it must be a number" + (" above 0" if keyword == "multipleOf" else "")
    if keyword in OF_MAPS and not isinstance(value, dict):
        return "it must be an object"
    if keyword in ("allOf", "anyOf", "oneOf", "prefixItems", "enum") and not (isinstance(value, list) and value):
        return "it must be a list that isn't empty"
    if keyword == "required" and not _are_texts(value):
        return "it must be a list of names"
    if keyword in ("format", "pattern", "$ref") and not isinstance(value, str):
        return "it must be a text"
    kinds = value if isinstance(value, list) else [value]
    if keyword == "type" and not (kinds and _are_texts(kinds) and TYPES.issuperset(kinds)):
        return f"{value} is no type, or none that JSON has"
    return ""


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _grouped(schema: Json) -> Json:
    """With all plain keywords together where `properties`, or else the first of them, stood.

    llguidance applies them with `allOf` and the like in the order in which they stand, which is also that of a
    document's keys; what belongs together (`properties` and `additionalProperties`) must not be torn apart.
    """
    plain = {keyword: value for keyword, value in schema.items() if keyword in ENFORCED}
    anchor = "properties" if "properties" in plain else next(iter(plain), None)
    grouped: Json = {}
    for keyword, value in schema.items():
        if keyword == anchor:
            grouped |= plain
        elif keyword not in plain:
            grouped[keyword] = value
    return grouped


def _types(schema: Json) -> set[str]:
    kinds = schema.get("type", ["null", "boolean", "number", "string", "array", "object"])
    return {"number" if kind == "integer" else kind for kind in ([kinds] if isinstance(kinds, str) else kinds)}


def _values(schema: Json) -> set[str] | None:
    """The only values there are, as JSON text; numbers as floats."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is None:
        return None
    return {json.dumps(_floats(value), sort_keys=True) for value in values}


def _floats(value: object) -> object:
    if isinstance(value, dict):
        return {name: _floats(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _integers(value: object) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list):
        for inner in _inside(value):
            yield from _integers(inner)
