"""Grammars, walked: whatever tokens they allow, what comes out is what was asked for."""

import json
import random
import re
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from demo.checkpoints import PADDING, make_gemma3, make_qwen3
from engines.decoding.detokenize import TokenTable
from engines.decoding.grammar import Grammar, GrammarCompiler, allowed
from engines.errors import InvalidRequest
from engines.types import Constraint, Tool, ToolChoice

WALKS = 6
FREE_STEPS, MOST_STEPS = 60, 2000
TREE = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
PET = {"type": "object", "required": ["kind"], "additionalProperties": False}


class Model:
    """A demo checkpoint's tokenizer, and a model that writes any token that it may."""

    def __init__(self, folder: Path, *, marked: bool) -> None:
        self.table = TokenTable.read(folder)
        self.real = [id for id, valid in enumerate(self.table.valid) if valid]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.width = json.loads((folder / "config.json").read_text())["vocab_size"]
        self.eos = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        marks = ("<tool_call>", "</tool_call>", "<think>", "</think>") if marked else ()
        self.marks = {mark: self.ids(mark)[0] for mark in marks}
        self.compiler = GrammarCompiler((folder / "tokenizer.json").read_text(), self.width, self.eos, self.marks)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def choices(self, grammar: Grammar) -> list[int]:
        bits = np.unpackbits(grammar.mask().view(np.uint8), bitorder="little")
        return [int(id) for id in np.flatnonzero(bits)]

    def walk(self, grammar: Grammar, seed: int) -> str:
        """Random tokens for a while, then whatever leads to an end."""
        dice, written = random.Random(seed), b""
        for step in range(MOST_STEPS):
            ids = self.choices(grammar)
            assert ids and set(ids) <= set(self.real)
            if set(ids) <= set(self.eos) or (step >= FREE_STEPS and set(ids) & set(self.eos)):
                return written.decode()
            chosen = dice.choice(ids if step < FREE_STEPS else self._towards_the_end(ids, dice))
            if chosen in self.eos:
                return written.decode()
            assert grammar.accept(chosen)
            written += self.table.bytes_of(chosen)
        raise AssertionError(f"no end after {MOST_STEPS} tokens: {written[:200]!r}")

    def _towards_the_end(self, ids: list[int], dice: random.Random) -> list[int]:
        """What closes something, mostly, else any short piece."""
        pieces = {id: self.table.bytes_of(id) for id in ids}
        closing = [[id for id in ids if pieces[id] == mark] for mark in (b'"', b"@", b"}", b"]", b",", b"n")]
        short = [id for id in ids if len(pieces[id]) == 1] or ids
        return next(filter(None, closing), short) if dice.random() < 0.8 else short

    def takes(self, grammar: Grammar, text: str) -> bool:
        """The text is a whole answer."""
        return all(grammar.accept(id) for id in self.ids(text)) and grammar.accept(self.eos[0])


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("qwen3")
    make_qwen3(folder, padded=True)
    return Model(folder, marked=True)


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("gemma3")
    make_gemma3(folder, padded=True)
    return Model(folder, marked=False)


@pytest.fixture(params=["qwen3", "gemma3"])
def model(request: pytest.FixtureRequest) -> Model:
    found: Model = request.getfixturevalue(request.param)
    return found


def answer(model: Model, kind: Any, value: object = None) -> Grammar:
    grammar = model.compiler.answer(Constraint(kind, value), (), ToolChoice())
    assert grammar is not None
    return grammar


