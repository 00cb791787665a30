"""A streamed call: one entry a chunk, however the model's text is cut."""

import json
from typing import Any

import pytest

from engines.runner.chat.reply import ReplyParser
from engines.types.chat import CallDelta, Delta
from openai_compat.chat.answers import answer
from openai_compat.chat.fields import parse_chat
from tests.promises import promise

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
ONE = '<tool_call>\n{"name": "f", "arguments": {"a": [1, {"b": "x"}]}}\n</tool_call>'
TWO = (
    'Well: <tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": {}}'
)
REPLIES = [ONE, TWO + "\n</tool_call>", "<think>\nHm\n</think>\n\n" + TWO + "\n</tool_call>"]


def chunks(deltas: list[Delta]) -> list[Any]:
    made = answer(parse_chat(BODY, "t"))
    return [chunk["choices"][0]["delta"] for delta in deltas for chunk in made.said(0, delta)]


def put_together(entries: list[Any]) -> list[tuple[str, str]]:
    """The calls as a client reads them that looks at the first entry of each chunk alone."""
    calls: dict[int, tuple[str, str]] = {}
    for entry in entries:
        if entry["index"] not in calls:
            assert entry.keys() == {"index", "id", "type", "function"} and entry["type"] == "function"
            assert entry["function"]["arguments"] == ""
            calls[entry["index"]] = (entry["function"]["name"], "")
        else:
            assert entry.keys() == {"index", "function"} and entry["function"].keys() == {"arguments"}
            name, arguments = calls[entry["index"]]
            calls[entry["index"]] = (name, arguments + entry["function"]["arguments"])
    return list(calls.values())


def read(pieces: list[str]) -> list[tuple[str, str]]:
    parser = ReplyParser(frozenset({"f", "g"}), thinking="possible")
    deltas = [delta for piece in pieces for delta in parser.feed(piece)]
    told = chunks([*deltas, *parser.finish(cut=False).deltas])
    assert all(len(delta.get("tool_calls", "x")) == 1 and len(delta) == 1 for delta in told)
    return put_together([delta["tool_calls"][0] for delta in told if "tool_calls" in delta])


@promise("chat:tools:one-entry")
@pytest.mark.parametrize("reply", REPLIES)
def test_a_chunk_has_one_entry_however_the_text_is_cut(reply: str) -> None:
    whole = read([reply])
    assert whole == read(list(reply))
    for first in range(1, len(reply)):
        for second in range(first, len(reply), 7):
            assert read([reply[:first], reply[first:second], reply[second:]]) == whole


def test_a_delta_of_everything_comes_as_chunks_of_one_thing_each() -> None:
    calls = (CallDelta(0, "a", "f", "{"), CallDelta(0, arguments="}"), CallDelta(1, "b", "g"))
    told = chunks([Delta("text", "thought", calls), Delta()])
    assert told[0] == {"reasoning_content": "thought", "content": "text"} and told[-1] == {}
    assert put_together([delta["tool_calls"][0] for delta in told[1:-1]]) == [("f", "{}"), ("g", "")]
