"""Arguments that a markup writes one by one: what of a schema holds there is written so, and what can't is told."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from engines.runner.chat.call_formats import QWEN3_CODER
from engines.runner.chat.reply import ReplyParser
from engines.runner.generation.grammar.compiler import GrammarCompiler
from engines.types.chat import Tool, ToolChoice
from engines.types.errors import InvalidRequest
from tests.engines.runner.generation.grammar import test_markups as calls
from tests.promises import promise

tokenizer = calls.tokenizer  # a fixture
NAMED = ToolChoice("named", "f", parallel=False)
TEXT: dict[str, Any] = {"type": "string"}
UNIT = {"enum": ["C", "F"], "type": "string"}
POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def of(value: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": value}, **more}


def written(**arguments: str) -> str:
    parts = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in arguments.items())
    return f"<tool_call>\n<function=f>\n{parts}</function>\n</tool_call>"


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return calls.compiler(tokenizer, "qwen3_coder")


def read(schema: dict[str, Any], text: str) -> Any:
    parser = ReplyParser({"f": schema}, thinking="absent", format=QWEN3_CODER)
    pieces = [call.arguments for c in text for delta in parser.feed(c) for call in delta.calls]
    return json.loads("".join(pieces))


DEFS = {"$defs": {"unit": UNIT, "point": POINT, "id": {"type": "string", "pattern": "^x"}}}
TREE = of({"type": "array", "items": {"$ref": "#"}})
# A schema, then what the markup may hold with what it means, and what it may not.
HELD: dict[str, tuple[dict[str, Any], list[tuple[dict[str, str], Any]], list[dict[str, str]]]] = {
    "a choice by reference": (of({"$ref": "#/$defs/unit"}, **DEFS), [({"a": "C"}, {"a": "C"})], [{"a": "K"}]),
    "a choice within one part": (
        of({"allOf": [{"$ref": "#/$defs/unit"}], "default": "C"}, **DEFS),
        [({"a": "C"}, {"a": "C"})],
        [{"a": "K"}],
    ),
    "a choice or null": (
        of({"anyOf": [{"$ref": "#/$defs/unit"}, {"type": "null"}]}, **DEFS),
        [({"a": "C"}, {"a": "C"}), ({"a": "null"}, {"a": None})],
        [{"a": "K"}],
    ),
    "null among choices": (
        of({"type": ["string", "null"], "enum": ["C", None]}),
        [({"a": "C"}, {"a": "C"}), ({"a": "null"}, {"a": None})],
        [{"a": "K"}],
    ),
    "choices of several types": (of({"enum": ["C", 1]}), [({"a": "1"}, {"a": 1})], [{"a": "2"}]),
    "an object by reference": (
        of({"$ref": "#/$defs/point"}, **DEFS),
        [({"a": '{"x": 1}'}, {"a": {"x": 1}})],
        [{"a": "text"}, {"a": '{"x": "1"}'}],
    ),
    "an object or null": (
        of({"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]}, **DEFS),
        [({"a": '{"x": 1}'}, {"a": {"x": 1}}), ({"a": "null"}, {"a": None})],
        [{"a": "text"}],
    ),
    "itself": (
        TREE,
        [({"a": '[{"a": []}]'}, {"a": [{"a": []}]})],
        [{"a": "[[]]"}, {"a": "[1]"}],
    ),
    "by reference at the root": (
        {"$ref": "#/$defs/point", **DEFS},
        [({"x": "1"}, {"x": 1})],
        [{"x": "a"}, {"x": "1", "y": "1"}, {}],
    ),
    "others": (
        of(TEXT, additionalProperties=True),
        [({"a": "1", "b": "2", "aa": "3"}, {"a": "1", "b": "2", "aa": "3"}), ({}, {})],
        [{"b": "2", "a": "1"}, {"a": "1", "a ": "2"}],
    ),
    "others of a type": (
        of(TEXT, additionalProperties={"type": "integer"}),
        [({"a": "1", "b": "2"}, {"a": "1", "b": 2})],
        [{"a": "1", "b": "many"}],
    ),
    "others that are needed": (
        of(TEXT, additionalProperties={"type": "integer"}, required=["b"]),
        [({"b": "2"}, {"b": 2}), ({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": 2, "c": 3})],
        [{"a": "1"}],
    ),
    "none": (of(TEXT), [({"a": "1"}, {"a": "1"})], [{"a": "1", "b": "2"}]),
    "never": (of(False), [({}, {})], [{"a": "1"}]),
}


@promise("chat:calls:families")
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", HELD)
def test_what_holds_in_json_holds_here(
    tokenizer: Tokenizer, compiler: GrammarCompiler, name: str, strict: bool
) -> None:
    schema, right, wrong = HELD[name]
    grammar = compiler.answer(None, (Tool("f", parameters=schema, strict=strict),), NAMED)
    assert grammar is not None and grammar.adjusted == ()
    for given, meant in right:
        assert calls.allows(tokenizer, grammar, written(**given)), given
        assert read(schema, written(**given)) == meant
    for given in wrong:
        assert not calls.allows(tokenizer, grammar, written(**given)), given


TOLD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a pattern": (of({**TEXT, "pattern": "^x$"}), ["/properties/a/pattern"]),
    "a format": (of({**TEXT, "format": "date"}), ["/properties/a/format"]),
    "lengths": (of({**TEXT, "minLength": 1, "maxLength": 3}), ["/properties/a/maxLength", "/properties/a/minLength"]),
    "without a type": (of({"pattern": "^x$"}), ["/properties/a/pattern"]),
    "by reference": (of({"$ref": "#/$defs/id"}, **DEFS), ["/$defs/id/pattern"]),
    "or null": (of({"anyOf": [{**TEXT, "minLength": 1}, {"type": "null"}]}), ["/properties/a/anyOf/0/minLength"]),
    "one of": (of({"oneOf": [{**TEXT, "minLength": 1}, {"type": "null"}]}), ["/properties/a/oneOf/0/minLength"]),
    "a number or a text": (of({"type": ["integer", "string"], "minimum": 3}), ["/properties/a/minimum"]),
    "an object or a text": (
        of({"anyOf": [POINT, TEXT]}),
        ["/properties/a/anyOf/0/properties", "/properties/a/anyOf/0/required"],
    ),
    "a choice with a pattern": (of({**UNIT, "pattern": "^C$"}), ["/properties/a/pattern"]),
    "others": (of(TEXT, additionalProperties={**TEXT, "pattern": "^x"}), ["/additionalProperties/pattern"]),
    "names by pattern": (of(TEXT, patternProperties={"^x": TEXT}), ["/patternProperties"]),
    "a number of properties": (of(TEXT, minProperties=1), ["/minProperties"]),
    "any of": (of(TEXT, anyOf=[{"required": ["a"]}, {"required": []}]), ["/anyOf"]),
    "a name that ends the name": ({"type": "object", "properties": {"a>": TEXT}}, ["/properties/a>"]),
    "a choice that ends the value": (of({"enum": ["</parameter>"]}), ["/properties/a"]),
}


@promise("chat:tools:hints")
@pytest.mark.parametrize("name", TOLD)
def test_what_can_not_hold_is_told_and_refused_of_strict_tools(compiler: GrammarCompiler, name: str) -> None:
    schema, places = TOLD[name]
    grammar = compiler.answer(None, (Tool("f", parameters=schema),), NAMED)
    assert grammar is not None
    assert [one.how.split(" ")[0] for one in grammar.adjusted] == places
    with pytest.raises(InvalidRequest, match=places[0].replace("$", r"\$")):
        compiler.answer(None, (Tool("f", parameters=schema, strict=True),), NAMED)


def test_what_nothing_bounds_is_told_by_nobody(compiler: GrammarCompiler) -> None:
    for value in (TEXT, UNIT, POINT, True, {}, {"type": ["string", "null"]}, {"anyOf": [UNIT, TEXT]}, {"minimum": 3}):
        grammar = compiler.answer(None, (Tool("f", parameters=of(value)),), NAMED)
        assert grammar is not None and grammar.adjusted == (), value