def refusal(act: Callable[[], object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        act()
    return caught.value


SCHEMAS: dict[str, dict[str, Any]] = {
    "anything": {},
    "an object": {"type": "object"},
    "nested objects": {
        "type": "object",
        "properties": {"a": {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "optional properties": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}},
        "required": ["b"],
    },
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "a map with bounds": {"type": "object", "additionalProperties": {"type": "null"}, "maxProperties": 3},
    "at least one property": {"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 1},
    "required but not described": {"type": "object", "required": ["a", "b"]},
    "patterned properties": {
        "type": "object",
        "patternProperties": {"^s_": {"type": "string"}, "^i_": {"type": "integer"}},
        "additionalProperties": False,
    },
    "patterned properties after additional": {
        "additionalProperties": False,
        "type": "object",
        "anyOf": [{"required": ["x1"]}, {"required": ["x2"]}],
        "patternProperties": {"^x": {"type": "integer"}},
    },
    "unicode keys": {"type": "object", "properties": {"名字": {"type": "string"}, "é\n": {"type": "integer"}}},
    "keys that need escapes": {"type": "object", "properties": {'a"/~\\b': {"const": 1}}, "required": ['a"/~\\b']},
    "an array": {"type": "array", "items": {"type": "number"}},
    "an array with bounds": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "an empty array": {"type": "array", "maxItems": 0},
    "prefix items": {
        "type": "array",
        "prefixItems": [{"type": "string"}, {"type": "integer"}],
        "items": False,
        "minItems": 2,
    },
    "items of an older draft": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "integer"}, {"type": "boolean"}],
        "additionalItems": {"type": "null"},
        "minItems": 3,
        "maxItems": 4,
    },
    "prefix items under an older draft's name": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "prefixItems": [{"const": 1}],
        "minItems": 1,
        "maxItems": 1,
    },
    "an enum": {"enum": ["red", "green", 3, None, [1, {"a": True}]]},
    "Chinese values": {"type": "string", "enum": ["红色", "绿色", "🙂"]},
    "a constant": {"const": {"b": [1, 2.5], "a": "x"}},
    "small and large constants": {"enum": [1e-7, 0.1, 123456789.125, -0.5, 1e21, 9007199254740991]},
    "any of": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "integer"}, {"type": "null"}]},
    "several types": {"type": ["integer", "null", "array"], "items": {"type": "boolean"}},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ]
    },
    "one of by type": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "boolean"}]},
    "one of by a tag": {
        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        "discriminator": {"propertyName": "kind"},
        "$defs": {
            "Cat": {**PET, "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}},
            "Dog": {**PET, "properties": {"kind": {"enum": ["dog", "wolf"]}, "tail": {"type": "boolean"}}},
        },
    },
    "a tree": {**TREE, "properties": {**TREE["properties"], "children": {"type": "array", "items": {"$ref": "#"}}}},  # type: ignore[dict-item]
    "a linked list": {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        },
    },
    "references with odd names": {
        "$ref": "#/$defs/订单~1a b",
        "definitions": {"x": {"type": "integer"}},
        "$defs": {"订单/a b": {"type": "array", "items": {"$ref": "#/definitions/x", "description": "n"}}},
    },
    "a reference with siblings": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/n", "minimum": 5}},
        "required": ["a"],
        "$defs": {"n": {"type": "integer", "maximum": 7}},
    },
    "a length": {"type": "string", "minLength": 3, "maxLength": 6},
    "a pattern": {"type": "string", "pattern": r"^[A-Z]{2}-\d{3,5}$"},
    "a pattern inside": {"type": "string", "pattern": "b|中+"},
    "a pattern and a length": {"type": "string", "pattern": "^[a-z]+$", "minLength": 4, "maxLength": 9},
    "an integer in bounds": {"type": "integer", "minimum": -12, "maximum": 345},
    "a number in bounds": {"type": "number", "exclusiveMinimum": 0, "maximum": 1.5},
    "a multiple": {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 1000},
    "formats": {
        "type": "object",
        "properties": {
            "date": {"type": "string", "format": "date"},
            "ipv4": {"type": "string", "format": "ipv4"},
            "ipv6": {"type": "string", "format": "ipv6"},
            "uuid": {"type": "string", "format": "uuid"},
            "email": {"type": "string", "format": "email"},
        },
        "required": ["date", "ipv4", "ipv6", "uuid", "email"],
        "additionalProperties": False,
    },
    "a format and a pattern": {"type": "string", "format": "date", "pattern": "^20"},
    "annotations": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/x",
        "title": "t",
        "x-order": 3,
        "type": "object",
        "properties": {"a": {"type": "integer", "description": "d", "default": 3, "examples": [1], "deprecated": True}},
        "uniqueItems": False,
    },
    "keywords of other types": {"type": "object", "minLength": 3, "properties": {"not": {"type": "null"}}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_a_schema_lets_through_is_valid(name: str, model: Model) -> None:
    schema = SCHEMAS[name]
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    check = validator(schema, format_checker=jsonschema.FormatChecker())
    for seed in range(WALKS):
        check.validate(json.loads(model.walk(answer(model, "json_schema", schema), seed)))


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "object", "properties": {"a": {"not": {}}}}, "/properties/a/not"),
        ({"items": {"uniqueItems": True}}, "/items/uniqueItems"),
        ({"if": {}, "then": {}}, "/if"),
        ({"contains": {"const": 1}, "minContains": 2}, "/contains"),
        ({"propertyNames": {"maxLength": 3}}, "/propertyNames"),
        ({"dependentRequired": {"a": ["b"]}}, "/dependentRequired"),
        ({"unevaluatedProperties": False}, "/unevaluatedProperties"),
        ({"type": "string", "nullable": True}, "/nullable"),
        ({"type": "string", "maxLenght": 3}, "/maxLenght"),
        ({"x-guidance": {"lenient": True}}, "/x-guidance"),
        ({"properties": {"a": {"$id": "b"}}}, "/properties/a/$id"),
        ({"$ref": "https://example.com/schema"}, "/$ref"),
        ({"properties": {"a": {"$ref": "#/$defs/no"}}}, "/properties/a/$ref"),
        ({"$ref": "#"}, "as a whole"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "/$defs/a"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "as a whole"),
        ({"type": "string", "format": "unknown"}, "/format"),
        ({"properties": {"a/b": {"format": "iri"}}}, "/properties/a~1b/format"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "/properties/a"),
        ({"properties": {"a": {"pattern": r"\bword"}}}, "/properties/a"),
        ({"pattern": "("}, "/pattern"),
        ({"pattern": "a\\"}, "/pattern"),
        ({"pattern": "[a-z&&[^b]]"}, "/pattern"),
        ({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}, "/properties/a/pattern"),
        ({"patternProperties": {"(": {}}}, "/patternProperties/("),
        ({"items": {"type": "objekt"}}, "/items/type"),
        ({"items": {"type": []}}, "/items/type"),
        ({"enum": []}, "/enum"),
        ({"const": 9007199254740993}, "/const"),
        ({"type": "integer", "exclusiveMinimum": True}, "/exclusiveMinimum"),
        ({"type": "string", "minLength": -1}, "/minLength"),
        ({"properties": {"a": 3}}, "/properties/a"),
        ({"properties": []}, "/properties"),
        ({"required": "a"}, "/required"),
        ({"properties": {"a": {"anyOf": {}}}}, "/properties/a/anyOf"),
        ({"type": "object", "minProperties": 2}, "/minProperties"),
        ({"prefixItems": [{}], "additionalItems": False}, "/prefixItems"),
        ({"properties": {"a": {"oneOf": [{"type": "string"}, {"minLength": 2}]}}}, "/properties/a"),
        ({"items": {"type": "string", "minLength": 5, "maxLength": 2}, "minItems": 1, "type": "array"}, "/items"),
        ({"allOf": [{"type": "string"}, {"type": "number"}]}, "as a whole"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "as a whole"),
    ],
    ids=str,
)
def test_a_schema_that_is_not_enforced_in_full_is_refused_with_the_place(
    schema: dict[str, Any], path: str, qwen3: Model
) -> None:
    error = refusal(lambda: answer(qwen3, "json_schema", schema))
    assert error.param == "response_format"
    assert f"{path}: " in error.message and error.message.startswith("The schema in response_format can't be enforced")


