"""A tool's schema without `strict` is a hint: what can't be enforced is left out, by its place, and the rest holds."""

import copy
import json
import re
from typing import Any

import jsonschema
import pytest

from engines.runner.generation.grammar.closing import closed
from engines.runner.generation.grammar.loosening import loosened, without
from engines.types.chat import Tool, ToolChoice
from tests.engines.runner.generation.grammar import test_compiler as walker
from tests.engines.runner.generation.grammar.test_compiler import CITY, WALKS, Model, refusal
from tests.promises import promise

qwen3, gemma3, model = walker.qwen3, walker.gemma3, walker.model  # fixtures
GOOD = Tool("good", "", CITY)
AT = "tools[1].function.parameters"


def of(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part, "n": {"type": "integer"}}, "required": ["a", "n"]}


HINTS: dict[str, tuple[dict[str, Any], str]] = {
    "looking ahead": (of({"type": "string", "pattern": "^(?!x)[a-z]+$"}), "/properties/a/pattern"),
    "no regular expression": (of({"type": "string", "pattern": "("}), "/properties/a/pattern"),
    "too complex": (of({"type": "string", "pattern": "(a{1000}){1000}"}), "/properties/a/pattern"),
    "unique items": (
        of({"type": "array", "items": {"type": "null"}, "uniqueItems": True}),
        "/properties/a/uniqueItems",
    ),
    "int32": (of({"type": "integer", "format": "int32"}), "/properties/a/format"),
    "nullable": (of({"type": "string", "nullable": True}), "/properties/a/nullable"),
    "not": (of({"type": "string", "not": {"const": "x"}}), "/properties/a/not"),
    "names": (of({"type": "object", "propertyNames": {"pattern": "^a"}}), "/properties/a/propertyNames"),
    "a reference elsewhere": (of({"$ref": "https://example.com/x", "type": "null"}), "/properties/a/$ref"),
    "a reference to nothing": (of({"$ref": "#/$defs/x"}), "/properties/a/$ref"),
    "an older draft": (
        of({"type": "integer", "minimum": 1, "exclusiveMinimum": True}),
        "/properties/a/exclusiveMinimum",
    ),
    "no type": (of({"type": "objekt"}), "/properties/a/type"),
    "a bad pattern of names": (
        of({"type": "object", "patternProperties": {"(": {"type": "null"}}, "additionalProperties": False}),
        "/properties/a/patternProperties/(",
    ),
    "if": ({**of({"type": "null"}), "if": {"required": ["n"]}, "then": {}, "else": {}}, "/if"),
    "dependent": ({**of({"type": "null"}), "dependentRequired": {"a": ["n"]}}, "/dependentRequired"),
    "one of alike": (of({"oneOf": [{"type": "string"}, {"minLength": 2}]}), "/properties/a"),
    "in an option": (
        of({"oneOf": [{"type": "string", "format": "x"}, {"type": "null"}]}),
        "/properties/a/oneOf/0/format",
    ),
    "in a definition": (
        {**of({"$ref": "#/$defs/x"}), "$defs": {"x": {"type": "string", "pattern": "(?=a)b"}}},
        "/$defs/x",
    ),
    "nothing satisfies it": (of({"type": "string", "minLength": 5, "maxLength": 2}), "/properties/a"),
    "never": (of(False), ""),  # type: ignore[arg-type]
    "itself": ({"$ref": "#"}, "as a whole"),
    "no object": ({"type": "array", "items": {"type": "null"}}, "/type"),
    "too deep": (of(json.loads('{"items": ' * 120 + "{}" + "}" * 120)), "as a whole"),
    "too long": (of({"enum": ["x" * 1000 + str(n) for n in range(300)]}), "as a whole"),
}
CALL = re.compile(r'<tool_call>\n\{"name": "(\w+)", "arguments": (.*)\}\n</tool_call>', re.DOTALL)


def called(text: str) -> tuple[str, Any]:
    """The one call that a text is."""
    match = CALL.fullmatch(text)
    assert match is not None, text
    return match[1], json.loads(match[2])


@promise("chat:tools:hints")
@pytest.mark.parametrize("name", HINTS)
@pytest.mark.parametrize("choice", [ToolChoice("required", parallel=False), ToolChoice("named", "bad")], ids=str)
def test_what_can_not_be_enforced_is_left_out_and_told(name: str, choice: ToolChoice, qwen3: Model) -> None:
    schema, place = HINTS[name]
    grammar = qwen3.compiler.answer(None, (GOOD, Tool("bad", "", schema)), choice)
    assert grammar is not None
    assert {one.field for one in grammar.adjusted} == {AT}
    assert place in grammar.adjusted[0].how or (not place and "left out" in grammar.adjusted[0].how)
    for seed in range(3):
        tool, arguments = called(qwen3.walk(grammar.copy(), seed))
        assert isinstance(arguments, dict) and tool in ("good", "bad")
    assert qwen3.compiler.answer(None, (GOOD, Tool("bad", "", schema)), ToolChoice("named", "good")).adjusted == ()  # type: ignore[union-attr]


