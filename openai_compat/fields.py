"""The body of a chat completion → `ChatRequest`. Pure.

Every field of OpenAI's reference acts, is refused by name, or is without effect on the answer; names in no reference
are told back to the client.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engines.errors import InvalidRequest, UnsupportedField
from engines.types import ChatRequest, Message, Role, Sampling

Json = dict[str, Any]

ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
ACTS = frozenset(
    "model messages stream stream_options temperature top_p max_tokens max_completion_tokens stop seed n".split()
)
# Would change the answer and isn't built: refused unless the value is the neutral one.
REFUSED: Mapping[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": (),
    "verbosity": (),
}
# Can't change an answer: bookkeeping of the client's, routing of a cloud's, or about calls that are not made.
WITHOUT_EFFECT = frozenset(
    "user metadata store service_tier safety_identifier prompt_cache_key parallel_tool_calls".split()
)


class Parsed(msgspec.Struct, frozen=True):
    request: ChatRequest
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]


def parse(body: bytes, trace: str) -> Parsed:
    """Raises `InvalidRequest` or `UnsupportedField`, naming the field. `null` means "not given"."""
    fields = {name: value for name, value in decode_object(body).items() if value is not None}
    for name, neutral in REFUSED.items():
        if name in fields and fields[name] not in neutral:
            raise UnsupportedField(f"{name} isn't supported by this server; leave it out.", param=name)
    sampling = Sampling(
        temperature=_number(fields, "temperature", 1.0, lambda v: 0 <= v <= 2, "a number from 0 to 2"),
        top_p=_number(fields, "top_p", 1.0, lambda v: 0 < v <= 1, "a number above 0, at most 1"),
        max_tokens=_max_tokens(fields),
        stop=_stop(fields.get("stop")),
        seed=_value(fields, "seed", _is_whole, "a whole number of 64 bits", None),
    )
    _value(fields, "n", lambda v: _is_whole(v) and v == 1, "1: one answer a request is what this server gives", 1)
    model = _value(fields, "model", lambda v: isinstance(v, str) and v, "the name of a model", None)
    if model is None:
        raise InvalidRequest("model is missing: give the name of a model, see /v1/models.", param="model")
    return Parsed(
        request=ChatRequest(model, _messages(fields.get("messages")), sampling, trace),
        stream=_value(fields, "stream", lambda v: isinstance(v, bool), "true or false", False),
        include_usage=_include_usage(fields),
        ignored=tuple(sorted(fields.keys() - ACTS - REFUSED.keys() - WITHOUT_EFFECT)),
    )


def decode_object(body: bytes) -> Json:
    """Raises `InvalidRequest` when the body is no JSON object."""
    try:
        return msgspec.json.decode(body, type=Json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body must be a JSON object: {error}") from error


def _value(fields: Json, name: str, good: Callable[[Any], Any], wanted: str, default: Any) -> Any:
    if name not in fields:
        return default
    if not good(fields[name]):
        raise InvalidRequest(f"{name} must be {wanted}.", param=name)
    return fields[name]


def _number(fields: Json, name: str, default: float, good: Callable[[Any], bool], wanted: str) -> float:
    is_number = lambda v: isinstance(v, int | float) and not isinstance(v, bool) and good(v)  # noqa: E731
    return float(_value(fields, name, is_number, wanted, default))


def _is_whole(value: object) -> bool:
    """Within what the wire to the runners carries."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64


def _include_usage(fields: Json) -> bool:
    asked = _value(fields, "stream_options", lambda v: isinstance(v, dict), "an object", {}).get("include_usage")
    if not isinstance(asked, bool | None):
        name = "stream_options.include_usage"
        raise InvalidRequest(f"{name} must be true or false.", param=name)
    return bool(asked)


def _max_tokens(fields: Json) -> int | None:
    names = ("max_tokens", "max_completion_tokens")
    asked = [_value(fields, name, lambda v: _is_whole(v) and v >= 1, "a whole number from 1", None) for name in names]
    return min((one for one in asked if one is not None), default=None)


def _stop(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(one, str) and one for one in stops):
        raise InvalidRequest("stop must be a string or a list of at most four, none of them empty.", param="stop")
    return tuple(stops)


def _messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest("messages must be a list of at least one message.", param="messages")
    return tuple(_message(f"messages[{place}]", one) for place, one in enumerate(value))


def _message(at: str, value: object) -> Message:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{at} must be an object with role and content.", param="messages")
    role = value.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"{at}.role must be one of {', '.join(ROLES)}.", param=f"{at}.role")
    if value.get("tool_calls"):
        raise UnsupportedField(f"{at}.tool_calls isn't supported by this server.", param=f"{at}.tool_calls")
    return Message(ROLES[role], _content(f"{at}.content", value.get("content"), role))


def _content(at: str, value: object, role: str) -> str:
    if isinstance(value, str):
        return value
    if value is None and role == "assistant":
        return ""
    if not isinstance(value, list):
        raise InvalidRequest(f"{at} must be a string or a list of parts.", param=at)
    return "".join(_part(f"{at}[{place}]", part) for place, part in enumerate(value))


def _part(at: str, part: object) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise UnsupportedField(f"{at}.type must be text: the model reads nothing else.", param=f"{at}.type")
    if not isinstance(part.get("text"), str):
        raise InvalidRequest(f"{at}.text must be a string.", param=f"{at}.text")
    return str(part["text"])
