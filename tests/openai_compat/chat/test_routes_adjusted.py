"""What acts otherwise than it was given is told before the first byte."""

from typing import Any

import httpx2
import pytest

from tests.promises import promise

HELLO = [{"role": "user", "content": "one two"}]


def post(served: Any, route: str, **fields: object) -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/{route}", json={"model": "qwen3-14b", **fields})


@promise("chat:limit:clamped")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_beyond_the_room_is_told_by_its_name_and_obeyed(served: Any, name: str, n: int, stream: bool) -> None:
    answer = post(served, "chat/completions", messages=HELLO, stream=stream, n=n, **{name: 32_000})
    assert answer.status_code == 200
    assert answer.headers["x-adjusted-fields"] == f"{name}: 4094 instead of 32000"
    assert "adjusted_fields" not in answer.text


@promise("chat:limit:clamped")
@pytest.mark.parametrize("stream", [False, True])
def test_each_prompt_of_a_completion_has_its_own_room(served: Any, stream: bool) -> None:
    answer = post(served, "completions", prompt=["one", "one two"], stream=stream, max_tokens=5000)
    told = answer.headers["x-adjusted-fields"]
    assert told == "max_tokens: 4095 instead of 5000; max_tokens: 4094 instead of 5000"


def test_what_acts_as_given_is_not_told(served: Any) -> None:
    answer = post(served, "chat/completions", messages=HELLO, max_tokens=4094)
    assert "x-adjusted-fields" not in answer.headers


@promise("chat:limit:clamped")
def test_a_model_that_is_still_waited_for_holds_no_header_back(served: Any) -> None:
    body = {"model": "qwen3-14b", "messages": [{"role": "user", "content": "wait 2"}], "max_tokens": 9000}
    with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json={**body, "stream": True}) as answer:
        assert answer.headers["x-adjusted-fields"] == "max_tokens: 4094 instead of 9000"
        served.call(served.scripted.release)
        answer.read()


def test_what_is_known_only_behind_the_first_byte_is_told_in_the_last_chunk(served: Any, serve: Any) -> None:
    hurried = serve(keepalive_seconds=0.0, admission_seconds=0.0)
    answer = post(hurried, "chat/completions", messages=HELLO, stream=True, max_tokens=9000)
    told = answer.headers.get("x-adjusted-fields", "") + answer.text.rpartition('"finish_reason":"stop"')[2]
    assert "4094 instead of 9000" in told