def test_a_schema_that_is_too_long_or_too_deep_is_refused(qwen3: Model) -> None:
    deep: dict[str, Any] = {}
    for _ in range(101):
        deep = {"items": deep}
    assert "deeper" in refusal(lambda: answer(qwen3, "json_schema", deep)).message
    for _ in range(10_000):
        deep = {"items": deep}
    assert "deep" in refusal(lambda: answer(qwen3, "json_schema", deep)).message
    assert "longer" in refusal(lambda: answer(qwen3, "json_schema", {"title": "x" * 300_000})).message


def test_long_chains_of_references_and_rules_are_followed_and_do_not_crash(qwen3: Model) -> None:
    links = {f"a{link}": {"type": "array", "items": {"$ref": f"#/$defs/a{link + 1}"}} for link in range(3000)}
    answer(qwen3, "json_schema", {"$ref": "#/$defs/a0", "$defs": {**links, "a3000": {"type": "null"}}})
    rules = "\n".join(f'r{rule}: r{rule + 1} | "x"' for rule in range(2500))
    answer(qwen3, "grammar", f'start: r0\n{rules}\nr2500: "y"')


def test_an_object_with_hundreds_of_optional_properties_is_followed(qwen3: Model) -> None:
    schema = {"type": "object", "properties": {f"p{name}": {"type": "integer"} for name in range(700)}}
    assert qwen3.takes(answer(qwen3, "json_schema", schema), '{"p3": 1, "p699": 2}')


