import json
from collections.abc import Iterator
from typing import Any

import pytest

from engines.errors import InvalidRequest
from mcp_server import tools
from mcp_server.arguments import parse

CHAT = tools.CHAT.input_schema
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
        {},
        {"prompt": None},
        {"prompt": 5},
        {"prompt": " \n"},
        {"prompt": "x", "max_tokens": 1.5},
        {"prompt": "x", "max_tokens": True},
        {"prompt": "x", "thinking": "maybe"},
    ],
)
def test_what_is_missing_or_of_another_type_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(CHAT, given)
    assert caught.value.param in ("prompt", "max_tokens", "thinking")


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)


@pytest.mark.parametrize("tool", tools.listed(), ids=lambda tool: tool.name)
def test_schemas_hold_nothing_that_some_client_refuses(tool: Any) -> None:
    schema = tool.input_schema
    assert schema["type"] == "object" and isinstance(schema["properties"], dict)
    assert not FORBIDDEN & set(keys(schema))
    assert all(isinstance(one["type"], str) and one["description"] for one in schema["properties"].values())
    assert tool.description and tool.annotations.read_only_hint is True
    json.dumps(schema)
