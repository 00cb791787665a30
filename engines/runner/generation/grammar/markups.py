"""The grammars of calls, by the markup in which a family of models writes them. Pure.

A JSON call has its arguments' schema. In Qwen3-Coder's markup each argument stands by itself (`parameters`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from engines.runner.generation.grammar.parameters import (
    AnyText,
    JsonValue,
    LiteralValue,
    arguments_of,
    unbounded,
    ways_of,
)
from engines.runner.generation.grammar.schemas import SchemaFault, cut, json_text
from engines.types.common import Json

Markup = Literal["hermes", "qwen3_coder", "mistral", "mistral_args", "mistral_id"]
Styled = Callable[[Json], Json]
Marks = Mapping[str, int]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_XML_NAME = r"/[^<>\s]([^<>\n]{0,100}[^<>\s])?/"
_CALLS, _ARGS, _CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"


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


def unenforced(markup: Markup, schema: Json) -> list[SchemaFault]:
    """What of a schema can't be enforced in this markup, though it can in JSON; by its place in the schema as given."""
    if markup != "qwen3_coder":
        return []
    found = [SchemaFault(_place_in(schema, fault.path), fault.reason) for fault in unbounded(cut(schema))]
    return list(dict.fromkeys(found))


def _place_in(schema: Json, path: str) -> str:
    """A place in what `cut` makes of a schema, as the place in it."""
    given = {"anyOf": "oneOf", "pattern": "format"}
    found: object = schema
    steps: list[str] = []
    for step in path.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name not in found and given.get(name) in found:
            step = name = given[name]
        steps.append(step)
        if isinstance(found, list):
            found = found[int(name)] if int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return "".join(f"/{step}" for step in steps)


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
    at, wanted = f"call_{callee.index}", arguments_of(callee.schema)
    parts = [f"{at}_{place}{'' if name in wanted.required else '?'}" for place, name in enumerate(wanted.known)]
    others = _xml_value(wanted.others, callee.schema, at, styled)
    if others:
        parts.append(f"{at}_other*")
        known = " | ".join(json_text(name) for name in wanted.known)
        yield f"{at.upper()}_NAME: {_XML_NAME}" + (f" & ~({known})" if known else "")
        yield f'{at}_other: "<parameter=" {at.upper()}_NAME ">\\n" {others} "\\n"'
    yield f'{at}: {json_text(f"<function={callee.name}>")} "\\n" {" ".join(parts)} "</function>"'
    yield f'{at}_text[suffix="</parameter>"]: /(.|\\n)*/'
    for place, (name, value) in enumerate(wanted.known.items()):
        head = json_text(f"<parameter={name}>\n")
        yield f'{at}_{place}: {head} {_xml_value(value, callee.schema, at, styled)} "\\n"'


def _xml_value(value: object, root: Json, at: str, styled: Styled) -> str:
    """A value and its end mark; empty if there is none."""
    texts: list[str] = []
    for way in ways_of(value, root):
        match way:
            case AnyText():
                return f"{at}_text"
            case JsonValue(schema):
                texts.append(f"%json {json_text(styled(schema))}")
            case LiteralValue(text):
                texts.append(json_text(text))
    return f'({" | ".join(texts)}) "\\n</parameter>"' if texts else ""


def _mark(text: str, marks: Marks) -> str:
    return f"<[{marks[text]}]>" if text in marks else json_text(text)