def test_dates_and_times_are_those_of_the_calendar(model: Model) -> None:
    for seed in range(WALKS):
        assert date.fromisoformat(
            json.loads(model.walk(answer(model, "json_schema", {"type": "string", "format": "date"}), seed))
        )
        moment = json.loads(model.walk(answer(model, "json_schema", {"type": "string", "format": "date-time"}), seed))
        assert datetime.fromisoformat(re.sub(r"\.[0-9]+", "", moment)).tzinfo


@pytest.mark.parametrize(("day", "is_one"), [("2024-02-29", True), ("2023-02-29", False), ("1900-02-29", False)])
def test_a_leap_day_comes_in_leap_years_only(day: str, is_one: bool, qwen3: Model) -> None:
    grammar = answer(qwen3, "json_schema", {"type": "string", "format": "date"})
    assert qwen3.takes(grammar, f'"{day}"') is is_one


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


CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
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
    tools = (TOOLS[0], Tool("bad", "", {"type": "object", "properties": {"a": {"not": {}}}}))
    error = refusal(lambda: qwen3.compiler.answer(None, tools, ToolChoice("required")))
    assert error.param == "tools[1].function.parameters" and "/properties/a/not" in error.message
    unsatisfiable = Tool(
        "bad", "", {"properties": {"a": {"type": "string", "minLength": 2, "maxLength": 1}}, "required": ["a"]}
    )
    error = refusal(lambda: qwen3.compiler.answer(None, (TOOLS[0], unsatisfiable), ToolChoice("required")))
    assert error.param == "tools[1].function.parameters" and "/properties/a: " in error.message
    error = refusal(lambda: qwen3.compiler.answer(None, (Tool("bad", "", {"type": "string"}),), ToolChoice("required")))
    assert error.param == "tools[0].function.parameters"
    # Not strict, and nobody must call it: its schema is only shown to the model.
    assert qwen3.compiler.call_body(tools, ToolChoice()) is not None


@pytest.mark.parametrize("choice", [ToolChoice("named", "nope"), ToolChoice("named")])
def test_a_tool_that_is_not_there_can_not_be_asked_for(choice: ToolChoice, qwen3: Model) -> None:
    assert refusal(lambda: qwen3.compiler.answer(None, TOOLS, choice)).param == "tool_choice"
    assert refusal(lambda: qwen3.compiler.answer(None, (), ToolChoice("required"))).param == "tool_choice"


