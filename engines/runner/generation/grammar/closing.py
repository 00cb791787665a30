"""A schema of a tool's arguments, closed: no object has a property that the schema doesn't declare. Pure.

`additionalProperties` is obeyed wherever it stands, and an object that declares nothing stays a free map. What several
parts of a schema declare about one object together (`allOf`, a reference with siblings) is closed around them all.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from engines.runner.generation.grammar.schemas import (
    ANNOTATIONS,
    DEFINITIONS,
    IN_PLACE,
    OF_LISTS,
    OF_MAPS,
    OF_ONE,
    places,
)
from engines.types.common import Json

MAX_ROUNDS = 50
_MAPS_OF_PROPERTIES = ("properties", "patternProperties")


def closed(root: Json) -> Json:
    """The arguments' schema; at its root an object without properties is an empty one."""
    closer = _Closer(root)
    schema = closer.close(root, "", whole=True)
    declares = any(name in schema for name in ("additionalProperties", *IN_PLACE))
    return schema if declares else _with_all(schema, {name: True for name in schema.get("required", ())}, {})


class _Closer:
    """`whole` says that a schema alone describes its value; else others beside it do as well."""

    def __init__(self, root: Json) -> None:
        self._places: dict[str, object] = {"": root, **dict(places(root, ""))}
        self._shared: set[str] = set()
        for _ in range(MAX_ROUNDS):
            found = set(self._shared_within(root, "", whole=True))
            if found <= self._shared:
                break
            self._shared |= found

    def close(self, schema: Any, path: str, whole: bool) -> Any:
        if not isinstance(schema, dict):
            return schema
        whole = whole and path not in self._shared
        made = {
            keyword: self._closed_inside(keyword, value, path, whole and _is_choice_alone(schema))
            for keyword, value in schema.items()
        }
        if not whole or _is_choice_alone(schema) or "additionalProperties" in schema:
            return made
        return self._with_names(schema, made)

    def _closed_inside(self, keyword: str, value: Any, path: str, whole: bool) -> Any:
        """`whole` is that of schemas which describe the same value as the one around them."""
        whole = whole if keyword in IN_PLACE else True
        at = f"{path}/{keyword}"
        if keyword in OF_MAPS and isinstance(value, dict):
            return {name: self.close(inner, f"{at}/{_escaped(name)}", whole) for name, inner in value.items()}
        if keyword in OF_LISTS and isinstance(value, list):
            return [self.close(inner, f"{at}/{index}", whole) for index, inner in enumerate(value)]
        return self.close(value, at, whole) if keyword in OF_ONE else value

    def _with_names(self, schema: Json, made: Json) -> Json:
        parts = list(self._parts(schema, set()))
        declared = [part for part in parts if any(keyword in part for keyword in _MAPS_OF_PROPERTIES)]
        says_so = any(part.get("additionalProperties", False) is not False for part in parts)
        if not declared or says_so:
            return made
        names = {name: True for part in parts for name in (*part.get("properties", {}), *part.get("required", ()))}
        patterns = {pattern: True for part in parts for pattern in part.get("patternProperties", {})}
        return _with_all(made, names, patterns)

    def _parts(self, schema: object, seen: set[str]) -> Iterator[Json]:
        """The schema, and all that describe the same value."""
        if not isinstance(schema, dict):
            return
        yield schema
        for keyword in ("allOf", "anyOf", "oneOf"):
            for inner in schema.get(keyword, ()):
                yield from self._parts(inner, seen)
        if (target := _target(schema)) is not None and target not in seen:
            seen.add(target)
            yield from self._parts(self._places.get(target), seen)

    def _shared_within(self, schema: object, path: str, whole: bool) -> Iterator[str]:
        """The places of schemas that a reference makes a part of something larger."""
        if not isinstance(schema, dict):
            return
        whole = whole and path not in self._shared
        alone = whole and _is_choice_alone(schema)
        if (target := _target(schema)) is not None and not alone:
            yield target
        for keyword, value in schema.items():
            inner_whole = alone if keyword in IN_PLACE else True
            items: Any = ()
            if keyword in OF_MAPS and isinstance(value, dict):
                items = [(f"{path}/{keyword}/{_escaped(name)}", inner) for name, inner in value.items()]
            elif keyword in OF_LISTS and isinstance(value, list):
                items = [(f"{path}/{keyword}/{index}", inner) for index, inner in enumerate(value)]
            elif keyword in OF_ONE:
                items = [(f"{path}/{keyword}", value)]
            for at, inner in items:
                yield from self._shared_within(inner, at, inner_whole)


def _is_choice_alone(schema: Json) -> bool:
    """It only says which other schema describes the value."""
    own = schema.keys() - ANNOTATIONS - DEFINITIONS - {"type"}
    return len(own) == 1 and own <= {"anyOf", "oneOf", "$ref"} and not (own == {"$ref"} and "type" in schema)


def _with_all(schema: Json, names: Json, patterns: Json) -> Json:
    added: Json = {"properties": {**schema.get("properties", {})}}
    added["properties"] |= {name: True for name in names if name not in added["properties"]}
    if patterns:
        added["patternProperties"] = {**patterns, **schema.get("patternProperties", {})}
    return {**schema, **added, "additionalProperties": False}


def _target(schema: Json) -> str | None:
    reference = schema.get("$ref")
    return unquote(reference[1:]) if isinstance(reference, str) and reference.startswith("#") else None


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
