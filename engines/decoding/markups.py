"""The grammars of calls, by the markup in which a family of models writes them. Pure.

A JSON call has its arguments' schema. In Qwen3-Coder's markup each argument stands by itself: a string as it is, up to
its end mark, any other value as JSON; what strings must look like can't be enforced there, but a choice of them can.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from engines.decoding.schemas import DEFINITIONS, Fault, json_text
from engines.types import Json

Markup = Literal["hermes", "qwen3_coder", "mistral", "mistral_args", "mistral_id"]
Styled = Callable[[Json], Json]
Marks = Mapping[str, int]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_CALLS, _ARGS, _CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_OF_TEXTS = frozenset({"pattern", "format", "minLength", "maxLength"})


class Callee(msgspec.Struct, frozen=True):
    """A tool that may be called: its place in the request, its name, and the schema that its arguments follow."""

    index: int
    name: str
    schema: Json


class Shape(msgspec.Struct, frozen=True):
    """Around the calls: whether several may come; whether only what follows an opening mark is meant; or a document."""

    parallel: bool
    body_only: bool
    document: bool


def call_rules(markup: Markup, callees: Sequence[Callee], shape: Shape, marks: Marks, styled: Styled) -> Iterator[str]:
    """Lark's rules, of which `start` is the first."""
    if not shape.body_only:
        yield "start: calls | @answer" if shape.document else "start: calls"
    match markup:
        case "hermes" | "qwen3_coder":
            yield from _in_tags(shape, marks)
        case "mistral":
            yield from _in_a_list(shape, marks)
        case "mistral_args" | "mistral_id":
            yield from _by_name(shape, marks)
    yield f"one: {' | '.join(f'call_{callee.index}' for callee in callees)}"
    for callee in callees:
        match markup:
            case "hermes" | "mistral":
                head = json_text(f'{{"name": {json_text(callee.name)}, "arguments": ')
                yield f'call_{callee.index}: {head} %json {json_text(styled(callee.schema))} "}}"'
            case "qwen3_coder":
                yield from _xml_call(callee, styled)
            case _:
                id = f"{_mark(_CALL_ID, marks)} /[a-zA-Z0-9]{{9}}/ " if markup == "mistral_id" else ""
                given = f"{id}{_mark(_ARGS, marks)} %json {json_text(styled(callee.schema))}"
                yield f"call_{callee.index}: {json_text(callee.name)} {given}"


def strict_fault(markup: Markup, schema: Json) -> Fault | None:
    """What of a strict schema can't be enforced in this markup, though it can in JSON."""
    properties = schema.get("properties")
    if markup != "qwen3_coder":
        return None
    for name, value in properties.items() if isinstance(properties, dict) else ():
        if isinstance(value, dict) and "string" in types_of(value):
            for keyword in sorted(_OF_TEXTS & value.keys()):
                return Fault(f"/properties/{name}/{keyword}", "this model's markup of calls has no bounds for strings")
    return None


def types_of(schema: Any) -> set[str]:
    """The types that a schema names for a value; none if it says nothing."""
    if not isinstance(schema, dict):
        return set()
    given = schema.get("type")
    types = {given} if isinstance(given, str) else {one for one in given if isinstance(one, str)} if given else set()
    for name in ("anyOf", "oneOf", "allOf"):
        options = schema.get(name)
        for option in options if isinstance(options, list) else ():
            types |= types_of(option)
    return types or {type_of(value) for value in _choices(schema)}


def type_of(value: object) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _choices(schema: Json) -> list[Any]:
    values = schema.get("enum")
    return values if isinstance(values, list) else [schema["const"]] if "const" in schema else []


def _in_tags(shape: Shape, marks: Marks) -> Iterator[str]:
    if shape.body_only:
        # The token that completed a mark written as text may have held the line's end already.
        yield 'start: "\\n"? body'
    else:
        yield 'calls: call ("\\n" call)*' if shape.parallel else "calls: call"
        yield f'call: {_mark(_OPEN, marks)} "\\n" body'
    yield f'body: one "\\n" {_mark(_CLOSE, marks)}'


def _in_a_list(shape: Shape, marks: Marks) -> Iterator[str]:
    yield "start: body" if shape.body_only else f"calls: {_mark(_CALLS, marks)} body"
    more = '(", " one)*' if shape.parallel else ""
    yield f'body: " "? "[" one {more} "]"'


def _by_name(shape: Shape, marks: Marks) -> Iterator[str]:
    if shape.body_only:
        yield "start: one"
    else:
        yield "calls: call+" if shape.parallel else "calls: call"
        yield f"call: {_mark(_CALLS, marks)} one"


def _xml_call(callee: Callee, styled: Styled) -> Iterator[str]:
    at = f"call_{callee.index}"
    properties = callee.schema.get("properties")
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    free = not known and callee.schema.get("additionalProperties") is not False
    required = callee.schema.get("required")
    needed = set(required) if isinstance(required, list) else set()
    parts = [f"{at}_{place}{'' if name in needed else '?'}" for place, name in enumerate(known)]
    if free:
        parts = [f"{at}_any*"]
        yield f'{at}_any: "<parameter=" /[^<>\\n]+/ ">\\n" {at}_text "\\n"'
    yield f'{at}: {json_text(f"<function={callee.name}>")} "\\n" {" ".join(parts)} "</function>"'
    yield f'{at}_text[suffix="</parameter>"]: /(.|\\n)*/'
    definitions = {name: callee.schema[name] for name in DEFINITIONS if name in callee.schema}
    for place, (name, value) in enumerate(known.items()):
        head = json_text(f"<parameter={name}>\n")
        yield f'{at}_{place}: {head} {_xml_value(value, definitions, at, styled)} "\\n"'


def _xml_value(value: Any, definitions: Json, at: str, styled: Styled) -> str:
    """A value and its end mark."""
    types = types_of(value)
    choices = [choice for choice in _choices(value) if isinstance(choice, str)] if isinstance(value, dict) else []
    if choices and types == {"string"}:
        return f'({" | ".join(json_text(choice) for choice in choices)}) "\\n</parameter>"'
    if not types or "string" in types:
        return f"{at}_text"
    return f'%json {json_text(styled({**value, **definitions}))} "\\n</parameter>"'


def _mark(text: str, marks: Marks) -> str:
    return f"<[{marks[text]}]>" if text in marks else json_text(text)
