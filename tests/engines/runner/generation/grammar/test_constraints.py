"""Documents, texts and calls of tools: whatever tokens their grammars allow, what comes out is what was asked for."""

import json
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jsonschema
import msgspec
import pytest

from engines.runner.generation.grammar.compiler import Grammar
from engines.types.chat import Constraint, Tool, ToolChoice
from tests.engines.runner.generation.grammar import test_compiler as walker
from tests.engines.runner.generation.grammar.test_compiler import CITY, WALKS, Model, answer, refusal
from tests.promises import promise

qwen3, gemma3, model = walker.qwen3, walker.gemma3, walker.model  # fixtures


def test_a_json_object_is_an_object_and_nothing_else(model: Model) -> None:
    for seed in range(WALKS):
        assert isinstance(json.loads(model.walk(answer(model, "json_object"), seed)), dict)
    assert not model.takes(answer(model, "json_object"), "[]")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ('{"a": 1, "b": [1, 2]}', True),
        ('{"a":1,"b":[1,2]}', True),
        ('{"a":  1}', False),
        ('{ "a": 1}', False),
        ('{"a" : 1}', False),
        ('{"a": 1\n}', False),
        ('{"a": 1} ', False),
    ],
)
def test_white_space_is_at_most_one_blank_after_commas_and_colons(text: str, is_one: bool, model: Model) -> None:
    assert model.takes(answer(model, "json_object"), text) is is_one


def test_a_key_in_disguise_does_not_evade_its_schema(model: Model) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert not model.takes(answer(model, "json_schema", schema), '{"\\u0061": "x"}')


def test_a_choice_is_exactly_one_of_its_texts(model: Model) -> None:
    texts = ["yes", "no", "no way", "不好说", 'a "b" \\ \n/', "<tool_call>", "🙂"]
    assert {model.walk(answer(model, "choice", texts), seed) for seed in range(40)} <= set(texts)
    for text in texts:
        assert not answer(model, "choice", texts).finished
        if text != "<tool_call>":
            assert model.takes(answer(model, "choice", texts), text)
    assert not model.takes(answer(model, "choice", texts), "no w")


def test_a_regex_is_matched_as_a_whole(model: Model) -> None:
    pattern = r"(?:\+|00)[1-9][0-9]{1,3}/[a-f]{2,4}(?: 中)?"
    for seed in range(WALKS):
        assert re.fullmatch(pattern, model.walk(answer(model, "regex", pattern), seed))


def test_a_lark_grammar_is_followed(model: Model) -> None:
    grammar = 'start: sum\nsum: product ("+" product)*\nproduct: NUMBER ("*" NUMBER)*\nNUMBER: /[1-9][0-9]{0,2}/'
    for seed in range(WALKS):
        assert re.fullmatch(r"[0-9]+([+*][0-9]+)*", model.walk(answer(model, "grammar", grammar), seed))


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("regex", "(a{1000}){1000}", "too complex"),
        ("regex", "(" * 20_000, "regex"),
        ("regex", "(?=a)b", "looking around"),
        ("regex", r"(a)\1", "back references"),
        ("regex", "a\\", "backslash"),
        ("regex", "", "empty"),
        ("regex", "a" * 70_000, "longer"),
        ("regex", 3, "text"),
        ("grammar", "start: nothing", "nothing"),
        ("grammar", "start: (" + "(" * 30_000, "nested"),
        ("grammar", "start: <nope>", "<nope>"),
        ("grammar", 'start: %json {"not": {}, "x-guidance": {"lenient": true}}', "not"),
        ("grammar", "start: text\ntext[temperature=0.5]: /x/", "temperature"),
        ("grammar", "start: R0\n" + "\n".join(f"R{n}: R{n + 1} R{n + 1}" for n in range(40)) + '\nR40: "y"', "complex"),
        ("choice", [], "1 to 1000"),
        ("choice", ["a"] * 1001, "1 to 1000"),
        ("choice", ["a", ""], "empty"),
        ("choice", "abc", "list"),
        ("json_schema", "abc", "schema"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_can_not_be_compiled_is_refused_soon(kind: str, value: object, why: str, qwen3: Model) -> None:
    since = time.monotonic()
    error = refusal(lambda: answer(qwen3, kind, value))
    assert error.param == "response_format" and why in error.message and len(error.message) < 600
    assert time.monotonic() - since < 20


TOOLS = (
    Tool("get", "", {**CITY, "additionalProperties": False}, strict=True),
    Tool(
        "get_more",
        "",
        {"properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"], "$defs": {"n": {"enum": [1, 2]}}},
    ),
    Tool("now"),
)
CALL = re.compile(r'<tool_call>\n\{"name": "(\w+)", "arguments": (.*?)\}\n</tool_call>(?:\n(?=<)|$)', re.DOTALL)


def calls(text: str) -> list[tuple[str, Any]]:
    """Those that a text is made of, wholly."""
    found = [(match[1], json.loads(match[2])) for match in CALL.finditer(text)]
    assert CALL.sub("", text) == ""
    return found


def checked(found: Sequence[tuple[str, Any]], tools: Sequence[Tool], *, all_strict: bool = True) -> None:
    by_name = {tool.name: tool for tool in tools}
    for name, arguments in found:
        assert isinstance(arguments, dict)
        if all_strict or by_name[name].strict:
            jsonschema.Draft202012Validator(by_name[name].parameters).validate(arguments)


def calling(model: Model, choice: ToolChoice, constraint: Constraint | None = None) -> Grammar:
    grammar = model.compiler.answer(constraint, TOOLS, choice)
    assert grammar is not None
    return grammar


