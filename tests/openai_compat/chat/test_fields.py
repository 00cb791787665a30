import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from engines.types.chat import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    Message,
    Request,
    Sampling,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from engines.types.errors import InvalidRequest, UnsupportedField
from openai_compat.chat.fields import Parsed, parse_chat, parse_completion, parse_detokenize, parse_tokenize
from openai_compat.chat.table import CHAT, COMPLETIONS, Table
from openai_compat.reference import ROUTES as ALL_ROUTES
from openai_compat.reference import reference
from tests.promises import promise

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "x"}'}}


def parsed(**fields: Any) -> Parsed:
    return parse_chat(json.dumps({"model": "m", "messages": HELLO, **fields}).encode(), "t")


def chat(**fields: Any) -> ChatRequest:
    request = parsed(**fields).first
    assert isinstance(request, ChatRequest)
    return request


def completed(**fields: Any) -> Parsed:
    return parse_completion(json.dumps({"model": "m", "prompt": "once", **fields}).encode(), "t")


def completion(**fields: Any) -> CompletionRequest:
    request = completed(**fields).first
    assert isinstance(request, CompletionRequest)
    return request


# -- the table: every field of the reference, in one of three classes ----------------------------------------------


@promise("chat:fields:classes")
@pytest.mark.parametrize(
    ("table", "reference"),
    [
        (CHAT, chat_create_params.CompletionCreateParamsBase),
        (COMPLETIONS, completion_create_params.CompletionCreateParamsBase),
    ],
    ids=["chat", "completions"],
)
def test_every_field_of_the_reference_is_in_exactly_one_class(table: Table, reference: type) -> None:
    classes = [table.acts.keys(), table.refused.keys(), table.without_effect.keys()]
    for name in {*inspect.get_annotations(reference), "stream"}:
        assert sum(name in one for one in classes) == 1, name
    assert all(table.without_effect.values())


def test_the_page_of_fields_is_current_and_names_them_all() -> None:
    page = (Path(__file__).parents[3] / "references" / "http.md").read_text(encoding="utf-8")
    assert reference() in page
    for _, table in ALL_ROUTES:
        for name in (*table.acts, *table.refused, *table.without_effect):
            assert f"`{name}`" in reference()


