import json
from typing import Any

import pytest

from engines.errors import InvalidRequest, UnsupportedField
from engines.types import Message
from openai_compat.fields import ACTS, REFUSED, WITHOUT_EFFECT, Parsed, parse

HELLO = [{"role": "user", "content": "hello"}]


def parsed(**fields: Any) -> Parsed:
    return parse(json.dumps({"model": "m", "messages": HELLO, **fields}).encode(), "t")


def test_null_means_not_given_for_every_optional_field() -> None:
    names = (ACTS | REFUSED.keys() | WITHOUT_EFFECT) - {"model", "messages"}
    assert parsed(**dict.fromkeys(names)) == parsed()


@pytest.mark.parametrize(
    ("stop", "expected"), [("b", ("b",)), (["b"], ("b",)), ([], ()), (None, ()), (["a", "b"], ("a", "b"))]
)
def test_a_stop_string_and_a_list_of_it_are_the_same(stop: object, expected: tuple[str, ...]) -> None:
    assert parsed(stop=stop).request.sampling.stop == expected


BAD: dict[str, list[Any]] = {
    "stop": ["", 5, ["a", 5], list("abcde")],
    "messages": [{"messages": []}, "hello", [], [None], [[]], None],
    "temperature": [-1, 3, "hot", True],
    "top_p": [0],
    "max_tokens": [0, 1.5, True, 2**64],
    "seed": ["x", 2**64, -(2**63) - 1],
    "n": [2, True],
    "stream": ["yes", 1],
    "stream_options": ["x", []],
    "model": [None, 3],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_by_the_fields_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**{field: value})
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "robot", "content": "x"}, "messages[0].role"),
        ({"role": "tool", "content": "x"}, "messages[0].role"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].type"),
    ],
)
def test_a_bad_message_is_refused_by_its_place(message: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(messages=[message])
    assert caught.value.param == param


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_the_answer_and_is_not_built_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedField) as caught:
        parsed(**{name: [{"type": "function"}]})
    assert caught.value.param == name
    for neutral in REFUSED[name]:
        assert parsed(**{name: neutral}) == parsed()


def test_include_usage_is_true_or_false() -> None:
    assert parsed(stream_options={"include_usage": True}).include_usage
    with pytest.raises(InvalidRequest) as caught:
        parsed(stream_options={"include_usage": "no"})
    assert caught.value.param == "stream_options.include_usage"


def test_the_smaller_of_both_limits_acts() -> None:
    assert parsed(max_tokens=5, max_completion_tokens=3).request.sampling.max_tokens == 3


def test_names_in_no_reference_are_told_back() -> None:
    assert parsed(zebra=1, user="me").ignored == ("zebra",)


def test_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    got = parsed(messages=[{"role": "developer", "content": parts}, {"role": "assistant", "content": None}])
    assert got.request.messages == (Message("system", "ab"), Message("assistant", ""))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_clear_error(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="JSON object"):
        parse(body, "t")
