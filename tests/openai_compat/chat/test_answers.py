"""What the official client reads: thoughts, calls, choices, logprobs, completions and tokens, streamed and whole."""

import json
from typing import Any

import httpx2
import openai
import pytest

from tests.promises import promise

MODEL = "qwen3-14b"
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def asking(text: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


@promise("chat:thought:apart")
def test_a_thought_is_reasoning_content_streamed_and_whole(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**asking("think: let me see | it is blue"))
    message = whole.choices[0].message
    assert (message.content, message.model_dump()["reasoning_content"]) == ("it is blue", "let me see")
    details = whole.usage and whole.usage.completion_tokens_details
    assert details and details.reasoning_tokens == 3
    chunks = list(client.chat.completions.create(**asking("think: let me see | it is blue"), stream=True))
    thought = [chunk.choices[0].delta.model_dump().get("reasoning_content") or "" for chunk in chunks]
    assert "".join(thought) == "let me see"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "it is blue"


def test_a_call_is_read_whole_and_put_together_from_a_stream(client: openai.OpenAI) -> None:
    asked = {**asking('call: weather {"city": "x"}'), "tools": TOOLS}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason == "tool_calls" and whole.message.content is None and whole.message.tool_calls
    call = whole.message.tool_calls[0]
    assert call.type == "function" and (call.function.name, call.function.arguments) == ("weather", '{"city": "x"}')
    with client.chat.completions.stream(**asked) as stream:
        put_together = stream.get_final_completion().choices[0]
    assert put_together.finish_reason == "tool_calls" and put_together.message.tool_calls
    assert put_together.message.tool_calls[0].function.arguments == '{"city": "x"}'


@promise("chat:tools:cut")
def test_a_call_that_was_cut_is_text_and_no_call(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**asking('cut: weather {"city": "x"}'), tools=TOOLS).choices[0]
    assert (whole.finish_reason, whole.message.tool_calls) == ("length", None)
    assert whole.message.content == '<tool_call>weather {"city'
    streamed = list(client.chat.completions.create(**asking('cut: weather {"city": "x"}'), tools=TOOLS, stream=True))
    assert streamed[-1].choices[0].finish_reason == "length"
    calls = [call for chunk in streamed for call in chunk.choices[0].delta.tool_calls or []]
    assert "".join(call.function.arguments or "" for call in calls if call.function) == '{"city'


def test_several_choices_are_told_apart_and_their_tokens_add_up(client: openai.OpenAI, served: Any) -> None:
    whole = client.chat.completions.create(**asking("one two three"), n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert {choice.message.content for choice in whole.choices} == {"one two three"}
    assert whole.usage and (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, 9)
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(**asking("one two"), n=2, stream=True, stream_options=options))
    for index in (0, 1):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices and chunk.choices[0].index == index]
        assert "".join(choice.delta.content or "" for choice in own) == "one two"
        assert [choice.finish_reason for choice in own if choice.finish_reason] == ["stop"]
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 4
    assert [request.sampling.choice for request in served.scripted.requests] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_one_choice_that_fails_fails_them_all_and_leaves_none_at_work(served: Any, stream: bool) -> None:
    body = {**asking("fail: runner_died"), "n": 3, "stream": stream}
    answer = httpx2.post(f"{served.url}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "runner_died")
    served.until(lambda scripted: scripted.active == 0)


def test_a_client_that_leaves_ends_all_choices(served: Any) -> None:
    body = {**asking("hang"), "n": 3, "stream": True}
    with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()  # closed with its last reference, and the connection with it
        next(lines)
        served.until(lambda scripted: scripted.active == 3)
    served.until(lambda scripted: scripted.ended["cancelled"] == 3)


def test_logprobs_have_their_tokens_with_bytes_streamed_and_whole(client: openai.OpenAI) -> None:
    asked = {**asking("say: 你好 you"), "logprobs": True, "top_logprobs": 2}
    logprobs = client.chat.completions.create(**asked).choices[0].logprobs
    assert logprobs and logprobs.content
    first = logprobs.content[0]
    assert (first.token, first.logprob, len(first.top_logprobs)) == ("你好 ", -0.5, 2)
    assert bytes(first.bytes or []).decode() == "你好 "
    chunks = list(client.chat.completions.create(**asked, stream=True))
    told = [chunk.choices[0].logprobs for chunk in chunks]
    assert [one.token for logprobs in told if logprobs for one in logprobs.content or []] == ["你好 ", "you"]
    assert client.chat.completions.create(**asking("hi")).choices[0].logprobs is None


# -- completions and tokens -----------------------------------------------------------------------------------------


def test_a_completion_is_read_streamed_and_whole(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt="one two three", max_tokens=2)
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
        "text_completion",
        "one two ",
        "length",
    )
    options: Any = {"include_usage": True}
    chunks = list(client.completions.create(model=MODEL, prompt="one two", stream=True, stream_options=options))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "one two"
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 2


def test_several_prompts_are_several_choices(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt=["one", "two"], n=2)
    assert [(choice.index, choice.text) for choice in whole.choices] == [
        (0, "one"),
        (1, "one"),
        (2, "two"),
        (3, "two"),
    ]


def test_logprobs_of_completions_have_offsets_into_the_text_streamed_and_whole(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": "你好 you", "logprobs": 1}
    whole = client.completions.create(**asked).choices[0].logprobs
    assert whole and (whole.tokens, whole.text_offset) == (["你好 ", "you"], [0, 3])
    assert whole.token_logprobs == [-0.5, -0.5] and whole.top_logprobs == [{"你好 ": -0.5}, {"you": -0.5}]
    chunks = list(client.completions.create(**asked, stream=True))
    told = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert [offset for one in told for offset in one.text_offset or []] == [0, 3]


def test_a_suffix_is_refused_by_its_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt="x", suffix="y")
    assert caught.value.param == "suffix"


def test_tokens_of_a_text_and_the_text_of_tokens(served: Any) -> None:
    def post(route: str, **body: Any) -> httpx2.Response:
        return httpx2.post(f"{served.url}/v1/{route}", json={"model": MODEL, **body})

    told = post("tokenize", prompt="ab", zebra=1)
    assert told.json() == {"tokens": [97, 98], "count": 2, "max_model_len": 4096}
    assert told.headers["x-ignored-fields"] == "zebra"
    assert post("tokenize", messages=[{"role": "user", "content": "c"}]).json()["tokens"] == [99]
    assert post("detokenize", tokens=[97, 98]).json() == {"prompt": "ab"}
    assert post("detokenize", tokens="ab").json()["error"]["param"] == "tokens"
    assert json.loads(post("tokenize").text)["error"]["param"] == "prompt"