CHAT_ACTS: dict[str, dict[str, Any]] = {
    "model": {"model": "other"},
    "messages": {"messages": [{"role": "user", "content": "bye"}]},
    "stream": {"stream": True},
    "stream_options": {"stream_options": {"include_usage": True}},
    "n": {"n": 2},
    "temperature": {"temperature": 0.3},
    "top_p": {"top_p": 0.3},
    "top_k": {"top_k": 3},
    "min_p": {"min_p": 0.3},
    "max_tokens": {"max_tokens": 3},
    "max_completion_tokens": {"max_completion_tokens": 3},
    "stop": {"stop": "x"},
    "seed": {"seed": 3},
    "presence_penalty": {"presence_penalty": 0.3},
    "frequency_penalty": {"frequency_penalty": 0.3},
    "repetition_penalty": {"repetition_penalty": 1.3},
    "logit_bias": {"logit_bias": {"3": 1}},
    "logprobs": {"logprobs": True},
    "top_logprobs": {"logprobs": True, "top_logprobs": 3},
    "grammar": {"grammar": 'start: "x"'},
    "regex": {"regex": "x"},
    "choice": {"choice": ["x", "y"]},
    "response_format": {"response_format": {"type": "json_object"}},
    "ebnf": {"ebnf": 'root ::= "x"'},
    "json_schema": {"json_schema": {"type": "null"}},
    "structured_outputs": {"structured_outputs": {"regex": "x"}},
    "guided_json": {"guided_json": {"type": "null"}},
    "guided_regex": {"guided_regex": "x"},
    "guided_choice": {"guided_choice": ["x", "y"]},
    "guided_grammar": {"guided_grammar": 'start: "x"'},
    "service_tier": {"service_tier": "flex"},
    "tools": {"tools": [WEATHER]},
    "tool_choice": {"tools": [WEATHER], "tool_choice": "required"},
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "reasoning_effort": {"reasoning_effort": "low"},
    "reasoning_format": {"reasoning_format": "none"},
    "enable_thinking": {"enable_thinking": False},
    "thinking_budget": {"thinking_budget": 3},
    "chat_template_kwargs": {"chat_template_kwargs": {"x": 1}},
    "continue_final_message": {
        "messages": [{"role": "assistant", "content": "x"}],
        "continue_final_message": True,
    },
    "add_generation_prompt": {
        "messages": [{"role": "assistant", "content": "x"}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    },
}
COMPLETION_ACTS: dict[str, dict[str, Any]] = {
    **{name: fields for name, fields in CHAT_ACTS.items() if name in COMPLETIONS.acts and name != "messages"},
    "prompt": {"prompt": "twice"},
    "echo": {"echo": True},
    "logprobs": {"logprobs": 3},
    "best_of": {"n": 2, "best_of": 2},
}


@promise("chat:fields:classes")
@pytest.mark.parametrize("name", sorted(CHAT.acts))
def test_what_acts_in_a_chat_changes_what_the_engine_gets(name: str) -> None:
    assert parsed(**CHAT_ACTS[name]) != parsed()


@pytest.mark.parametrize("name", sorted(COMPLETIONS.acts))
def test_what_acts_in_a_completion_changes_what_the_engine_gets(name: str) -> None:
    assert completed(**COMPLETION_ACTS[name]) != completed()


ROUTES: list[Any] = [pytest.param(parsed, CHAT, id="chat"), pytest.param(completed, COMPLETIONS, id="completions")]


@pytest.mark.parametrize(("parse", "table"), ROUTES)
def test_what_is_refused_is_refused_by_name_unless_it_is_neutral(parse: Callable[..., Parsed], table: Table) -> None:
    for name, neutrals in table.refused.items():
        with pytest.raises(UnsupportedField) as caught:
            parse(**{name: [{"type": "function"}]})
        assert caught.value.param == name
        for neutral in neutrals:
            assert parse(**{name: neutral}) == parse()


@pytest.mark.parametrize(("parse", "table"), ROUTES)
def test_what_is_without_effect_changes_nothing(parse: Callable[..., Parsed], table: Table) -> None:
    assert parse(**dict.fromkeys(table.without_effect, "x")) == parse()


@promise("chat:fields:null")
@pytest.mark.parametrize(("parse", "table"), ROUTES)
def test_null_means_not_given_for_every_optional_field(parse: Callable[..., Parsed], table: Table) -> None:
    names = (table.acts.keys() | table.refused.keys() | table.without_effect.keys()) - {"model", "messages", "prompt"}
    assert parse(**dict.fromkeys(names)) == parse()


@promise("chat:fields:told-back")
@pytest.mark.parametrize(("parse", "table"), ROUTES)
def test_names_in_no_reference_are_told_back(parse: Callable[..., Parsed], table: Table) -> None:
    assert parse(zebra=1, user="me").ignored == ("zebra",)


# -- values -------------------------------------------------------------------------------------------------------


@promise("chat:fields:stop")
@pytest.mark.parametrize(
    ("stop", "expected"), [("b", ("b",)), (["b"], ("b",)), ([], ()), (None, ()), (["a", "b"], ("a", "b"))]
)
def test_a_stop_string_and_a_list_of_it_are_the_same(stop: object, expected: tuple[str, ...]) -> None:
    assert chat(stop=stop).sampling.stop == expected


BAD: dict[str, list[Any]] = {
    "stop": ["", 5, ["a", 5], list("abcde")],
    "messages": [{"messages": []}, "hello", [], None],
    "temperature": [-1, 3, "hot", True],
    "top_p": [0, 1.1],
    "top_k": [-2, 1.5],
    "min_p": [-0.1, 2],
    "presence_penalty": [-3, "x"],
    "frequency_penalty": [3],
    "repetition_penalty": [0],
    "logit_bias": [{"x": 1}, {"-3": 1}, []],
    "logprobs": [1, "yes"],
    "top_logprobs": [21, -1],
    "max_tokens": [0, 1.5, True, 2**64],
    "seed": ["x", 2**64, -(2**63) - 1],
    "n": [0, 17, True],
    "stream": ["yes", 1],
    "stream_options": ["x", []],
    "model": [None, 3, ""],
    "tools": ["x", {}],
    "tool_choice": ["maybe", "required", {"type": "function", "function": {"name": "nobody"}}, 3],
    "parallel_tool_calls": ["x"],
    "reasoning_effort": ["much"],
    "reasoning_format": ["poem"],
    "thinking_budget": [-1, "x"],
    "choice": [[], ["a", 5], "a"],
    "grammar": [5],
    "response_format": ["json"],
    "continue_final_message": [True, "x"],
    "add_generation_prompt": [False],
}


@promise("chat:fields:named")
@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_by_the_fields_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**{field: value})
    assert caught.value.param == field


