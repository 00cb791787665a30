import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.runner.chat.reply import ReplyParser, random_call_id
from engines.runner.generation.output_parser import End, Phase
from engines.types.chat import Delta
from tests.promises import promise

TOOLS = frozenset({"look", "f"})
MANY = settings(max_examples=200)
Thinks = Literal["absent", "possible", "open"]


class Call(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class Reply(msgspec.Struct, frozen=True):
    """What a client puts together from the deltas. `calls` are the complete ones, `begun` the others."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    unfinished: str = ""
    begun: tuple[Call, ...] = ()


class Case(msgspec.Struct, frozen=True):
    says: str
    written: str
    reply: Reply
    thinking: Thinks = "absent"
    tools: frozenset[str] = TOOLS
    separate: bool = True
    parallel: bool = True
    cut: bool = False


def parser(case: Case) -> ReplyParser:
    numbers = count()
    return ReplyParser(
        case.tools,
        thinking=case.thinking,
        separate=case.separate,
        parallel=case.parallel,
        ids=lambda: f"call_{next(numbers)}",
    )


def read(case: Case, pieces: Iterable[str]) -> tuple[Reply, list[tuple[str, int]]]:
    """The reply, and the order in which its parts came."""
    reading = parser(case)
    deltas = [delta for piece in pieces for delta in reading.feed(piece)]
    end = reading.finish(cut=case.cut)
    deltas.extend(end.deltas)
    return put_together(deltas, end)


def put_together(deltas: list[Delta], end: End) -> tuple[Reply, list[tuple[str, int]]]:
    text = reasoning = ""
    calls: list[Call] = []
    order: list[tuple[str, int]] = []
    for delta in deltas:
        assert [bool(delta.text), bool(delta.reasoning), bool(delta.calls)].count(True) == 1
        text, reasoning = text + delta.text, reasoning + delta.reasoning
        part = [("text", 0)] if delta.text else [("reasoning", 0)] if delta.reasoning else []
        for call in delta.calls:
            part.append(("call", call.index))
            if call.id:
                assert (call.index, call.id, call.arguments) == (len(calls), f"call_{len(calls)}", "")
                calls.append(Call(call.name, ""))
            else:
                assert call.index == len(calls) - 1 and call.arguments and not call.name
                calls[-1] = Call(calls[-1].name, calls[-1].arguments + call.arguments)
        order.extend(step for step in part if not order or order[-1] != step)
    begun = tuple(calls[index] for index in end.unfinished_calls)
    complete = tuple(call for index, call in enumerate(calls) if index not in end.unfinished_calls)
    assert all(is_object(call.arguments) for call in complete)
    assert not any(is_object(call.arguments) for call in begun)
    assert end.called == bool(complete)
    assert not begun or end.unfinished_text
    return Reply(text, reasoning, complete, end.unfinished_text, begun), order


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def for_every_split(text: str) -> Iterator[list[str]]:
    yield [text]
    yield list(text)
    for place in range(1, len(text)):
        yield [text[:place], text[place:]]


def called(text: str = "", *calls: tuple[str, str], **more: Any) -> Reply:
    return Reply(text, calls=tuple(Call(*call) for call in calls), **more)


PARIS = '{"city": "Paris"}'
LOOK = '{"name": "look", "arguments": {"city": "Paris"}}'
F = '{"name": "f", "arguments": {}}'
ONE = called("", ("look", PARIS))
TWO = called("", ("look", PARIS), ("f", "{}"))

CASES = [
    # Text
    Case("plain text is text", "Hello,\n  你好 😀.\n\n", Reply("Hello,\n  你好 😀.\n\n")),
    Case("what only looks like a marker is text", "a < b and <t", Reply("a < b and <t")),
    Case("half a marker is text",
         "<tool_cal <</tool_call> <<tool_calm>", Reply("<tool_cal <</tool_call> <<tool_calm>")),
    Case("white space alone is text", " \n ", Reply(" \n ")),
    Case("white space alone is text though a thought might have come", " \n ", Reply(" \n "), thinking="possible"),
    Case("half of a thought's marker is text", "\n<thin", Reply("\n<thin"), thinking="possible"),
    Case("without tools a call is text", f"<tool_call>{LOOK}</tool_call>\n",
         Reply(f"<tool_call>{LOOK}</tool_call>\n"), tools=frozenset()),
    # Thoughts
    Case("a model without thoughts writes markers as text", "<think>a</think>b", Reply("<think>a</think>b")),
    Case("a thought begins the reply",
         "<think>\nHm.\n\n a\n</think>\n\nYes.\n", Reply("Yes.\n", "Hm.\n\n a"), "possible"),
    Case("a thought begins after white space", " \n<think>a</think>b", Reply("b", "a"), "possible"),
    Case("a thought without anything in it is none", "<think>\n\n</think>\n\nHi", Reply("Hi"), "possible"),
    Case("only newlines are taken from a thought's borders", "<think> a </think>  b", Reply("  b", " a "), "possible"),
    Case("a later thought is text", "a<think>b</think>c", Reply("a<think>b</think>c"), "possible"),
    Case("a second thought is text", "<think>a</think><think>b</think>", Reply("<think>b</think>", "a"), "possible"),
    Case("an end without a beginning is text", "a</think>b", Reply("a</think>b"), "possible"),
    Case("the template has begun the thought", "\na<think>\n</think>\nb", Reply("b", "a<think>"), "open"),
    Case("a cut thought is reasoning", "<think>\na\n</thi", Reply("", "a\n</thi"), "possible", cut=True),
    Case("a thought that never ends is reasoning", "a\n\n", Reply("", "a\n\n"), "open"),
    Case("a thought speaks of calls", f"<think><tool_call>{LOOK}</tool_call></think>",
         Reply("", f"<tool_call>{LOOK}</tool_call>"), "possible"),
    Case("a thought is left where it was written", "\n<think>\na\n</think>\n\nb\n",
         Reply("\n<think>\na\n</think>\n\nb\n"), "possible", separate=False),
    Case("a thought that the template began is left too",
         "\na</think>\nb", Reply("\na</think>\nb"), "open", separate=False),
    Case("no call is made in a thought that is left in the text", f"<think><tool_call>{LOOK}</tool_call></think>{F}",
         Reply(f"<think><tool_call>{LOOK}</tool_call></think>{F}"), "possible", separate=False),
    Case("a call follows a thought that is left in the text", f"<think>a</think>\n<tool_call>{F}</tool_call>",
         called("<think>a</think>", ("f", "{}")), "possible", separate=False),
    Case("a call follows a thought", f"<think>\na\n</think>\n\n<tool_call>\n{LOOK}\n</tool_call>",
         called("", ("look", PARIS), reasoning="a"), "possible"),
    # Calls as they should be
    Case("a call", f"<tool_call>\n{LOOK}\n</tool_call>", ONE),
    Case("calls in the middle of text",
         f"I look.\n\n<tool_call>\n{LOOK}\n</tool_call>\n<tool_call>{F}</tool_call>\nSo.\n",
         called("I look.\nSo.\n", ("look", PARIS), ("f", "{}"))),
    Case("white space after the last call is dropped", f"<tool_call>{F}</tool_call> \n\n", called("", ("f", "{}"))),
    Case("arguments are verbatim",
         '<tool_call>{"name":"f","arguments":{ "a" : [1.50,\n "\\u00e9\\\\\\"<\\/tool_call>"] }}</tool_call>',
         called("", ("f", '{ "a" : [1.50,\n "\\u00e9\\\\\\"<\\/tool_call>"] }'))),
    Case("a string of the arguments holds tags",
         '<tool_call>{"name":"f","arguments":{"a":"</tool_call><tool_call>"}}</tool_call>',
         called("", ("f", '{"a":"</tool_call><tool_call>"}'))),
    Case("a name is written with escapes",
         '<tool_call>{"name": "l\\u006fok", "arguments": {}}</tool_call>', called("", ("look", "{}"))),
    Case("the name comes last", f'<tool_call>{{"arguments": {PARIS}, "name": "look"}}</tool_call>', ONE),
    Case("parameters are arguments", f'<tool_call>{{"name": "look", "parameters": {PARIS}}}</tool_call>', ONE),
    Case("arguments may be missing", '<tool_call>{"name": "f"}</tool_call>', called("", ("f", "{}"))),
    Case("arguments may be null", '<tool_call>{"name": "f", "arguments": null}</tool_call>', called("", ("f", "{}"))),
    Case("arguments may be a string",
         '<tool_call>{"name": "look", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>', ONE),
    Case("arguments may be a blank string",
         '<tool_call>{"name": "f", "arguments": " "}</tool_call>', called("", ("f", "{}"))),
    Case("id and type are passed over",
         '<tool_call>{"type": "function", "id": -12, "name": "f", "arguments": {}}</tool_call>',
         called("", ("f", "{}"))),
    Case("an id may be last",
         '<tool_call>{"name": "f", "arguments": {}, "id": 12}</tool_call>', called("", ("f", "{}"))),
    Case("a list of calls", f"<tool_call>[{LOOK}, {F}]</tool_call>", TWO),
    Case("calls one after another", f"<tool_call>\n{LOOK}\n{F}\n</tool_call>", TWO),
    Case("the only call ends the reply",
         f"<tool_call>{LOOK}</tool_call><tool_call>{F}</tool_call>b", ONE, parallel=False),
    Case("the only call of a list ends the reply",
         f"a<tool_call>[{F}, {LOOK}]", called("a", ("f", "{}")), parallel=False),
    Case("the only call ends the reply at another's tag", f"<tool_call>{F[:-1]}<tool_call>", called("", ("f", "{}")),
         parallel=False),
    # Markup that is mended
    Case("no end tag", f"<tool_call>\n{LOOK}\n", ONE),
    Case("no end tag, and cut", f"<tool_call>\n{LOOK}", ONE, cut=True),
    Case("no end tag before text", f"<tool_call>\n{LOOK}\nSo.", called("\nSo.", ("look", PARIS))),
    Case("no end tag before the next call", f"<tool_call>\n{LOOK}\n<tool_call>{F}</tool_call>", TWO),
    Case("half an end tag", f"<tool_call>{LOOK}\n</tool_", called("\n</tool_", ("look", PARIS))),
    Case("no opening tag", f"\n{LOOK}\n</tool_call>\n", ONE),
    Case("no opening tag of the second call", f"<tool_call>{LOOK}</tool_call>\n{F}\n</tool_call>\n", TWO),
    Case("no opening tag, and tags in a string", f'{F[:-2]}"a": "<tool_call>"}}}}</tool_call>',
         called("", ("f", '{"a": "<tool_call>"}'))),
    Case("the opening tag twice", f"<tool_call>\n<tool_call>\n{LOOK}\n</tool_call>", ONE),
    Case("a bracket is missing", f"<tool_call>{LOOK[:-1]}\n</tool_call>", ONE),
    Case("two brackets are missing", f"<tool_call>{LOOK[:-2]}</tool_call>b", called("b", ("look", PARIS))),
    Case("brackets of many kinds are missing", '<tool_call>{"name": "f", "arguments": {"a": [[1, {"b": 12</tool_call>',
         called("", ("f", '{"a": [[1, {"b": 12}]]}'))),
    Case("brackets and an end tag are missing before the next call",
         f"<tool_call>{LOOK[:-2]}\n<tool_call>{F}</tool_call>",
         called("", ("look", '{"city": "Paris"\n}'), ("f", "{}"))),
    Case("brackets are missing after a comma", '<tool_call>[{"name": "f", "arguments": {"a": 1, </tool_call>',
         called("", ("f", '{"a": 1}'))),
    Case("a bracket too many", f"<tool_call>{LOOK}}}]\n</tool_call>", ONE),
    Case("commas before closing brackets",
         f'<tool_call>[{{"name": "look", "arguments": {PARIS[:-1]},}},}},]</tool_call>', ONE),
    Case("a fence", f"<tool_call>\n```json\n{LOOK}\n```\n</tool_call>", ONE),
    Case("a fence that names no language, around a list", f"<tool_call>```[{LOOK}\n{F}]```</tool_call>", TWO),
    Case("Python's quotes and words",
         "<tool_call>{'name': 'f', 'arguments': {'a': True, 'b': \"it's\", 'c': None}}</tool_call>",
         called("", ("f", '{"a": true, "b": "it\'s", "c": null}'))),
    Case("white space that JSON doesn't know",
         '<tool_call>\u00a0{\u3000"name": "f", "arguments": {\u00a0}\u3000}</tool_call>',
         called("", ("f", "{}"))),
    # What is no call
    *(
        Case(says, f"a\n<tool_call>{block}</tool_call>\n", Reply(f"a\n<tool_call>{block}</tool_call>\n"))
        for says, block in [
            ("nothing", "\n"),
            ("prose", " is how one calls a tool"),
            ("a tool that isn't declared", '\n{"name": "g", "arguments": {}}\n'),
            ("no name", '{"arguments": {"a": 1}}'),
            ("a name that is no string", '{"name": 5, "arguments": {}}'),
            ("a list as arguments", '{"name": "f", "arguments": [1]}'),
            ("a number as arguments", '{"name": "f", "arguments": 1}'),
            ("words as arguments", '{"name": "f", "arguments": "Paris"}'),
            ("half an object in a string", '{"name": "f", "arguments": "{\\"a\\": "}'),
            ("a list in a string", '{"name": "f", "arguments": "[]"}'),
            ("more than an object in a string", '{"name": "f", "arguments": "{} {}"}'),
            ("half a character in a string", '{"name": "f", "arguments": "{\\"a\\": \\"\\ud83d\\"}"}'),
            ("a key that calls don't have", '{"name": "f", "mood": "good", "arguments": {}}'),
            ("an id that is no scalar", '{"id": [1], "name": "f", "arguments": {}}'),
            ("the name twice", '{"name": "f", "name": "f"}'),
            ("a key without its value", '{"name": "f", "arguments":'),
            ("an apostrophe in Python's quotes", "{'name': 'f', 'arguments': {'a': 'it's'}}"),
            ("an empty list", "[]"),
            ("a list in a list", f"[[{F}]]"),
            ("another language in a fence", f"```yaml\n{F}\n```"),
            ("a fence of two", f"``{F}``"),
        ]
    ),
    Case("a call follows what is none", f"<tool_call> \n<tool_call>{{}} </tool_call>\n<tool_call>{F}</tool_call>",
         called("<tool_call> \n<tool_call>{} </tool_call>", ("f", "{}"))),
    Case("a call follows one that breaks at its tag", f'<tool_call>{{"name": \n<tool_call>{F}</tool_call>',
         called('<tool_call>{"name":', ("f", "{}"))),
    Case("only what is no call of a block is text", f'<tool_call>[{LOOK}, {{"name": "g"}}]</tool_call>',
         called(', {"name": "g"}]</tool_call>', ("look", PARIS))),
    Case("words behind a call are text",
         f"<tool_call>{LOOK}, I say</tool_call>", called(", I say</tool_call>", ("look", PARIS))),
    Case("a word behind a call is text", f"a\n<tool_call>{LOOK} b", called("a b", ("look", PARIS))),
    Case("a fence behind a call that had none is text", f"<tool_call>{LOOK}\n```", called("\n```", ("look", PARIS))),
    Case("a call that isn't begun is text at the end", '<tool_call>\n{"name": "lo', Reply('<tool_call>\n{"name": "lo')),
    Case("a call after text needs its tag", f"I call {F}</tool_call>", Reply(f"I call {F}</tool_call>")),
    Case("a call without both tags is text", f"{F}\nSo.", Reply(f"{F}\nSo.")),
    Case("a call without both tags is text at the end", f"{F}\n", Reply(f"{F}\n")),
    Case("a call without its tag is text when cut", LOOK[:-1], Reply(LOOK[:-1]), cut=True),
    Case("a JSON document is text", '\n{"name": "Bob", "age": 5} \n', Reply('\n{"name": "Bob", "age": 5} \n')),
    Case("a call follows a JSON document", f'{{"a": 1}}\n<tool_call>{F}</tool_call>', called('{"a": 1}', ("f", "{}"))),
    Case("a call follows an object that breaks at its tag", f'{{"name": <tool_call>{F}</tool_call>',
         called('{"name":', ("f", "{}"))),
    Case("what is no call follows one that breaks at its tag", '<tool_call>{"name": \n<tool_call>a</tool_call>',
         Reply('<tool_call>{"name": \n<tool_call>a</tool_call>')),
    Case("what is no call follows a thought", "<think>a</think>\n<tool_call></tool_call>\nb",
         Reply("<tool_call></tool_call>\nb", "a"), "possible"),
    Case("a call follows one without its end tag and opening tag", f" {F} <tool_call>{LOOK}</tool_call>",
         called(f" {F}", ("look", PARIS))),
    # Calls that break off
    Case("cut in the arguments", f"a <tool_call>\n{LOOK[:-5]}",
         called("a", unfinished=f"<tool_call>\n{LOOK[:-5]}", begun=(Call("look", '{"city": "Par'),)), cut=True),
    Case("cut before the last bracket", f"<tool_call>{LOOK[:-1]}",
         called(unfinished=f"<tool_call>{LOOK[:-1]}", begun=(Call("look", PARIS[:-1]),)), cut=True),
    Case("cut in the name", '<tool_call>{"name": "lo', called(unfinished='<tool_call>{"name": "lo'), cut=True),
    Case("cut behind the tag", "a\n<tool_call>", called("a", unfinished="<tool_call>"), cut=True),
    Case("cut in the tag", "a\n<tool_ca", Reply("a\n<tool_ca"), cut=True),
    Case("cut in the end tag with brackets missing", f"<tool_call>{LOOK[:-2]}</tool",
         called(unfinished=f"<tool_call>{LOOK[:-2]}</tool", begun=(Call("look", PARIS[:-1]),)), cut=True),
    Case("cut in the second call", f"<tool_call>{LOOK}</tool_call>\n<tool_call>{F[:-2]}",
         called("", ("look", PARIS), unfinished=f"<tool_call>{F[:-2]}", begun=(Call("f", "{"),)), cut=True),
    Case("cut in the second call of a list", f"<tool_call>[{LOOK}, {F[:-2]}",
         called("", ("look", PARIS), unfinished=f", {F[:-2]}", begun=(Call("f", "{"),)), cut=True),
    Case("the reply ends in the arguments", f"<tool_call>\n{LOOK[:-2]}",
         called(unfinished=f"<tool_call>\n{LOOK[:-2]}", begun=(Call("look", PARIS[:-1]),))),
    Case("the arguments break",
         f'<tool_call>{{"name": "f", "arguments": {{"a": oh}}}}</tool_call>\nb<tool_call>{LOOK}</tool_call>',
         called("\nb", ("look", PARIS), unfinished='<tool_call>{"name": "f", "arguments": {"a": oh}}</tool_call>',
                begun=(Call("f", '{"a": '),))),
    Case("an unknown key comes too late", f'<tool_call>{F[:-1]}, "mood": 1}}</tool_call>',
         called(unfinished=f'<tool_call>{F[:-1]}, "mood": 1}}</tool_call>', begun=(Call("f", "{"),))),
    Case("a string has no end",
         f'<tool_call>{{"name": "f", "arguments": {{"a": "b}}}}\n</tool_call>\n<tool_call>{LOOK}</tool_call>',
         called("", ("look", PARIS), unfinished='<tool_call>{"name": "f", "arguments": {"a": "b}}\n</tool_call>',
                begun=(Call("f", '{"a": "b}}'),))),
    Case("one breaks before the next one's tag, and both are told",
         f'<tool_call>{F[:-2]}!<tool_call>{F[:-2]}"a"</tool_call>c',
         called("c", unfinished=f'<tool_call>{F[:-2]}!<tool_call>{F[:-2]}"a"</tool_call>',
                begun=(Call("f", "{"), Call("f", '{"a"')))),
    Case("a broken call has no end", f"<tool_call>{F[:-2]}!\nb</tool",
         called(unfinished=f"<tool_call>{F[:-2]}!\nb</tool", begun=(Call("f", "{"),))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_a_reply_is_read_the_same_however_it_is_split(case: Case) -> None:
    whole = read(case, [case.written])
    assert whole[0] == case.reply
    for pieces in for_every_split(case.written):
        assert read(case, pieces) == whole, pieces


# Pieces of replies. What they say is of capitals, digits, Han and emoji, what they are made of never is: so one that is
# missing in the end was lost.
WORDS = ["A", "B 7", "日本\n", "😀", "É\u3000", "X"]
SYNTAX = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<", "<tool", "</to", ">", " ", "\n", "{", "}", "[", "]", ",",
    ":", '"', "'", "\\", "```",
    "```json\n", '{"name": "LOOK", "arguments": {', '{"name": "ZAP", "arguments": {', '"name":',
    '"arguments":', '"parameters": ', '{"id": "call", ', '"K": "V"', "'K': '", '"{\\"K\\": 1}"',
    "null", "true", "-", ".", "e",
]  # fmt: skip
GOOD = ['{"name": "LOOK", "arguments": {"Q": [1, "😀\\n"]}}', '{"arguments": {}, "name": "LOOK"}', "{'name': 'LOOK'}"]
BLOCKS = [f"<tool_call>\n{call}\n</tool_call>" for call in GOOD]
SOUPS = st.lists(st.sampled_from([*WORDS, *SYNTAX, *GOOD, *BLOCKS, *BLOCKS]), max_size=14).map("".join)
# Good replies with a few characters taken out, doubled, or the end cut off.
REPLIES = st.builds(
    lambda thought, parts: (f"<think>\n{thought}\n</think>\n\n" if thought else "") + "\n".join(parts),
    st.sampled_from(["", *WORDS, *BLOCKS]),
    st.lists(st.sampled_from([*WORDS, *BLOCKS]), max_size=5),
)
FAULTS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(["", "", *WORDS, *SYNTAX])), max_size=3
)


def damaged(reply: str, faults: list[tuple[int, int, str]]) -> str:
    for place, dropped, put in faults:
        place %= len(reply) + 1
        reply = reply[:place] + put + reply[place + dropped :]
    return reply


WRITTEN = st.builds(
    Case,
    st.just("generated"),
    SOUPS | st.builds(damaged, REPLIES, FAULTS),
    st.just(Reply()),
    thinking=st.sampled_from(["absent", "possible", "open"]),
    tools=st.sampled_from([frozenset(), frozenset({"LOOK"}), frozenset({"LOOK"})]),
    separate=st.booleans(),
    cut=st.booleans(),
)


def said(*texts: str) -> Counter[str]:
    return Counter(
        c for text in texts for c in text if not c.isspace() and (c.isupper() or c.isdigit() or c > "\u2fff")
    )


@promise("chat:tools:recovered")
@MANY
@given(WRITTEN)
def test_nothing_that_the_model_says_vanishes_or_is_told_twice(case: Case) -> None:
    reply, _ = read(case, [case.written])
    calls = [part for call in reply.calls for part in (call.name, call.arguments)]
    assert said(reply.text, reply.reasoning, reply.unfinished, *calls) == said(case.written)
    for part in (reply.text, reply.reasoning):
        assert is_subsequence(part, case.written)


@promise("chat:tools:recovered")
@MANY
@given(WRITTEN, st.booleans(), st.data())
def test_no_split_changes_a_reply(case: Case, parallel: bool, data: st.DataObject) -> None:
    case = msgspec.structs.replace(case, parallel=parallel)
    places = sorted(data.draw(st.lists(st.integers(0, len(case.written)), max_size=6)))
    pieces = [case.written[a:b] for a, b in zip([0, *places], [*places, len(case.written)], strict=True)]
    whole = read(case, [case.written])
    assert read(case, pieces) == whole
    assert read(case, case.written) == whole


@MANY
@given(st.text(st.sampled_from('<>/abcehiklnot_ \n{}"😀'), max_size=60))
def test_without_thoughts_and_tools_all_is_text_as_it_was_written(written: str) -> None:
    assert read(Case("", written, Reply(), tools=frozenset()), written)[0] == Reply(written)


def is_subsequence(part: str, whole: str) -> bool:
    rest = iter(whole)
    return all(c in rest for c in part)


ARGUMENTS = st.dictionaries(
    st.text(max_size=5), st.text(max_size=9) | st.integers() | st.lists(st.booleans()), max_size=3
)


@MANY
@given(st.text(max_size=20), st.lists(st.tuples(st.text("ab<>😀 \n"), ARGUMENTS), max_size=4), st.booleans())
def test_thoughts_texts_and_calls_come_out_as_they_went_in(
    thought: str, parts: list[tuple[str, dict[str, Any]]], ascii: bool
) -> None:
    thought = thought.strip("\r\n").replace("</think>", "")
    calls = [json.dumps(arguments, ensure_ascii=ascii) for _, arguments in parts]
    texts = [f"T{text.rstrip()}" for text, _ in parts]
    written = f"<think>\n{thought}\n</think>\n\n"
    for text, call in zip(texts, calls, strict=True):
        written += f'{text}\n<tool_call>\n{{"name": "f", "arguments": {call}}}\n</tool_call>\n'
    reply, _ = read(Case("", written, Reply(), thinking="possible"), [written])
    assert reply == called("\n".join(texts), *(("f", call) for call in calls), reasoning=thought)


@pytest.mark.parametrize(
    ("thinking", "steps"),
    [
        (
            "possible",
            [("\n<thi", "start"), ("nk>", "thinking"), ("a</think", "thinking"), (">", "answer"), ("\n", "answer")],
        ),
        ("possible", [(" ", "start"), ("a", "answer"), ("<think>", "answer")]),
        ("possible", [("<tool_call>", "call"), ("\n", "call"), (F, "call"), ("</tool_call>", "answer")]),
        ("absent", [("", "answer"), ("<tool_call", "answer"), (">", "call"), ("?", "answer")]),
        ("absent", [("<tool_call>" + F[:-2], "call"), ("!", "call"), ("</tool_call>", "answer")]),
        ("absent", [(F, "answer"), ("</tool_call>", "answer")]),
        ("open", [("", "thinking"), ("<think>", "thinking"), ("</think>", "answer")]),
    ],
)
def test_the_phase_says_where_the_text_has_led(thinking: Thinks, steps: list[tuple[str, Phase]]) -> None:
    reading = ReplyParser(TOOLS, thinking=thinking)
    for text, phase in steps:
        reading.feed(text)
        assert reading.phase == phase


def test_text_leaves_at_once_though_tools_are_declared() -> None:
    reading = parser(CASES[0])
    fed = {"Hel": ["Hel"], "lo <": ["lo"], "b": [" <b"], " {": [" {"], "<tool_c": [], "x": ["<tool_cx"]}
    assert {text: [delta.text for delta in reading.feed(text)] for text in fed} == fed
    assert ReplyParser(frozenset(), thinking="absent").feed("a \n") == [Delta(text="a \n")]


def test_arguments_leave_at_once_but_for_the_bracket_that_makes_them_whole() -> None:
    reading = parser(CASES[0])
    fed = ['<tool_call>{"name": "look"', ', "arguments": ', '{"ci', 'ty": "Pa', 'ris"', "}", "}", "\n</tool_call>"]
    calls = [[call for delta in reading.feed(text) for call in delta.calls] for text in fed]
    assert [[(call.id, call.name, call.arguments) for call in step] for step in calls] == [
        [],
        [],
        [("call_0", "look", ""), ("", "", '{"ci')],
        [("", "", 'ty": "Pa')],
        [("", "", 'ris"')],
        [],
        [("", "", "}")],
        [],
    ]


def test_a_reply_of_one_call_has_ended_with_it() -> None:
    reading = parser(Case("", "", Reply(), parallel=False))
    assert [(reading.feed(c) != [], reading.ended)[1] for c in f"<tool_call>{F}"][-2:] == [False, True]
    assert reading.feed("\n</tool_call>more") == []
    assert reading.finish(cut=True) == End((), (), "", True)


def test_each_call_has_its_own_id() -> None:
    ids = {random_call_id() for _ in range(100)}
    assert len(ids) == 100 and all(re.fullmatch("call_[0-9a-f]{24}", id) for id in ids)


@pytest.mark.parametrize(
    ("before", "filling", "after"),
    [
        ('<tool_call>{"name": "f", "arguments": {"a": "', "x", '"}}</tool_call>'),
        ('<tool_call>{"name": "f", "arguments": {"a": ', "[", ""),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}!', "x", ""),
        ('<tool_call>{"name": "f", "arguments": "', " ", '"}'),
        ('{"name": "f", "arguments": {"a": "', "<", '"}}</tool_call>'),
        ("<tool_call>", "<tool_call>", ""),
        ("a", "<tool_call", ""),
        ("a", " ", "<tool_call>"),
        ("a", f"<tool_call>{F}", ""),
        ("<think>", "\n", "</think>"),
    ],
)
def test_time_grows_with_the_text_alone(before: str, filling: str, after: str) -> None:
    written = before + filling * (100_000 // len(filling)) + after
    reading = ReplyParser(TOOLS, thinking="possible")
    began = time.process_time()
    for c in written:
        reading.feed(c)
    reading.finish(cut=True)
    assert time.process_time() - began < 1
