import json
from collections.abc import Iterator
from typing import Any

import pytest

from engines.types.chat import ChatRequest, Tool, ToolCall, ToolChoice
from engines.types.errors import InvalidRequest
from mcp_server.tools import registry
from mcp_server.tools.arguments import parse
from mcp_server.tools.chat import CHAT as TOOL
from mcp_server.tools.chat import parsed
from tests.promises import promise

CHAT = TOOL.input_schema
FORBIDDEN = {"$schema", "$defs", "$ref", "allOf", "anyOf", "oneOf", "not", "prefixItems", "format", "const", "default"}


def test_numbers_may_come_as_strings_and_null_is_absent() -> None:
    got = parse(CHAT, {"prompt": "hi", "temperature": "0.5", "max_tokens": "12", "system": None})
    assert got == {"prompt": "hi", "temperature": 0.5, "max_tokens": 12}


def test_json_may_come_as_an_object_and_switches_as_text() -> None:
    got = parse(CHAT, {"prompt": "hi", "json_schema": {"type": "object"}, "thinking": "False"})
    assert (json.loads(str(got["json_schema"])), got["thinking"]) == ({"type": "object"}, False)


def test_a_misspelt_argument_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match="Did you mean max_tokens"):
        parse(CHAT, {"prompt": "hi", "max_token": 3})


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": 5},
        {"prompt": "x", "max_tokens": 1.5},
        {"prompt": "x", "max_tokens": True},
        {"prompt": "x", "thinking": "maybe"},
    ],
)
def test_what_is_missing_or_of_another_type_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(CHAT, given)
    assert caught.value.param in ("prompt", "max_tokens", "thinking")


OPENAI = {"type": "function", "function": {"name": "look"}}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def request(**given: Any) -> ChatRequest:
    return parsed(parse(CHAT, given), "t")


def test_a_conversation_stands_between_the_system_text_and_the_prompt() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "b"},
    ]
    got = request(system="s", messages=turns, prompt="c", tools=[{"name": "look"}])
    assert [(one.role, one.content) for one in got.messages] == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", ""),
        ("tool", "b"),
        ("user", "c"),
    ]
    assert got.messages[2].tool_calls == (ToolCall("1", "look", "{}"),)
    assert request(messages=turns).messages == got.messages[1:4]


@promise("chat:history:calls")
@pytest.mark.parametrize(
    ("arguments", "taken"),
    [('{"city": "To', '{"city": "To'), ("", "{}"), (None, "{}"), ({"a": 1}, '{"a":1}'), ([1], "[1]")],
)
def test_a_call_in_the_history_is_taken_as_it_is(arguments: object, taken: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    turns = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "b"}]
    for given in (turns, json.dumps(turns)):
        assert request(messages=given).messages[0].tool_calls == (ToolCall("1", "look", taken),)


@promise("fields:halves")
def test_half_a_character_is_refused_by_its_place_and_within_a_past_call_is_what_is_lost() -> None:
    for half in ("\ud83d", "\ude00\ud83d"):
        for given in ([{"role": "user", "content": half}], json.dumps([{"role": "user", "content": half}])):
            with pytest.raises(InvalidRequest) as caught:
                request(messages=given)
            assert caught.value.param == "messages[0].content"
    call = {"id": "1", "function": {"name": "look", "arguments": r'{"a": "\ud83d"}'}}
    got = request(messages=[{"role": "assistant", "tool_calls": [call]}], prompt="x")
    assert got.messages[0].tool_calls[0].arguments == '{"a": "\ufffd"}'


def test_a_limit_of_any_size_goes_on_to_be_clamped() -> None:
    assert request(prompt="x", max_tokens=1e30).sampling.max_tokens == 2**63 - 1


def test_tools_come_bare_or_as_openai_wraps_them() -> None:
    for given in ([{"name": "look"}], json.dumps([OPENAI])):
        got = request(prompt="a", tools=given, tool_choice="look")
        assert (got.tools, got.tool_choice) == ((Tool("look"),), ToolChoice("named", "look"))
    assert request(prompt="a", tools=[OPENAI], tool_choice="required").tool_choice == ToolChoice("required")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ({"messages": "[]"}, "messages"),
        ({"messages": "{"}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, "messages"),
        ({"prompt": "a", "tools": "{}"}, "tools"),
        ({"prompt": "a", "tools": [5]}, "tools[0]"),
        ({"prompt": "a", "tools": [{"name": "a b"}]}, "tools[0].function.name"),
        ({"prompt": "a", "tool_choice": "required"}, "tool_choice"),
        ({"prompt": "a", "tools": [OPENAI], "tool_choice": "other"}, "tool_choice"),
        ({"prompt": "a", "temperature": 3}, "temperature"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "json_schema": "no"}, "json_schema"),
    ],
)
def test_what_cannot_be_asked_names_its_place(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**given)
    assert caught.value.param == param


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)


@pytest.mark.parametrize("tool", registry.listed(), ids=lambda tool: tool.name)
def test_schemas_hold_nothing_that_some_client_refuses(tool: Any) -> None:
    schema = tool.input_schema
    assert schema["type"] == "object" and isinstance(schema["properties"], dict)
    assert not FORBIDDEN & set(keys(schema))
    assert all(isinstance(one["type"], str) and one["description"] for one in schema["properties"].values())
    assert tool.description and tool.annotations.destructive_hint is False
    json.dumps(schema)
