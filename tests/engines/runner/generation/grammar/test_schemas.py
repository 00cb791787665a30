"""JSON schemas: whatever tokens they allow, the document is valid, and what can't be enforced is refused."""

import json
import re
from datetime import date, datetime
from typing import Any

import jsonschema
import pytest

from tests.engines.runner.generation.grammar import test_compiler as walker
from tests.engines.runner.generation.grammar.test_compiler import WALKS, Model, answer, refusal
from tests.promises import promise

qwen3, gemma3, model = walker.qwen3, walker.gemma3, walker.model  # fixtures
TREE = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
PET = {"type": "object", "required": ["kind"], "additionalProperties": False}

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
    "a tuple behind a reference": {
        "$ref": "#/$defs/pair",
        "$defs": {
            "pair": {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False, "minItems": 2},
        },
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


@promise("chat:schema:holds")
@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_a_schema_lets_through_is_valid(name: str, model: Model) -> None:
    schema = SCHEMAS[name]
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    check = validator(schema, format_checker=jsonschema.FormatChecker())
    for seed in range(WALKS):
        check.validate(json.loads(model.walk(answer(model, "json_schema", schema), seed)))


@promise("chat:schema:refused")
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