def test_a_document_where_only_calls_may_be_is_refused(qwen3: Model) -> None:
    for choice in (ToolChoice("required"), ToolChoice("named", TOOLS[0].name)):
        error = refusal(partial(qwen3.compiler.answer, Constraint("json_object"), TOOLS, choice))
        assert error.param == "response_format" and "tool_choice" in error.message


@promise("chat:tools:required")
def test_required_calls_are_of_declared_tools_with_valid_arguments(model: Model) -> None:
    names = set()
    for seed in range(20):
        found = calls(model.walk(calling(model, ToolChoice("required")), seed))
        assert found
        checked(found, TOOLS)
        names |= {name for name, _ in found}
    assert names == {"get", "get_more", "now"}


def test_a_named_tool_is_the_only_one_and_without_parallel_called_once(model: Model) -> None:
    for seed in range(WALKS):
        found = calls(model.walk(calling(model, ToolChoice("named", "get", parallel=False)), seed))
        assert [name for name, _ in found] == ["get"]
        checked(found, TOOLS)


def test_calls_are_taken_as_a_model_writes_them(model: Model) -> None:
    first = '<tool_call>\n{"name": "get", "arguments": {"city": "北京"}}\n</tool_call>'
    second = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    assert model.takes(calling(model, ToolChoice("required")), f"{first}\n{second}")
    assert not model.takes(calling(model, ToolChoice("required", parallel=False)), f"{first}\n{second}")
    assert not model.takes(calling(model, ToolChoice("required")), "Hello")


def test_with_auto_a_constrained_document_competes_with_calls(model: Model) -> None:
    grammar = calling(model, ToolChoice(), Constraint("choice", ["yes", "no"]))
    assert model.takes(grammar.copy(), "yes")
    assert model.takes(grammar.copy(), '<tool_call>\n{"name": "now", "arguments": {"any": 1}}\n</tool_call>')
    for seed in range(20):
        text = model.walk(grammar.copy(), seed)
        if text not in ("yes", "no"):
            checked(calls(text), TOOLS, all_strict=False)
    never = model.compiler.answer(Constraint("choice", ["yes"]), TOOLS, ToolChoice("none"))
    assert never is not None and model.walk(never, 0) == "yes"


def test_nothing_is_constrained_unless_it_was_asked_for(model: Model) -> None:
    assert model.compiler.answer(None, TOOLS, ToolChoice()) is None
    assert model.compiler.answer(None, TOOLS, ToolChoice("none")) is None
    assert model.compiler.call_body(TOOLS[1:], ToolChoice()) is None
    assert model.compiler.call_body(TOOLS, ToolChoice("none")) is None


def test_the_body_of_a_strict_tools_call_is_held_to_its_schema_then_anything_follows(model: Model) -> None:
    body = model.compiler.call_body(TOOLS, ToolChoice())
    assert body is not None
    wrong = body.copy()
    assert not all(wrong.accept(id) for id in model.ids('\n{"name": "get", "arguments": {"town": "x"}}\n</tool_call>'))
    # Not strict, so any object.
    text = '\n{"name": "get_more", "arguments": {"x": 0}}\n</tool_call>'
    assert all(body.accept(id) for id in model.ids(text))
    assert model.choices(body) == model.real
    assert all(body.accept(id) for id in model.ids(" and so on <tool_call>")) and not body.finished
    assert not body.accept(model.width - 1)
    assert body.accept(model.eos[0]) and body.finished


def test_text_in_a_document_is_never_made_of_marks(qwen3: Model) -> None:
    grammar = answer(qwen3, "json_schema", {"type": "string"})
    assert grammar.accept(qwen3.ids('"')[0])
    assert not set(qwen3.choices(grammar)) & set(qwen3.marks.values())


def test_a_tools_schema_is_refused_by_its_place_in_the_request(qwen3: Model) -> None:
    tools = (TOOLS[0], Tool("bad", "", {"type": "object", "properties": {"a": {"not": {}}}}, strict=True))
    error = refusal(lambda: qwen3.compiler.answer(None, tools, ToolChoice("required")))
    assert error.param == "tools[1].function.parameters" and "/properties/a/not" in error.message
    unsatisfiable = Tool(
        "bad",
        "",
        {"properties": {"a": {"type": "string", "minLength": 2, "maxLength": 1}}, "required": ["a"]},
        strict=True,
    )
    error = refusal(lambda: qwen3.compiler.answer(None, (TOOLS[0], unsatisfiable), ToolChoice("required")))
    assert error.param == "tools[1].function.parameters" and "/properties/a: " in error.message
    error = refusal(
        lambda: qwen3.compiler.answer(None, (Tool("bad", "", {"type": "string"}, True),), ToolChoice("required"))
    )
    assert error.param == "tools[0].function.parameters"
    # Not strict, and nobody must call it: its schema is only shown to the model.
    lenient = (TOOLS[0], msgspec.structs.replace(tools[1], strict=False))
    assert qwen3.compiler.call_body(lenient, ToolChoice()) is not None


@pytest.mark.parametrize("choice", [ToolChoice("named", "nope"), ToolChoice("named")])
def test_a_tool_that_is_not_there_can_not_be_asked_for(choice: ToolChoice, qwen3: Model) -> None:
    assert refusal(lambda: qwen3.compiler.answer(None, TOOLS, choice)).param == "tool_choice"
    assert refusal(lambda: qwen3.compiler.answer(None, (), ToolChoice("required"))).param == "tool_choice"