def test_a_refused_token_changes_nothing(model: Model) -> None:
    grammar = answer(model, "json_object")
    before = model.choices(grammar)
    assert not grammar.accept(model.ids("x")[-1]) and not grammar.accept(model.eos[0])
    assert model.choices(grammar) == before and model.takes(grammar, "{}")


def test_a_copy_goes_its_own_way(model: Model) -> None:
    grammar = answer(model, "choice", ["ab", "cd"])
    copy = grammar.copy()
    assert model.takes(copy, "ab") and copy.finished
    assert not grammar.finished and model.takes(grammar, "cd")


def test_all_ends_are_allowed_when_the_answer_is_complete_and_nothing_else(model: Model) -> None:
    grammar = answer(model, "choice", ["ab", "abc"])
    assert all(grammar.accept(id) for id in model.ids("ab"))
    assert set(model.eos) < set(model.choices(grammar)) and not grammar.finished
    assert grammar.accept(model.eos[-1]) and grammar.finished and model.choices(grammar) == sorted(model.eos)


def test_forced_tokens_are_what_must_come(model: Model) -> None:
    grammar = answer(model, "json_schema", {"type": "object", "properties": {"city": CITY}, "required": ["city"]})
    forced = grammar.forced()
    assert forced and all(grammar.accept(id) for id in forced)
    assert '{"city":'.startswith(b"".join(map(model.table.bytes_of, forced)).decode())


def test_a_mask_has_a_bit_for_every_logit_and_none_for_ids_without_a_token(model: Model) -> None:
    grammar = answer(model, "grammar", "start: <[*]>+")
    mask = grammar.mask()
    assert len(mask) == -(-model.width // 32)
    assert model.width >= model.table.size + PADDING and model.choices(grammar) == model.real


@pytest.mark.parametrize("width", [2016, 2017, 2047, 2048])
def test_a_mask_fits_any_width_of_the_logits(width: int, qwen3: Model, tmp_path: Path) -> None:
    make_qwen3(tmp_path)
    compiler = GrammarCompiler((tmp_path / "tokenizer.json").read_text(), width, qwen3.eos, {})
    grammar = compiler.answer(Constraint("json_object"), (), ToolChoice())
    assert grammar is not None
    logits = allowed(grammar.mask(), np.zeros(width, np.float32))
    assert [int(id) for id in np.flatnonzero(logits == 0)] == qwen3.choices(grammar)
    assert qwen3.takes(grammar, "{}") and set(qwen3.choices(grammar)) == set(qwen3.eos)


def test_repeated_schemas_are_compiled_once_and_property_order_counts(qwen3: Model) -> None:
    schema = {"type": "object", "properties": {f"p{name}": CITY for name in range(200)}}
    answer(qwen3, "json_schema", schema)
    since = time.perf_counter()
    for _ in range(10):
        answer(qwen3, "json_schema", msgspec.json.decode(msgspec.json.encode(schema)))
    assert time.perf_counter() - since < 0.2
    one, other = ({"properties": {a: {}, b: {}}, "required": ["a", "b"], "type": "object"} for a, b in ("ab", "ba"))
    assert qwen3.takes(answer(qwen3, "json_schema", one), '{"a": 1, "b": 2}')
    assert qwen3.takes(answer(qwen3, "json_schema", other), '{"b": 1, "a": 2}')


def test_logits_are_masked_fast_and_not_in_place() -> None:
    width = 151_936
    dice = np.random.default_rng(1)
    logits = dice.standard_normal(width).astype(np.float32)
    bits = dice.random(width) < 0.5
    mask = np.packbits(bits, bitorder="little").view(np.uint32)
    before = logits.copy()
    assert np.array_equal(allowed(mask, logits), np.where(bits, logits, -np.inf)) and np.array_equal(logits, before)
    assert allowed(mask, logits).dtype == np.float32
    assert np.array_equal(allowed(mask, logits[:-7]), np.where(bits, logits, -np.inf)[:-7])
    since = time.perf_counter()
    for _ in range(20):
        allowed(mask, logits)
    assert (time.perf_counter() - since) / 20 < 0.02
