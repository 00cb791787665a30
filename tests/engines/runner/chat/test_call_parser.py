import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.runner.chat.call_parser import JsonScanner

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)


def scan(text: str) -> tuple[str, JsonScanner] | None:
    scanner, shown = JsonScanner(), ""
    for c in text:
        piece = scanner.feed(c)
        if piece is None:
            return None
        shown += piece
    return shown, scanner


def whole(text: str) -> str | None:
    """What the scanner makes of a text that is one object or list."""
    done = scan(text)
    return done[0] if done and done[1].state == "done" else None


@given(OBJECTS | st.lists(VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_strict_json_is_given_back_as_it_was_written(value: object, ascii: bool, indent: int | str | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    assert whole(text) == text


@given(OBJECTS, st.data())
def test_closers_make_every_beginning_valid_or_are_refused(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=False)
    begun = scan(text[: data.draw(st.integers(1, len(text)))])
    assert begun
    shown, scanner = begun
    closers = scanner.closers()
    if closers is not None:
        assert isinstance(json.loads(shown + closers), dict)
    else:
        assert scanner.in_string or scanner.state in ("colon", "value", "literal", "number")


@given(st.lists(st.sampled_from([*"{}[]:,\"'\\ \n-+.0127eEun", "true", "None", '"a"', '"a":', "\\u00e9"]), max_size=14))
def test_whatever_is_accepted_is_given_back_as_valid_json(pieces: list[str]) -> None:
    text = "".join(["[", *pieces, "]"])
    shown = whole(text)
    if shown is not None:
        assert isinstance(json.loads(shown), list)
    else:
        with pytest.raises(ValueError):
            json.loads(text)


@given(OBJECTS)
def test_what_python_writes_of_a_value_becomes_json(value: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(value), parse_float=str)
    shown = whole(repr(plain))
    if "\\x" not in repr(plain) and "\\U" not in repr(plain):
        assert shown is not None and json.loads(shown) == plain


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('{"a":1,}', '{"a":1}'),
        ('{"a": [1, 2 , \n] }', '{"a": [1, 2  \n] }'),
        ("{'a': 'say \"hi\"', 'b': True, 'c': [False, None]}", '{"a": "say \\"hi\\"", "b": true, "c": [false, null]}'),
        ("{'a': 'it\\'s'}", '{"a": "it\'s"}'),
        ('{"a": "it\\\'s"}', '{"a": "it\'s"}'),
        ('{\u00a0"a":\u30001}', '{"a":1}'),
    ],
)
def test_small_faults_are_mended(written: str, meant: str) -> None:
    assert whole(written) == meant
    json.loads(meant)


def test_all_forms_of_numbers_are_read() -> None:
    numbers = "[0, -0, 0.50, -0e1, 10, 9E+2, 1.5e-07, 0.0E0]"
    assert whole(numbers) == numbers
    json.loads(numbers)


@pytest.mark.parametrize(
    "text",
    [
        "[01]", "[-]", "[1.]", "[.5]", "[+1]", "[1e]", "[1e+]", "[NaN]", "[Infinity]", "[tru]", "[Null]", "[٣]",
        "[,]", "[1,,2]", "[1 2]", "[1}", "[1]]", "[1] ", "{1:2}", '{"a"}', '{"a" 1}', '{"a":}', "{,}",
        '["\n"]', '["\x1f"]', '["\\x41"]', '["\\u12g4"]', '["\\u123"]', '["a]',
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(text: str) -> None:
    assert whole(text) is None
