"""One constraint in the spellings of OpenAI, vLLM, SGLang and llama.cpp, for chats and completions."""

import json
from typing import Any

import pytest

from engines.types.chat import Constraint
from engines.types.errors import InvalidRequest, UnsupportedField
from openai_compat.chat.fields import Parsed, parse_chat, parse_completion
from tests.promises import promise

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
EBNF = 'root ::= "a"'


def parsed(**fields: Any) -> list[Parsed]:
    chat = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    completion = {"model": "m", "prompt": "x", **fields}
    return [parse_chat(json.dumps(chat).encode(), "t"), parse_completion(json.dumps(completion).encode(), "t")]


def constraints(**fields: Any) -> Constraint | None:
    found = [one.first.constraint for one in parsed(**fields)]
    assert found[0] == found[1]
    return found[0]


@promise("chat:structure:spellings")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"structured_outputs": {"json": SCHEMA}}, Constraint("json_schema", SCHEMA, "structured_outputs.json")),
        ({"structured_outputs": {"json": "true"}}, Constraint("json_schema", True, "structured_outputs.json")),
        ({"structured_outputs": {"regex": "a+"}}, Constraint("regex", "a+", "structured_outputs.regex")),
        ({"structured_outputs": {"choice": ["a"]}}, Constraint("choice", ("a",), "structured_outputs.choice")),
        ({"structured_outputs": {"grammar": EBNF}}, Constraint("grammar", EBNF, "structured_outputs.grammar")),
        ({"structured_outputs": {"json_object": True}}, Constraint("json_object", at="structured_outputs.json_object")),
        ({"structured_outputs": {"json_object": False}}, None),
        ({"structured_outputs": {}}, None),
        ({"structured_outputs": {"json": None, "regex": None}}, None),
        ({"guided_json": SCHEMA}, Constraint("json_schema", SCHEMA, "guided_json")),
        ({"guided_json": json.dumps(SCHEMA)}, Constraint("json_schema", SCHEMA, "guided_json")),
        ({"guided_regex": "a+"}, Constraint("regex", "a+", "guided_regex")),
        ({"guided_choice": ["a", "b"]}, Constraint("choice", ("a", "b"), "guided_choice")),
        ({"guided_grammar": EBNF}, Constraint("grammar", EBNF, "guided_grammar")),
        (
            {"guided_json": SCHEMA, "guided_decoding_backend": "xgrammar"},
            Constraint("json_schema", SCHEMA, "guided_json"),
        ),
        ({"json_schema": json.dumps(SCHEMA)}, Constraint("json_schema", SCHEMA, "json_schema")),
        ({"json_schema": SCHEMA}, Constraint("json_schema", SCHEMA, "json_schema")),
        ({"ebnf": EBNF}, Constraint("ebnf", EBNF, "ebnf")),
        ({"regex": "a+"}, Constraint("regex", "a+", "regex")),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            Constraint("json_schema", SCHEMA, "response_format.schema"),
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "x", "schema": SCHEMA}}},
            Constraint("json_schema", SCHEMA, "response_format.json_schema.schema"),
        ),
        ({"response_format": {"type": "text", "json_schema": None}}, None),
    ],
)
def test_every_spelling_is_obeyed_and_none_is_ignored(fields: dict[str, Any], expected: Constraint | None) -> None:
    assert constraints(**fields) == expected
    assert [one.ignored for one in parsed(**fields)] == [(), ()]


@promise("chat:structure:spellings")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"regex": "a"}, "guided_regex": "b"}, "structured_outputs.regex"),
        ({"response_format": {"type": "json_object"}, "ebnf": EBNF}, "ebnf"),
        ({"guided_json": SCHEMA, "json_schema": {}}, "guided_json"),
    ],
)
def test_spellings_that_contradict_each_other_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match="together") as caught:
        parsed(**fields)
    assert caught.value.param == param


def test_the_same_in_two_spellings_is_one() -> None:
    both = {"guided_json": SCHEMA, "structured_outputs": {"json": json.dumps(SCHEMA)}}
    assert constraints(**both) == Constraint("json_schema", SCHEMA, "guided_json")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"structured_outputs": "x"}, "structured_outputs"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": r'{"a": "\ud83d"}'}}, "structured_outputs.json.a"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"json_object": 1}}, "structured_outputs.json_object"),
        ({"guided_regex": 5}, "guided_regex"),
        ({"response_format": {"type": "text", "json_schema": {"schema": SCHEMA}}}, "response_format.json_schema"),
        ({"response_format": {"type": "text", "schema": SCHEMA}}, "response_format.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}, "schema": {}}},
            "response_format.schema",
        ),
        ({"response_format": {"type": "json_object", "json_schema": {}}}, "response_format.json_schema.schema"),
        *(
            ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, name: 5}}}, place)
            for name in ("name", "description", "strict")
            for place in (f"response_format.json_schema.{name}",)
        ),
        ({"guided_choice": "a"}, "guided_choice"),
        ({"guided_json": "x"}, "guided_json"),
        ({"ebnf": {}}, "ebnf"),
    ],
)
def test_a_bad_value_is_refused_by_its_spelling(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["structural_tag", "whitespace_pattern", "disable_additional_properties"])
def test_what_would_change_the_answer_and_is_not_built_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedField) as caught:
        parsed(structured_outputs={"regex": "a", name: True})
    assert caught.value.param == f"structured_outputs.{name}"
    assert parsed(structured_outputs={"regex": "a", "disable_additional_properties": False})


@promise("chat:fields:told-back")
def test_names_that_nothing_knows_are_told_back() -> None:
    assert [one.ignored for one in parsed(structured_outputs={"regex": "a", "zebra": 1})] == [
        ("structured_outputs.zebra",)
    ] * 2
