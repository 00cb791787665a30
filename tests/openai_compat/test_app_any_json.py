"""Any JSON value for any field of any route: it is taken, or it is a 400 that names the field. Nothing else."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.types.errors import InvalidRequest
from http_server.multipart import Form, Upload
from openai_compat.app import model_of
from openai_compat.audio.speech_fields import parse_body, parse_form
from openai_compat.audio.table import ALIGNMENTS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS, VOICES
from openai_compat.audio.transcription_fields import parse_alignment, parse_listening, parse_voice
from openai_compat.chat.fields import parse_chat, parse_completion, parse_detokenize, parse_tokenize
from openai_compat.chat.table import CHAT, COMPLETIONS, DETOKENIZE, TOKENIZE
from tests.promises import promise

FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": True}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHATTING: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": "x", "name": "n"},
        {"role": "assistant", "content": None, "reasoning_content": "r", "refusal": "no", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "stream_options": {"include_usage": True, "include_obfuscation": True},
    "logit_bias": {"3": 1},
    "chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 3, "other": [1]},
    "stop": ["x"],
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}

Parse = Callable[[bytes], object]
ROUTES: dict[str, tuple[Parse, dict[str, Any], frozenset[str]]] = {
    "chat": (lambda body: parse_chat(body, "t"), CHATTING, frozenset(CHAT.acts)),
    "documents": (
        lambda body: parse_chat(body, "t"),
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": SCHEMA},
        frozenset(CHAT.refused),
    ),
    "structure": (
        lambda body: parse_completion(body, "t"),
        {"model": "m", "prompt": "x", "structured_outputs": {"json": {"type": "object"}, "backend": "x"}},
        frozenset(COMPLETIONS.acts),
    ),
    "completions": (
        lambda body: parse_completion(body, "t"),
        {"model": "m", "prompt": [[1, 2], [3]], "stop": "x", "logit_bias": {"3": 1}, "stream_options": {}},
        frozenset({*COMPLETIONS.acts, *COMPLETIONS.refused}),
    ),
    "tokenize": (lambda body: parse_tokenize(body, "t"), CHATTING, frozenset(TOKENIZE.acts)),
    "detokenize": (parse_detokenize, {"model": "m", "tokens": [1, 2]}, frozenset(DETOKENIZE.acts)),
    "speech": (
        lambda body: parse_body(body, "t", 100),
        {"model": "m", "input": "x", "voice": {"id": "v"}},
        frozenset(SPEECH.acts),
    ),
    "load": (model_of, {"model": "m"}, frozenset({"model"})),
}
KEYS = st.sampled_from(["type", "text", "content", "role", "id", "name", "function", "3", "a", "properties", "items"])
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([2**64, -(2**70), 1e308])
TEXTS = st.text(max_size=3) | st.sampled_from(["user", "text", "function", "auto", "object", "json_object", "x" * 200])
ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
RAW = st.sampled_from(["1e400", "9" * 400, "-" + "9" * 5000, r'"\ud83d"', r'{"\ude00": 1}', "[" * 300 + "]" * 300])


def ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*way, key)
        yield from ways(inner, (*way, key))


def put(body: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(body)
    within = changed
    for key in way[:-1]:
        within = within[key]
    within[way[-1]] = value
    found: dict[str, Any] = changed
    return found


def check(parse: Parse, body: str, field: str) -> None:
    try:
        made = parse(body.encode("utf-8", "surrogatepass"))
    except InvalidRequest as error:
        assert error.param, f"{body}: {error.message}"
        assert error.status == 400 and error.param.split(".")[0].split("[")[0] in error.message
        return
    msgspec.msgpack.encode(made)  # so it can go to a runner


@promise("fields:any-json")
@pytest.mark.parametrize("route", ROUTES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_at_any_place_is_taken_or_refused_by_name(route: str, data: st.DataObject) -> None:
    parse, body, names = ROUTES[route]
    way = data.draw(st.sampled_from([*ways(body), *((name,) for name in sorted(names))]))
    if data.draw(st.booleans()):
        written = json.dumps(put(body, way, data.draw(ANY)))
    else:
        written = json.dumps(put(body, way, "HERE")).replace('"HERE"', data.draw(RAW))
    check(parse, written, str(way[0]))


FORMS: dict[str, tuple[Callable[[Form], object], frozenset[str], frozenset[str]]] = {
    "transcriptions": (
        lambda form: parse_listening(form, "t", translate=False),
        frozenset({*TRANSCRIPTIONS.acts, *TRANSCRIPTIONS.refused}),
        frozenset({"file"}),
    ),
    "translations": (
        lambda form: parse_listening(form, "t", translate=True),
        frozenset({*TRANSLATIONS.acts, *TRANSLATIONS.refused}),
        frozenset({"file"}),
    ),
    "alignments": (lambda form: parse_alignment(form, "t"), frozenset(ALIGNMENTS.acts), frozenset({"file"})),
    "voices": (parse_voice, frozenset({*VOICES.acts, *VOICES.refused}), frozenset({"audio_sample"})),
    "speech": (lambda form: parse_form(form, "t", 100), frozenset(SPEECH.acts), frozenset({"reference_audio"})),
}
ENDINGS = st.sampled_from(["", "[]", "[a]", "[0]", "[a][b]", "[", "]"])
FORM_TEXTS = st.text(max_size=4) | st.sampled_from(
    ["true", "0", "-1", "1e999", "9" * 30, "nan", "inf", "word", "x" * 999]
)


@promise("fields:any-json")
@pytest.mark.parametrize("route", FORMS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_text_in_any_field_of_a_form_is_taken_or_refused_by_name(route: str, data: st.DataObject) -> None:
    parse, names, files = FORMS[route]
    uploads = {name: Upload(str(Path("/x")), 1) for name in files}
    written = data.draw(
        st.dictionaries(
            st.tuples(st.sampled_from(sorted(names)), ENDINGS).map("".join),
            st.lists(FORM_TEXTS, min_size=1, max_size=3),
            max_size=3,
        )
    )
    texts = {"model": ["m"], "text": ["x"], "name": ["n"], "consent": ["c"], "input": ["x"], **written}
    try:
        parse(Form({name: texts[name] for name in texts if name.partition("[")[0] in names}, uploads))
    except InvalidRequest as error:
        assert error.param, error.message