@promise("chat:tools:hints")
@pytest.mark.parametrize("name", HINTS)
def test_with_strict_it_is_refused_by_its_path(name: str, qwen3: Model) -> None:
    schema, _ = HINTS[name]
    tools = (GOOD, Tool("bad", "", schema, strict=True))
    error = refusal(lambda: qwen3.compiler.answer(None, tools, ToolChoice("required")))
    assert error.param == AT
    error = refusal(lambda: qwen3.compiler.call_body(tools, ToolChoice()))
    assert error.param == AT


@pytest.mark.parametrize("bounds", [{"minLength": 5, "maxLength": 2}, {"enum": ["a"], "pattern": "^b$"}])
def test_a_value_keeps_its_type_where_bounds_contradict_each_other(bounds: dict[str, Any], qwen3: Model) -> None:
    schema = of({"type": "string", **bounds})
    for seed in range(5):
        grammar = qwen3.compiler.answer(None, (Tool("f", "", schema),), ToolChoice("named", "f"))
        assert grammar is not None and len(grammar.adjusted) == 1
        assert isinstance(called(qwen3.walk(grammar, seed))[1]["a"], str)


def test_what_can_be_enforced_beside_it_holds(model: Model) -> None:
    schema = of({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 1, "maxItems": 3})
    weaker = of({"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 3})
    for seed in range(WALKS):
        grammar = model.compiler.answer(None, (Tool("f", "", schema),), ToolChoice("named", "f"))
        assert grammar is not None
        jsonschema.validate(called(model.walk(grammar, seed))[1], weaker)


@pytest.mark.parametrize("mode", ["required", "named"])
def test_a_hundred_tools_of_which_each_has_a_fault_are_taken(mode: Any, qwen3: Model) -> None:
    tools = tuple(Tool(f"f{n}", "", of({"type": "string", "format": f"x{n}"})) for n in range(100))
    grammar = qwen3.compiler.answer(None, tools, ToolChoice(mode, "f7" if mode == "named" else ""))
    assert grammar is not None and len(grammar.adjusted) == (1 if mode == "named" else 100)


VALUES: list[Any] = [None, True, 0, 7, -3.5, "", "x", "abc", [], [1], [1, 1], ["x", None], {}, {"a": 1}, {"b": "x"}]
LOOSER: list[tuple[dict[str, Any], str]] = [
    ({"patternProperties": {"(": {}, "^a": {"type": "null"}}, "additionalProperties": False}, "/patternProperties/("),
    ({"properties": {"a": {"format": "f", "type": "string"}}, "additionalProperties": False}, "/properties/a/format"),
    ({"properties": {"a": {"format": "f", "type": "string"}}, "additionalProperties": False}, "/properties/a"),
    ({"properties": 3, "additionalProperties": False}, "/properties"),
    ({"prefixItems": [{"type": "null"}], "items": False}, "/prefixItems"),
    ({"prefixItems": [{"type": "null"}], "items": False}, "/prefixItems/0"),
    ({"oneOf": [{"type": "string", "pattern": "b"}, {"type": "string", "maxLength": 1}]}, "/oneOf/0/pattern"),
    ({"oneOf": [{"$ref": "#/$defs/x"}, {"type": "string"}], "$defs": {"x": {"pattern": "q"}}}, "/$defs/x/pattern"),
    ({"oneOf": [{"type": "string"}, {}], "anyOf": [{"type": "string"}, {"type": "array"}]}, "/oneOf"),
    ({"anyOf": [{"type": "null", "x": 1}, {"type": "integer"}]}, "/anyOf/0/x"),
    ({"allOf": [{"type": "string"}, {"minLength": 2}]}, "/allOf/1"),
    ({"additionalProperties": {"type": "null"}}, "/additionalProperties/type"),
    ({"additionalProperties": {"type": "null"}}, "/additionalProperties"),
    ({"items": {"type": "integer"}, "minItems": 1}, "/items"),
    ({"type": "string", "minLength": 2}, ""),
]


@pytest.mark.parametrize(("schema", "path"), LOOSER)
def test_to_leave_something_out_never_allows_less(schema: dict[str, Any], path: str) -> None:
    before = copy.deepcopy(schema)
    looser = jsonschema.Draft202012Validator(without(schema, path))
    assert schema == before
    tested = {key: value for key, value in schema.items() if not (key == "properties" and value == 3)}
    if "patternProperties" in tested:
        tested["patternProperties"] = {"^a": {"type": "null"}, "^b": {}}
    for value in VALUES:
        if jsonschema.Draft202012Validator(tested).is_valid(value) and path != "/properties":
            assert looser.is_valid(value), value


def test_all_faults_are_found_at_once() -> None:
    schema = of({"type": "string", "format": "x", "nullable": True, "pattern": "("})
    left, faults = loosened({**schema, "unevaluatedProperties": False})
    assert left == of({"type": "string"})
    assert sorted(fault.path for fault in faults) == [
        "/properties/a/format",
        "/properties/a/nullable",
        "/properties/a/pattern",
        "/unevaluatedProperties",
    ]


# -- closing --------------------------------------------------------------------------------------------------------

A, B = {"type": "object", "properties": {"a": {"const": 1}}}, {"type": "object", "properties": {"b": {"const": 2}}}
CLOSED: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "plain": (A, [{}, {"a": 1}], [{"b": 2}, {"a": 1, "x": 1}]),
    "says so": ({**A, "additionalProperties": True}, [{"a": 1, "x": 5}], []),
    "says what": ({**A, "additionalProperties": {"const": 3}}, [{"a": 1, "x": 3}], [{"x": 5}]),
    "nested": (
        {"type": "object", "properties": {"o": A, "l": {"type": "array", "items": B}}},
        [{"o": {"a": 1}, "l": [{"b": 2}]}],
        [{"o": {"b": 2}}, {"l": [{"a": 1}]}],
    ),
    "a free map": ({"type": "object", "properties": {"m": {"type": "object"}}}, [{"m": {"x": 1}}], [{"x": 1}]),
    "nothing declared": ({"type": "object"}, [{}], [{"x": 1}]),
    "required alone": ({"type": "object", "required": ["x"]}, [{"x": 1}], [{"x": 1, "y": 1}]),
    "patterns": (
        {"type": "object", "patternProperties": {"^x": {"const": 1}}},
        [{"x1": 1, "x2": 1}],
        [{"y": 1}],
    ),
    "all of": ({"allOf": [A, B]}, [{"a": 1, "b": 2}], [{"a": 1, "x": 1}]),
    "any of": (
        {"type": "object", "properties": {"o": {"anyOf": [A, B]}}},
        [{"o": {"a": 1}}, {"o": {"b": 2}}],
        [{"o": {"x": 1}}],
    ),
    "any of beside properties": (
        {**A, "anyOf": [{"required": ["a"]}, {"properties": {"b": {"const": 2}}, "required": ["b"]}]},
        [{"a": 1}, {"b": 2}, {"a": 1, "b": 2}],
        [{"a": 1, "x": 1}],
    ),
    "a reference": (
        {"type": "object", "properties": {"o": {"$ref": "#/$defs/A"}}, "$defs": {"A": A}},
        [{"o": {"a": 1}}],
        [{"o": {"x": 1}}],
    ),
    "a reference with siblings": (
        {"type": "object", "properties": {"o": {"$ref": "#/$defs/A", **B}}, "$defs": {"A": A}},
        [{"o": {"a": 1, "b": 2}}],
        [{"o": {"x": 1}}],
    ),
    "a base and what extends it": (
        {
            "type": "object",
            "properties": {"o": {"allOf": [{"$ref": "#/$defs/A"}, B]}, "p": {"$ref": "#/$defs/A", "description": "d"}},
            "$defs": {"A": A},
        },
        [{"o": {"a": 1, "b": 2}, "p": {"a": 1}}],
        [{"o": {"x": 1}}],
    ),
    "a tree": (
        {"type": "object", "properties": {"l": {"type": "array", "items": {"$ref": "#"}}}},
        [{"l": [{"l": []}]}],
        [{"l": [{"x": 1}]}],
    ),
}


@promise("chat:tools:declared")
@pytest.mark.parametrize("name", CLOSED)
def test_arguments_hold_declared_properties_alone(name: str, qwen3: Model) -> None:
    schema, right, wrong = CLOSED[name]
    check = jsonschema.Draft202012Validator(closed(schema))
    for value in right:
        jsonschema.Draft202012Validator(schema).validate(value)
        check.validate(value)
    assert not any(check.is_valid(value) for value in wrong)

    def takes(value: Any) -> bool:
        grammar = qwen3.compiler.answer(None, (Tool("f", "", schema),), ToolChoice("named", "f"))
        assert grammar is not None and grammar.adjusted == ()
        return qwen3.takes(grammar, f'<tool_call>\n{{"name": "f", "arguments": {json.dumps(value)}}}\n</tool_call>')

    assert all(takes(value) for value in right)
    assert not any(takes(value) for value in wrong)


@promise("chat:tools:required")
def test_a_named_choice_is_one_call_and_required_is_one_or_more(model: Model) -> None:
    call = '<tool_call>\n{"name": "good", "arguments": {"city": "x"}}\n</tool_call>'
    for choice, times, right in [
        (ToolChoice("named", "good"), 1, True),
        (ToolChoice("named", "good"), 2, False),
        (ToolChoice("required"), 2, True),
        (ToolChoice("required"), 0, False),
        (ToolChoice("required", parallel=False), 2, False),
    ]:
        grammar = model.compiler.answer(None, (GOOD,), choice)
        assert grammar is not None and model.takes(grammar, "\n".join([call] * times)) is right
