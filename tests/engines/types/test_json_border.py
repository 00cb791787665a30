"""JSON from outside: what gets in can be carried anywhere behind, and what doesn't is refused by its place."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.types.errors import InvalidRequest
from engines.types.json_border import MAX_DEPTH, check_text, decode, object_or_text, without_halves
from tests.promises import promise

HALVES = [r"\ud83d", r"\ude00", r"\ude00\ud83d", r"a\ud83db", r"\ud83d\ud83d\ude00"]
TEXTS = st.text(max_size=9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def refused(text: bytes | str, at: str = "") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(text, at)
    return caught.value


@promise("fields:halves")
@pytest.mark.parametrize("half", HALVES)
def test_half_a_character_is_refused_by_its_place(half: str) -> None:
    assert refused(f'{{"a": [{{}}, {{"b": "x{half}y"}}]}}').param == "a[1].b"
    assert refused(f'["x{half}"]', "messages").param == "messages[0]"
    assert refused(f'{{"a": {{"{half}": 1}}}}').param == "a"


@promise("fields:halves")
@pytest.mark.parametrize("raw", [b"\xed\xa0\xbd", b"\xed\xb8\x80", b"\xff", b"\xc3", b"\xf0\x9f\x98"])
def test_bytes_that_are_no_text_are_refused_by_their_place(raw: bytes) -> None:
    assert refused(b'{"a": {"b": "' + raw + b'"}}').param == "a.b"


@promise("fields:any-json")
@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 400, "-" + "9" * 5000, "NaN", "-Infinity"])
def test_a_number_that_no_double_holds_is_refused_by_its_place(number: str) -> None:
    assert refused(f'{{"a": [1, {{"b": {number}}}]}}').param == "a[1].b"


def test_an_integer_beyond_64_bits_is_a_double_as_for_most_readers_of_json() -> None:
    got = decode('{"a": [18446744073709551616, -9223372036854775809, 18446744073709551615, 5]}')
    assert got == {"a": [2.0**64, -(2.0**63), 2**64 - 1, 5]}
    assert [type(one) for one in got["a"]] == [float, float, int, int]


@promise("fields:any-json")
@pytest.mark.parametrize("depth", [MAX_DEPTH, 900, 5000, 100_000])
def test_what_is_nested_too_deeply_is_refused_by_its_field(depth: int) -> None:
    body = '{"model": "m", "metadata": ' + "[" * depth + "]" * depth + ', "x": 1}'
    found = refused(body)
    assert str(found.param).startswith("metadata") and len(str(found.param)) < 60
    assert "nested" in found.message


def test_what_is_no_json_says_so() -> None:
    assert refused("{", "tools").param == "tools"
    assert "must be JSON" in refused(b"").message


@given(VALUES)
def test_json_comes_in_as_it_is_and_goes_on_by_any_wire(value: Any) -> None:
    try:
        got = decode(json.dumps(value))
    except InvalidRequest:  # an integer beyond a double
        return
    assert got == json.loads(json.dumps(value), parse_int=lambda digits: _as_carried(int(digits)))
    msgspec.msgpack.encode(got)


def _as_carried(number: int) -> int | float:
    return number if -(2**63) <= number < 2**64 else float(number)


def test_what_somebody_else_decoded_is_checked_by_place() -> None:
    check_text({"a": ["😀", 1, None]}, "arguments")
    with pytest.raises(InvalidRequest) as caught:
        check_text({"a": ["x", "\ud83d"]}, "arguments")
    assert caught.value.param == "arguments.a[1]"


@promise("fields:halves")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"a": "\ud83d"}', '{"a": "\ufffd"}'),
        (r'{"a": "\ud83d\ude00"}', r'{"a": "\ud83d\ude00"}'),
        (r'{"a": "\ude00\ud83d"}', '{"a": "\ufffd\ufffd"}'),
        (r'{"a": "\ud83d\ud83d\ude00"}', '{"a": "\ufffd\\ud83d\\ude00"}'),
        (r'{"a": "\\ud83d"}', r'{"a": "\\ud83d"}'),
        (r'{"a": "\\\ud83d"}', '{"a": "\\\\\ufffd"}'),
        (r'{"a": "To\ud83d', '{"a": "To\ufffd'),
        ("no \\", "no \\"),
    ],
)
def test_halves_that_are_escaped_twice_become_the_character_for_what_is_lost(text: str, expected: str) -> None:
    assert without_halves(text) == expected


@given(st.text(st.sampled_from('\\ud83eE00"{}: '), max_size=40))
def test_json_without_halves_reads_as_whole_text(text: str) -> None:
    try:
        value = json.loads(without_halves(f'{{"a": "{text}"}}'))
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["", "[1]", '"x"', '{"a": ', "{'a': 1}", '{"a": 1e400}', "[" * 5000, "nul"])
def test_what_is_no_object_stays_text(text: str) -> None:
    assert object_or_text(text) == text
    assert object_or_text('{"a": 1}') == {"a": 1}
