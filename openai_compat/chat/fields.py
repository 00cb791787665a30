"""OpenAI's text routes: bodies → requests of `engines.types.chat`. Pure. What each field does stands in `table.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engines.models import sampling_defaults
from engines.types import openai_messages as conversation
from engines.types.chat import ChatRequest, CompletionRequest, Request, Sampling, Thinking
from engines.types.errors import InvalidRequest
from engines.types.field_reader import LONGEST, FieldReader, decode_object
from openai_compat import service_tier
from openai_compat.chat import structure
from openai_compat.chat.table import CHAT, COMPLETIONS, DETOKENIZE, TOKENIZE, strays

MOST_CHOICES = 16
# Tokens of thought for each effort; none switches it off, high and above leave it to the model.
EFFORTS: dict[str, int | None] = {
    "none": 0,
    "minimal": 256,
    "low": 1024,
    "medium": 4096,
    "high": None,
    "xhigh": None,
    "max": None,
}


class Parsed(msgspec.Struct, frozen=True):
    """What to do: the requests whose answers are the choices, in order.

    `names` are those by which fields were given that the engine knows by other ones. `service_tier` is what the answer
    says of its own, "" for nothing.
    """

    requests: tuple[Request, ...]
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]
    names: Mapping[str, str] = {}
    service_tier: str = ""

    @property
    def first(self) -> Request:
        return self.requests[0]


def parse_chat(body: bytes, trace: str) -> Parsed:
    """Raises `InvalidRequest` or `UnsupportedField`, naming the field. `null` means "not given"."""
    given = decode_object(body)
    fields = FieldReader(given)
    ignored = CHAT.check(fields)
    request, ignored_too = _chat(fields, trace, _sampling(fields, _chat_logprobs(fields)))
    return _parsed(fields, [request], (*ignored, *ignored_too, *strays(given)))


def parse_completion(body: bytes, trace: str) -> Parsed:
    """As `parse_chat`."""
    given = decode_object(body)
    fields = FieldReader(given)
    ignored = (*COMPLETIONS.check(fields), *strays(given))
    echo = fields.flag("echo", False)
    sampling = _sampling(fields, fields.whole("logprobs", None, 0, 20), fewest_tokens=0 if echo else 1, default=16)
    count = fields.whole("n", 1, 1, MOST_CHOICES)
    if fields.whole("best_of", count, 1) != count:
        raise fields.error("best_of", "the same as n")
    constraint = structure.constraint(fields)
    priority = service_tier.priority(fields, "interactive")
    requests = [
        CompletionRequest(_model(fields), prompt, sampling, trace, echo, constraint, priority)
        for prompt in _prompts(fields)
    ]
    return _parsed(fields, requests, ignored)


def parse_tokenize(body: bytes, trace: str) -> tuple[Request, tuple[str, ...]]:
    """A text or a conversation whose tokens are asked for; names in no table, or beside a text without effect."""
    given = decode_object(body)
    fields = FieldReader(given)
    ignored = TOKENIZE.check(fields)
    if "messages" in fields:
        if "prompt" in fields:
            raise fields.error("prompt", "left out where messages are given")
        request, ignored_too = _chat(fields, trace, Sampling())
        return request, tuple(sorted({*ignored, *ignored_too, *strays(given)}))
    if not isinstance(fields.raw("prompt"), str):
        raise fields.error("prompt", "a string, or messages be given")
    of_conversations = fields.names & TOKENIZE.acts.keys() - {"model", "prompt"}
    ignored = tuple(sorted({*ignored, *of_conversations}))
    return CompletionRequest(_model(fields), str(fields.raw("prompt")), trace=trace), ignored


def parse_detokenize(body: bytes) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """The model, the tokens, and names in no table."""
    fields = FieldReader(decode_object(body))
    ignored = DETOKENIZE.check(fields)
    tokens = fields.items("tokens")
    if "tokens" not in fields or not _are_ids(tokens):
        raise fields.error("tokens", "a list of token ids")
    return _model(fields), tuple(tokens), ignored


def _parsed(fields: FieldReader, requests: Sequence[Request], ignored: tuple[str, ...]) -> Parsed:
    """`n` choices of each request."""
    count = fields.whole("n", 1, 1, MOST_CHOICES)
    options = fields.object("stream_options")
    return Parsed(
        requests=tuple(_choice(request, place) for request in requests for place in range(count)),
        stream=fields.flag("stream", False),
        include_usage=options.flag("include_usage", False),
        ignored=tuple(sorted(set(ignored))),
        names=_names_given(fields),
        service_tier=service_tier.tier(fields),
    )


def _names_given(fields: FieldReader) -> Mapping[str, str]:
    limits = {name: fields.raw(name) for name in ("max_tokens", "max_completion_tokens") if name in fields}
    names = {"max_tokens": min(limits, key=lambda name: limits[name])} if limits else {}
    if "thinking_budget" not in fields:
        within = "thinking_budget" in fields.object("chat_template_kwargs")
        names["thinking_budget"] = "chat_template_kwargs.thinking_budget" if within else "reasoning_effort"
    return names


def _choice(request: Request, place: int) -> Request:
    return msgspec.structs.replace(request, sampling=msgspec.structs.replace(request.sampling, choice=place))


def _model(fields: FieldReader) -> str:
    name = fields.text("model", "")
    if not name:
        raise InvalidRequest("model is missing: give the name of a model, see /v1/models.", param="model")
    return name


def _chat(fields: FieldReader, trace: str, sampling: Sampling) -> tuple[ChatRequest, set[str]]:
    messages, ignored = conversation.messages(fields)
    tools = conversation.tools(fields)
    continue_final = fields.flag("continue_final_message", False)
    if continue_final and messages[-1].role != "assistant":
        raise fields.error("continue_final_message", "false, for the last message isn't the assistant's")
    if continue_final == fields.flag("add_generation_prompt", not continue_final):
        raise fields.error("add_generation_prompt", "the opposite of continue_final_message")
    request = ChatRequest(
        model=_model(fields),
        messages=messages,
        sampling=sampling,
        trace=trace,
        tools=tools,
        tool_choice=conversation.tool_choice(fields, tools),
        constraint=structure.constraint(fields),
        thinking=_thinking(fields),
        continue_final=continue_final,
        template={
            name: value
            for name, value in (fields.raw("chat_template_kwargs") or {}).items()
            if name not in ("enable_thinking", "thinking_budget")
        },
        priority=service_tier.priority(fields, "interactive"),
    )
    return request, ignored


def _sampling(
    fields: FieldReader, logprobs: int | None, fewest_tokens: int = 1, default: int | None = None
) -> Sampling:
    limits = [fields.whole(name, None, fewest_tokens) for name in ("max_tokens", "max_completion_tokens")]
    return Sampling(
        temperature=fields.number("temperature", 1.0, 0, 2),
        top_p=fields.number("top_p", 1.0, 0, 1, above=True),
        top_k=max(0, fields.whole("top_k", 0, -1, LONGEST - 1)),
        min_p=fields.number("min_p", 0.0, 0, 1),
        presence_penalty=fields.number("presence_penalty", 0.0, -2, 2),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2, 2),
        repetition_penalty=fields.number("repetition_penalty", 1.0, 0, 10, above=True),
        logit_bias=_logit_bias(fields),
        logprobs=logprobs,
        max_tokens=min((limit for limit in limits if limit is not None), default=default),
        stop=_stop(fields),
        seed=fields.whole("seed", None, -LONGEST),
        unset=tuple(name for name in sampling_defaults.NAMES if name not in fields),
    )


def _chat_logprobs(fields: FieldReader) -> int | None:
    wanted, top = fields.flag("logprobs", False), fields.whole("top_logprobs", 0, 0, 20)
    if top and not wanted:
        raise fields.error("logprobs", "true where top_logprobs are asked for")
    return top if wanted else None


def _logit_bias(fields: FieldReader) -> tuple[tuple[int, float], ...]:
    given = fields.object("logit_bias")
    for name in given.names:
        if not name.isascii() or not name.isdigit() or len(name) > 9:
            raise fields.error("logit_bias", "an object of token ids, and numbers from -100 to 100")
    return tuple((int(name), given.number(name, 0.0, -100, 100)) for name in sorted(given.names, key=int))


def _stop(fields: FieldReader) -> tuple[str, ...]:
    value = fields.raw("stop")
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(one, str) and one for one in stops):
        raise fields.error("stop", "a string or a list of at most four, none of them empty")
    return tuple(stops)


def _thinking(fields: FieldReader) -> Thinking:
    kwargs = fields.object("chat_template_kwargs")
    enabled = kwargs.flag("enable_thinking", True) if "enable_thinking" in kwargs else None
    if "enable_thinking" in fields:
        enabled = fields.flag("enable_thinking", True)
    budgets = [fields.whole("thinking_budget", None, 0), kwargs.whole("thinking_budget", None, 0)]
    effort = fields.one_of("reasoning_effort", tuple(EFFORTS), None)
    if effort is not None:
        enabled = EFFORTS[effort] != 0 if enabled is None else enabled
        budgets.append(EFFORTS[effort])
    budget = next((one for one in budgets if one is not None), None)
    format = fields.one_of("reasoning_format", ("auto", "deepseek", "none"), "auto")
    if budget == 0 or enabled is False:
        return Thinking(False, None, format != "none")
    return Thinking(enabled, budget, format != "none")


def _prompts(fields: FieldReader) -> list[str | tuple[int, ...]]:
    """OpenAI's four shapes: a text, several texts, tokens, several lists of tokens."""
    value = fields.raw("prompt")
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if _are_ids(value):
            return [tuple(value)]
        if len(value) <= MOST_CHOICES and all(isinstance(one, str) or (one and _are_ids(one)) for one in value):
            return [one if isinstance(one, str) else tuple(one) for one in value]
    raise fields.error("prompt", f"a string, a list of token ids, or a list of at most {MOST_CHOICES} of either")


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31 for one in value
    )
