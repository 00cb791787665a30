"""OpenAI's service tiers, as a request's priority and in answers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from engines.types.chat import Done
from engines.types.common import Timings, Usage
from engines.types.errors import InvalidRequest
from openai_compat.chat.answers import answer
from openai_compat.chat.fields import Parsed, parse_chat, parse_completion

DONE = Done("stop", Usage(1, 1), Timings(0.0, 0.0, 0.0))


def parsed(**fields: Any) -> Parsed:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    return parse_chat(json.dumps(body).encode(), "t")


def completed(**fields: Any) -> Parsed:
    return parse_completion(json.dumps({"model": "m", "prompt": "once", **fields}).encode(), "t")


@pytest.mark.parametrize(
    ("given", "priority", "served"),
    [
        ({}, "interactive", ""),
        ({"service_tier": "auto"}, "interactive", "default"),
        ({"service_tier": "default"}, "interactive", "default"),
        ({"service_tier": "priority"}, "interactive", "priority"),
        ({"service_tier": "flex"}, "background", "flex"),
    ],
)
@pytest.mark.parametrize("parse", [parsed, completed])
def test_a_tier_is_a_priority_and_the_answer_names_it(
    parse: Callable[..., Parsed], given: dict[str, str], priority: str, served: str
) -> None:
    found = parse(**given)
    assert (found.first.priority, found.service_tier) == (priority, served)
    whole = answer(found)
    whole.take(0, DONE)
    assert whole.whole().get("service_tier", "") == served
    assert all(chunk.get("service_tier", "") == served for chunk in [*whole.opening(), whole.usage_chunk([DONE])])


@pytest.mark.parametrize("parse", [parsed, completed])
def test_a_tier_that_there_is_not_is_refused_with_those_that_there_are(parse: Callable[..., Parsed]) -> None:
    with pytest.raises(InvalidRequest, match="flex") as caught:
        parse(service_tier="gold")
    assert caught.value.param == "service_tier"