NESTED: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [None]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
    ({"tools": [{"type": "custom"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 5}}]}, "tools[0].function.parameters"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ({"stream_options": {"include_usage": "no"}}, "stream_options.include_usage"),
    ({"logit_bias": {"3": 200}}, "logit_bias.3"),
    ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs.enable_thinking"),
    ({"regex": "a", "choice": ["b"]}, "choice"),
]


@promise("chat:fields:named")
@pytest.mark.parametrize(("fields", "param"), NESTED)
def test_a_bad_value_within_is_refused_by_its_place(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert caught.value.param == param


@promise("chat:history:calls")
@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ('{"city": "x"}', '{"city": "x"}'),
        ('{"city": "To', '{"city": "To'),
        ("", "{}"),
        (" ", "{}"),
        (None, "{}"),
        ({}, "{}"),
        ({"city": "東京"}, '{"city":"東京"}'),
        ([1], "[1]"),
        ("[1]", "[1]"),
        (5, "5"),
        (True, "true"),
        ('"x"', '"x"'),
        ("not JSON", "not JSON"),
        (r'{"a": "\ud83d"}', '{"a": "\ufffd"}'),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_call_in_the_history_is_taken_as_the_text_that_it_is(given: object, taken: str) -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": given}}
    got = chat(messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}, *HELLO])
    assert got.messages[1].tool_calls == (ToolCall("a", "f", taken),)


def test_a_call_in_the_history_without_arguments_has_none() -> None:
    got = chat(messages=[{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]}])
    assert got.messages[0].tool_calls == (ToolCall("a", "f", "{}"),)


def test_the_smaller_of_both_limits_acts() -> None:
    assert chat(max_tokens=5, max_completion_tokens=3).sampling.max_tokens == 3


def test_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    got = chat(messages=[{"role": "developer", "content": parts}, {"role": "assistant", "content": None}])
    assert got.messages == (Message("system", "ab"), Message("assistant", ""))


def test_fields_of_messages_that_nothing_knows_are_told_back() -> None:
    assert parsed(messages=[{"role": "user", "content": "x", "name": "Ann"}]).ignored == ("messages.name",)


@promise("chat:fields:told-back")
@pytest.mark.parametrize(
    ("place", "fields"),
    [
        ("stream_options.zebra", {"stream_options": {"include_usage": True, "zebra": 1}}),
        ("response_format.zebra", {"response_format": {"type": "text", "zebra": 1}}),
        (
            "response_format.json_schema.zebra",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"zebra": 1}, "zebra": 1}}},
        ),
        ("tools.zebra", {"tools": [{"type": "function", "function": {"name": "f"}, "zebra": 1}]}),
        (
            "tools.function.zebra",
            {"tools": [{"type": "function", "function": {"name": "f", "zebra": 1, "parameters": {"zebra": 1}}}]},
        ),
        (
            "messages.content.zebra",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "zebra": 1}]}]},
        ),
        ("messages.tool_calls.zebra", {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "zebra": 1}]}]}),
    ],
)
def test_names_within_objects_that_nothing_knows_are_told_back(place: str, fields: dict[str, Any]) -> None:
    assert parsed(**fields).ignored == (place,)


