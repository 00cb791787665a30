"""Conversations of the official client with the bundled models, which have learnt a little: with tools, schemas and
thoughts, streamed, four at once."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.promises import promise

MODELS = ["qwen3-14b", "gemma-3-12b"]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
PLACE: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
            "required": ["city", "country"],
            "additionalProperties": False,
        },
    },
}
CAN: Any = {"role": "user", "content": "What can you do?"}
SKY: Any = {"role": "user", "content": "What is the weather in Tokyo?"}


@pytest.fixture(scope="module")
def client(service: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def asked(client: openai.OpenAI, model: str, *messages: Any, **fields: Any) -> Any:
    """A whole answer's only choice."""
    return client.chat.completions.create(
        model=model, messages=list(messages), temperature=0, max_tokens=200, **fields
    ).choices[0]


def streamed(client: openai.OpenAI, model: str, *messages: Any, **fields: Any) -> Any:
    """The same, put together by the client from a stream."""
    with client.chat.completions.stream(
        model=model, messages=list(messages), temperature=0, max_tokens=200, **fields
    ) as stream:
        return stream.get_final_completion().choices[0]


ways = pytest.mark.parametrize("ask", [asked, streamed])
models = pytest.mark.parametrize("model", MODELS)


@ways
@models
def test_a_question_about_the_product_is_answered(client: openai.OpenAI, ask: Any, model: str) -> None:
    choice = ask(client, model, CAN)
    assert choice.finish_reason == "stop" and "offline" in choice.message.content


def test_a_thought_comes_before_the_answer_and_can_be_switched_off(client: openai.OpenAI) -> None:
    message = asked(client, "qwen3-14b", CAN).message
    assert message.model_dump()["reasoning_content"] and "think" not in message.content
    for switch in ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}):
        direct = asked(client, "qwen3-14b", CAN, extra_body=switch).message
        assert "reasoning_content" not in direct.model_dump() and direct.content == message.content


@promise("chat:thought:cut")
@ways
@pytest.mark.parametrize("thinks", [True, False])
def test_a_thought_that_is_cut_is_no_content(client: openai.OpenAI, ask: Any, thinks: bool) -> None:
    messages: list[Any] = [CAN]
    create = client.chat.completions.create
    asked_for: Any = {"max_completion_tokens": 5, "temperature": 0, "extra_body": {"enable_thinking": thinks}}
    if ask is asked:
        choice = create(model="qwen3-14b", messages=messages, **asked_for).choices[0]
        message, reason = choice.message.model_dump(), choice.finish_reason
        content, thought = message["content"], message.get("reasoning_content") or ""
    else:
        chunks = [one.choices[0] for one in create(model="qwen3-14b", messages=messages, stream=True, **asked_for)]
        content = "".join(chunk.delta.content or "" for chunk in chunks)
        thought = "".join(chunk.delta.model_dump().get("reasoning_content") or "" for chunk in chunks)
        reason = chunks[-1].finish_reason
    assert (reason, bool(content), bool(thought)) == ("length", not thinks, thinks)


@promise("chat:tools:round-trip")
@ways
@models
def test_a_tool_is_called_and_its_result_told(client: openai.OpenAI, ask: Any, model: str) -> None:
    first = ask(client, model, SKY, tools=[WEATHER])
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Tokyo"})
    message = {"role": "assistant", "content": first.message.content, "tool_calls": [call.model_dump()]}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 24, "sky": "sunny"}'}
    told = ask(client, model, SKY, message, result, tools=[WEATHER])
    assert told.finish_reason == "stop"
    assert all(word in told.message.content for word in ("24", "sunny", "Tokyo"))


@models
def test_tools_are_not_called_where_the_choice_is_none_or_the_question_needs_none(
    client: openai.OpenAI, model: str
) -> None:
    assert not asked(client, model, SKY, tools=[WEATHER], tool_choice="none").message.tool_calls
    assert not asked(client, model, CAN, tools=[WEATHER]).message.tool_calls


@ways
@models
def test_a_call_that_is_required_is_made_whatever_the_question(client: openai.OpenAI, ask: Any, model: str) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        made = ask(client, model, CAN, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)
        if made.finish_reason == "length":  # a city's name may go on for ever where the question names none
            assert not made.message.tool_calls
            continue
        (call,) = made.message.tool_calls
        assert call.function.name == "get_weather" and set(json.loads(call.function.arguments)) == {"city"}


@ways
@models
def test_a_document_follows_its_schema_behind_a_thought(client: openai.OpenAI, ask: Any, model: str) -> None:
    question: Any = {"role": "user", "content": "Give me Tokyo as JSON."}
    choice = ask(client, model, question, response_format=PLACE)
    assert json.loads(choice.message.content) == {"city": "Tokyo", "country": "Japan"}
    assert bool(choice.message.model_dump().get("reasoning_content")) == (model == "qwen3-14b")


def test_four_conversations_at_once_say_what_each_says_alone(client: openai.OpenAI) -> None:
    def talk(place: int) -> list[Any]:
        model = MODELS[place % 2]
        said = streamed(client, model, CAN).message
        history = [CAN, {"role": "assistant", "content": said.content}, SKY]
        call = streamed(client, model, *history, tools=[WEATHER]).message.tool_calls[0]
        place_as_json: Any = {"role": "user", "content": "Give me Tokyo as JSON."}
        document = streamed(client, model, place_as_json, response_format=PLACE).message.content
        return [said.content, call.function.name, call.function.arguments, document]

    alone = [talk(place) for place in range(2)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(talk, range(4)))
    assert together == alone * 2


def test_the_next_turn_of_a_conversation_computes_its_new_part_alone(client: openai.OpenAI) -> None:
    history = [CAN, {"role": "assistant", "content": "Chat."}] * 8
    for model in MODELS:
        client.chat.completions.create(model=model, messages=[*history, CAN], max_tokens=4)
        usage = client.chat.completions.create(model=model, messages=[*history, CAN, SKY], max_tokens=4).usage
        assert usage and usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
        assert usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens < 60
