"""A schema that is a hint: what can't be enforced of it is left out, and never so that it allows less. Pure."""

import copy
from typing import Any

from engines.runner.generation.grammar.schemas import OF_LISTS, OF_MAPS, OF_ONE, SchemaFault, faults, places
from engines.types.common import Json

MAX_ROUNDS = 50
_OF_TUPLES = ("items", "prefixItems", "additionalItems")


def loosened(schema: Json) -> tuple[Json, list[SchemaFault]]:
    """What is enforced of a schema, and what is left out of it."""
    left_out: list[SchemaFault] = []
    for _ in range(MAX_ROUNDS):
        found = list(faults(schema))
        if not found:
            return schema, left_out
        for fault in found:
            schema = without(schema, fault.path)
        left_out += found
    return {}, [*left_out, SchemaFault("", "it has too many faults")]


def without(schema: Json, path: str) -> Json:
    """A copy that lacks what is at `path`, a JSON pointer to a keyword or to a schema; it allows no less.

    To drop a keyword allows more, but for those that another one rests on: then that one goes too. And where an option
    of `oneOf` allows more, fewer documents are exactly one of them, so each becomes an `anyOf`.
    """
    if not path:
        return {}
    root: Json = copy.deepcopy(schema)
    _drop(root, [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")])
    for _, inner in [("", root), *places(root, "")]:
        if isinstance(inner, dict) and isinstance(inner.get("oneOf"), list):
            _choose_any(inner)
    return root


def _drop(schema: Any, steps: list[str]) -> None:
    if not isinstance(schema, dict) or steps[0] not in schema:
        return
    keyword, *rest = steps
    value = schema[keyword]
    if keyword in OF_MAPS and isinstance(value, dict) and rest:
        if len(rest) > 1:
            _drop(value.get(rest[0]), rest[1:])
        elif keyword == "patternProperties":
            value.pop(rest[0], None)
            schema["additionalProperties"] = True
        else:
            value[rest[0]] = True
    elif keyword in OF_LISTS and isinstance(value, list) and rest:
        if len(rest) > 1:
            _drop(value[int(rest[0])], rest[1:])
        else:
            value[int(rest[0])] = True
    elif keyword in OF_ONE and rest:
        _drop(value, rest)
    else:
        _drop_keyword(schema, keyword)


def _drop_keyword(schema: Json, keyword: str) -> None:
    if keyword == "oneOf" and isinstance(schema[keyword], list) and schema[keyword]:
        _choose_any(schema)
        return
    schema.pop(keyword)
    if keyword in _OF_TUPLES:
        for other in _OF_TUPLES:
            schema.pop(other, None)
    elif keyword in ("properties", "patternProperties", "additionalProperties"):
        schema["additionalProperties"] = True


def _choose_any(schema: Json) -> None:
    """`anyOf` in place of `oneOf`."""
    if "anyOf" in schema:
        schema["allOf"] = [*schema.get("allOf", ()), {"anyOf": schema.pop("oneOf")}]
        return
    items = list(schema.items())
    schema.clear()
    schema.update({"anyOf" if keyword == "oneOf" else keyword: value for keyword, value in items})