def test_a_call_and_its_result_are_read() -> None:
    got = chat(
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        ]
    )
    assert got.messages[1:] == (
        Message("assistant", "", "Hm.", (ToolCall("a", "weather", '{"city": "x"}'),)),
        Message("tool", "sunny", tool_call_id="a"),
    )


def test_results_stand_in_the_order_of_their_calls() -> None:
    calls = [{**CALL, "id": name} for name in "abc"]
    results = [{"role": "tool", "tool_call_id": name, "content": name} for name in "cab"]
    got = chat(messages=[*HELLO, {"role": "assistant", "tool_calls": calls}, *results])
    assert [message.content for message in got.messages[2:]] == ["a", "b", "c"]


def calling(*ids: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{**CALL, "id": id} for id in ids]}


def answering(id: object) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": f"of {id}"}


@promise("chat:history:results")
@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([calling("a"), answering("b")], "messages[2].tool_call_id"),
        ([calling("a"), answering(None)], "messages[2].tool_call_id"),
        ([calling("a"), answering("")], "messages[2].tool_call_id"),
        ([calling("a"), answering(5)], "messages[2].tool_call_id"),
        ([answering("a")], "messages[1].tool_call_id"),
        ([calling(), answering("a")], "messages[2].tool_call_id"),
        ([calling("a", "b"), answering("a"), answering("a")], "messages[3].tool_call_id"),
        ([calling("a"), answering("a"), answering("a")], "messages[3].tool_call_id"),
        ([calling("a", "a"), answering("a"), answering("a")], "messages[2].tool_call_id"),
        ([calling(""), answering("")], "messages[2].tool_call_id"),
        ([calling("a"), *HELLO, answering("a")], "messages[3].tool_call_id"),
        ([calling("a"), answering("a"), *HELLO, answering("a")], "messages[4].tool_call_id"),
        ([calling("a"), calling("b"), answering("a")], "messages[3].tool_call_id"),
        ([calling("a", "b"), answering("a"), *HELLO, answering("b")], "messages[1].tool_calls[1].id"),
        ([calling("a", "b"), answering("b")], "messages[1].tool_calls[0].id"),
    ],
)
def test_a_result_that_fits_no_call_is_refused_by_its_place(messages: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(messages=[*HELLO, *messages])
    assert caught.value.param == param


@promise("chat:history:results")
def test_an_id_may_come_again_in_a_later_turn_and_a_call_may_stay_without_result() -> None:
    turns = [calling("a"), answering("a"), calling("a"), answering("a"), calling("b"), *HELLO]
    assert len(chat(messages=[*HELLO, *turns]).messages) == 7


def test_tools_and_the_choice_among_them_are_read() -> None:
    got = chat(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}})
    assert got.tools == (Tool("weather", parameters={"type": "object"}),)
    assert got.tool_choice == ToolChoice("named", "weather")
    assert chat(tools=[WEATHER], tool_choice="none", parallel_tool_calls=False).tool_choice == ToolChoice(
        "none", parallel=False
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Thinking()),
        ({"enable_thinking": False}, Thinking(False)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Thinking(False)),
        ({"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 9}}, Thinking(True, 9)),
        ({"reasoning_effort": "none"}, Thinking(False)),
        ({"reasoning_effort": "low"}, Thinking(True, 1024)),
        ({"reasoning_effort": "high"}, Thinking(True)),
        ({"reasoning_effort": "low", "thinking_budget": 5}, Thinking(True, 5)),
        ({"thinking_budget": 0}, Thinking(False)),
        ({"reasoning_format": "none"}, Thinking(separate=False)),
    ],
)
def test_thinking_is_switched_by_each_of_its_names(fields: dict[str, Any], expected: Thinking) -> None:
    assert chat(**fields).thinking == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Constraint("json_object")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
            Constraint("json_schema", {}, "response_format.json_schema.schema"),
        ),
        ({"regex": "a+"}, Constraint("regex", "a+", "regex")),
        ({"choice": ["a", "b"]}, Constraint("choice", ("a", "b"), "choice")),
        ({"grammar": "start: A"}, Constraint("grammar", "start: A", "grammar")),
    ],
)
def test_what_the_answer_must_be_is_read(fields: dict[str, Any], expected: Constraint | None) -> None:
    assert chat(**fields).constraint == expected


