"""Calls in the markups of other families than Qwen3: a call is read the same however the reply is split."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.runner.chat.call_formats import (
    FORMATS,
    HERMES,
    MISTRAL,
    MISTRAL_ARGS,
    MISTRAL_ID,
    QWEN3_CODER,
    Format,
    of_template,
)
from engines.runner.chat.reply import ReplyParser
from engines.types.common import Json
from tests.engines.runner.chat import families
from tests.promises import promise

SCHEMAS: dict[str, Json] = {
    "look": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "share": {"type": "number"},
            "now": {"type": "boolean"},
            "tags": {"type": "array"},
            "more": {"type": "object"},
            "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "either": {"type": ["string", "integer"]},
            "kind": {"enum": ["a", "b"]},
        },
    },
    "f": {},
}
Read = tuple[str, list[tuple[str, str]], str, int]


def read(format: Format, pieces: Iterable[str], cut: bool = False) -> Read:
    """Text, complete calls, raw text of unfinished ones, and how many of those were shown."""
    parser = ReplyParser(SCHEMAS, thinking="absent", format=format)
    deltas = [delta for piece in pieces for delta in parser.feed(piece)]
    end = parser.finish(cut=cut)
    calls: dict[int, list[str]] = {}
    text = ""
    for delta in [*deltas, *end.deltas]:
        text += delta.text
        for call in delta.calls:
            calls.setdefault(call.index, [call.name, ""])[1] += call.arguments
    complete = [(name, arguments) for index, (name, arguments) in calls.items() if index not in end.unfinished_calls]
    assert end.called == bool(complete)
    for index in end.unfinished_calls:
        with pytest.raises(ValueError):
            json.loads(calls[index][1])
    return text, complete, end.unfinished_text, len(end.unfinished_calls)


def check(
    format: Format, written: str, text: str, *calls: tuple[str, Any], cut: bool = False, unfinished: str = ""
) -> None:
    whole = read(format, [written], cut)
    assert whole[0] == text
    assert [(name, json.loads(arguments)) for name, arguments in whole[1]] == list(calls)
    assert whole[2] == unfinished
    splits = ([written[:place], written[place:]] for place in range(1, len(written)))
    for pieces in itertools.chain([list(written)], splits):
        assert read(format, pieces, cut) == whole, pieces


def xml(name: str, **values: str) -> str:
    given = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<function={name}>\n{given}</function>"


def tags(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


PARIS = ("look", {"city": "Paris"})
CALL = xml("look", city="Paris")

XML = [
    ("one call", tags(CALL), "", [PARIS]),
    ("text before it", "I look.\n\n" + tags(CALL), "I look.", [PARIS]),
    ("several, and text", tags(CALL, xml("f")) + "\nSo.", "\nSo.", [PARIS, ("f", {})]),
    ("two in one tag", f"<tool_call>\n{CALL}\n{xml('f')}\n</tool_call>", "", [PARIS, ("f", {})]),
    ("no opening tag, and a stray end tag", f"{CALL}\n</tool_call>", "", [PARIS]),
    ("no tags at all", f"a\n{CALL}", "a", [PARIS]),
    ("no end tag", f"<tool_call>\n{CALL}", "", [PARIS]),
    ("no end tag before the next call", f"<tool_call>\n{CALL}\n{tags(xml('f'))}", "", [PARIS, ("f", {})]),
    ("no end of the function", f"<tool_call>\n{CALL[:-11]}\n</tool_call>", "", [PARIS]),
    ("no end of a parameter", tags(CALL.replace("\n</parameter>", "")), "", [PARIS]),
    ("no end of a parameter before the next",
     tags("<function=look>\n<parameter=city>\nParis\n<parameter=days>\n3\n</parameter>\n</function>"), "",
     [("look", {"city": "Paris", "days": 3})]),
    ("JSON in the tags", tags('{"name": "look", "arguments": {"city": "Paris"}}'), "", [PARIS]),
    ("the tag twice", f"<tool_call>\n<tool_call>\n{CALL}\n</tool_call>", "", [PARIS]),
    ("markup in a value",
     tags(xml("look", city="<tool_call> </tool_call>\n<function=f> {\"a\"}\n\n")), "",
     [("look", {"city": "<tool_call> </tool_call>\n<function=f> {\"a\"}\n\n"})]),
    ("a long value of many lines", tags(xml("look", city="line \"of\" text\n" * 20)), "",
     [("look", {"city": "line \"of\" text\n" * 20})]),
    ("an empty value", tags(xml("look", city="")), "", [("look", {"city": ""})]),
    ("not declared", tags(xml("g", city="x")), tags(xml("g", city="x")), []),
    ("prose", "Use <function= or <tool_call> so.", "Use <function= or <tool_call> so.", []),
    ("values by their types",
     tags(xml("look", city="3", days="3", share="2.5", now="True", tags="[1, 'a']", more='{"x": null}', maybe="null",
              either="7", kind="a")), "",
     [("look", {"city": "3", "days": 3, "share": 2.5, "now": True, "tags": [1, "a"], "more": {"x": None}, "maybe": None,
                "either": 7, "kind": "a"})]),
    ("values that aren't of their types",
     tags(xml("look", days="many", share="3", now="perhaps", tags="a, b", more="{", maybe="5", either="x",
              other="1")), "",
     [("look", {"days": "many", "share": 3, "now": "perhaps", "tags": "a, b", "more": "{", "maybe": 5, "either": "x",
                "other": "1"})]),
]  # fmt: skip


@promise("chat:calls:families")
@pytest.mark.parametrize(("written", "text", "calls"), [row[1:] for row in XML], ids=[row[0] for row in XML])
def test_calls_of_qwen3_coder(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    check(QWEN3_CODER, written, text, *calls)


@promise("chat:calls:families")
def test_a_call_of_qwen3_coder_that_breaks_off_is_told_as_text() -> None:
    cut = tags(CALL)[:40]
    check(QWEN3_CODER, cut, "", cut=True, unfinished=cut)
    twice = tags(xml("look", city="a").replace("</function>", "<parameter=city>\nb\n</parameter>\n</function>"))
    assert read(QWEN3_CODER, [twice])[3] == 1


def test_a_string_goes_on_while_it_is_written() -> None:
    parser = ReplyParser(SCHEMAS, thinking="absent", format=QWEN3_CODER)
    parser.feed("<tool_call>\n<function=look>\n<parameter=city>\n")
    shown = parser.feed("word " * 40)
    assert len("".join(call.arguments for delta in shown for call in delta.calls)) > 150


LIST = '[{"name": "look", "arguments": {"city": "Paris"}}]'
TWO = '[{"name": "look", "arguments": {"city": "Paris"}, "id": "abcdefghi"}, {"name": "f", "arguments": {}}]'
NAMED = [
    ("a list", f"[TOOL_CALLS] {LIST}", "", [PARIS]),
    ("a list without a blank", f"[TOOL_CALLS]{LIST}", "", [PARIS]),
    ("two in a list", f"a\n[TOOL_CALLS] {TWO}", "a", [PARIS, ("f", {})]),
    ("an object", f"[TOOL_CALLS]{LIST[1:-1]}", "", [PARIS]),
    ("a comma before the bracket", f"[TOOL_CALLS]{LIST[:-1]},]", "", [PARIS]),
    ("arguments as a string", '[TOOL_CALLS][{"name": "look", "arguments": "{\\"city\\": \\"Paris\\"}"}]', "", [PARIS]),
    ("brackets missing before the next", f"[TOOL_CALLS]{LIST[:-2]}[TOOL_CALLS]f[ARGS]{{}}", "", [PARIS, ("f", {})]),
    ("name and arguments", '[TOOL_CALLS]look[ARGS]{"city": "Paris"}', "", [PARIS]),
    ("name, id and arguments", '[TOOL_CALLS]look[CALL_ID]abcdefghi[ARGS]{"city": "Paris"}', "", [PARIS]),
    ("name without a mark", '[TOOL_CALLS]look{"city": "Paris"}', "", [PARIS]),
    ("blanks between", '[TOOL_CALLS] look [ARGS] {"city": "Paris"}\n', "", [PARIS]),
    ("several", '[TOOL_CALLS]look[ARGS]{"city": "Paris"}[TOOL_CALLS]f[ARGS]{}', "", [PARIS, ("f", {})]),
    ("several without a mark between", '[TOOL_CALLS]look[ARGS]{"city": "Paris"}, f[ARGS]{}', "", [PARIS, ("f", {})]),
    ("marks in a string", '[TOOL_CALLS]look[ARGS]{"city": "[TOOL_CALLS]f[ARGS]{}"}', "",
     [("look", {"city": "[TOOL_CALLS]f[ARGS]{}"})]),
    ("lists in the arguments", '[TOOL_CALLS]look[ARGS]{"tags": [[1], ["[TOOL"]]}', "",
     [("look", {"tags": [[1], ["[TOOL"]]})]),
    ("not declared", '[TOOL_CALLS]g[ARGS]{"city": 1}', '[TOOL_CALLS]g[ARGS]{"city": 1}', []),
    ("prose", "[TOOL_CALLS] is a mark, [TOOL is none", "[TOOL_CALLS] is a mark, [TOOL is none", []),
    ("an object is text without the mark", LIST, LIST, []),
]  # fmt: skip


@promise("chat:calls:families")
@pytest.mark.parametrize("format", [MISTRAL, MISTRAL_ARGS, MISTRAL_ID], ids=lambda format: format.markup)
@pytest.mark.parametrize(("written", "text", "calls"), [row[1:] for row in NAMED], ids=[row[0] for row in NAMED])
def test_calls_of_mistral(format: Format, written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    check(format, written, text, *calls)


@pytest.mark.parametrize(
    "written", ['[TOOL_CALLS]look[ARGS]{"city": "Par', f"[TOOL_CALLS]{LIST[:-9]}", "[TOOL_CALLS]lo"]
)
def test_a_call_of_mistral_that_breaks_off_is_told_as_text(written: str) -> None:
    check(MISTRAL_ARGS, written, "", cut=True, unfinished=written)


PARTS = [
    "<tool_call>", "</tool_call>", "<function=", "look>", "<parameter=", "city>", "</parameter>", "</function>", "\n",
    " ", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "look", "f", "{", "}", '"city": ', '"Paris"', "[", "]", ",", "A", "日",
    CALL, LIST, "<", ">", "=",
]  # fmt: skip


@given(parts=st.lists(st.sampled_from(PARTS), max_size=12), where=st.integers(0, 60), cut=st.booleans())
def test_nothing_vanishes_and_a_split_changes_nothing(parts: list[str], where: int, cut: bool) -> None:
    written = "".join(parts)
    for format in (HERMES, *FORMATS):
        whole = read(format, [written], cut)
        assert read(format, [written[:where], written[where:]], cut) == whole == read(format, list(written), cut)
        told = whole[0] + whole[2] + "".join(arguments for _, arguments in whole[1])
        for letter in "A日":
            assert told.count(letter) + told.count(f"\\u{ord(letter):04x}") >= min(written.count(letter), 1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (families.QWEN3_CODER, QWEN3_CODER),
        (families.MISTRAL, MISTRAL),
        (families.CHATML, HERMES),
        ("[TOOL_CALLS]{{ name }}[ARGS]", MISTRAL_ARGS),
        ("[TOOL_CALLS]{{ name }}[CALL_ID]{{ id }}[ARGS]", MISTRAL_ID),
    ],
)
def test_the_format_follows_the_template(text: str, wanted: Format) -> None:
    assert of_template(text, knows_tools=True) == wanted
    assert of_template(text, knows_tools=False) == HERMES