def test_n_choices_are_as_many_requests_told_apart() -> None:
    assert [request.sampling.choice for request in parsed(n=3, seed=1).requests] == [0, 1, 2]


# -- completions and tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("a", ["a"]), ([1, 2], [(1, 2)]), (["a", "b"], ["a", "b"]), ([[1], [2, 3]], [(1,), (2, 3)])],
)
def test_a_prompt_is_text_or_tokens_or_several(prompt: object, expected: list[object]) -> None:
    assert [request.prompt for request in completed(prompt=prompt).requests] == expected  # type: ignore[union-attr]


@pytest.mark.parametrize("prompt", [None, 5, [], [[]], [1, "a"], [-1], [True], ["a"] * 17])
def test_a_prompt_of_another_shape_is_refused(prompt: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        completed(prompt=prompt)
    assert caught.value.param == "prompt"


def test_a_completion_is_sixteen_tokens_by_default_and_none_only_with_echo() -> None:
    assert completion().sampling.max_tokens == 16
    assert completion(echo=True, max_tokens=0).sampling.max_tokens == 0
    with pytest.raises(InvalidRequest) as caught:
        completed(max_tokens=0)
    assert caught.value.param == "max_tokens"


def test_several_prompts_have_n_choices_each_with_the_same_seeds() -> None:
    requests = completed(prompt=["a", "b"], n=2).requests
    assert [(request.prompt, request.sampling.choice) for request in requests] == [  # type: ignore[union-attr]
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("b", 1),
    ]


def test_tokens_are_asked_for_a_text_or_a_conversation() -> None:
    def asked(**fields: Any) -> tuple[Request, tuple[str, ...]]:
        return parse_tokenize(json.dumps({"model": "m", **fields}).encode(), "t")

    assert asked(prompt="x", zebra=1) == (CompletionRequest("m", "x", trace="t"), ("zebra",))
    assert asked(prompt="x", tools=[], tool_choice=5)[1] == ("tool_choice", "tools")
    assert asked(messages=HELLO, tools=[{**WEATHER, "zebra": 1}])[1] == ("tools.zebra",)
    assert asked(messages=HELLO)[0] == ChatRequest("m", (Message("user", "hello"),), Sampling(), "t")
    with pytest.raises(InvalidRequest) as caught:
        asked()
    assert caught.value.param == "prompt"
    with pytest.raises(InvalidRequest, match="left out") as caught:
        asked(prompt="x", messages=HELLO)
    assert caught.value.param == "prompt"


def test_text_is_asked_for_tokens() -> None:
    assert parse_detokenize(b'{"model": "m", "tokens": [1, 2]}') == ("m", (1, 2), ())
    for bad in ('{"model": "m"}', '{"model": "m", "tokens": ["a"]}'):
        with pytest.raises(InvalidRequest) as caught:
            parse_detokenize(bad.encode())
        assert caught.value.param == "tokens"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"x"', b"{'a': 1}"])
def test_a_body_that_is_no_json_object_is_a_clear_error(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="The body must be"):
        parse_chat(body, "t")
