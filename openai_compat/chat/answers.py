"""OpenAI's objects for answers: a whole one, and the chunks of a streamed one. Pure but for the clock in `created`."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import msgspec

from engines.types.chat import CallDelta, ChatRequest, Delta, Done, Event, TokenLogprob
from engines.types.common import Accepted, Adjusted, Json
from engines.types.openai_messages import reply
from openai_compat.chat.fields import Parsed


class Answer(ABC):
    """One body's answer: renders each event of a stream, or collects them for `whole`."""

    def __init__(self, parsed: Parsed, prefix: str, kind: str) -> None:
        self.parsed = parsed
        self._head = {
            "id": f"{prefix}-{parsed.first.trace}",
            "object": kind,
            "created": int(time.time()),
            "model": parsed.first.model,
            **({"service_tier": parsed.service_tier} if parsed.service_tier else {}),
        }
        self._said: list[list[Delta]] = [[] for _ in parsed.requests]
        self._accepted: dict[int, Accepted] = {}
        self._done: dict[int, Done] = {}

    def take(self, number: int, event: Event) -> None:
        """Collect an event of a choice for `whole`."""
        match event:
            case Accepted():
                self._accepted[number] = event
            case Delta():
                self._said[number].append(event)
            case Done():
                self._done[number] = event

    @property
    def accepted(self) -> bool:
        """Whether all choices have been."""
        return len(self._accepted) == len(self.parsed.requests)

    @property
    def adjusted(self) -> list[Adjusted]:
        """The fields that act otherwise than they were given, by the names by which they were."""
        told = [one for accepted in self._accepted.values() for one in accepted.adjusted]
        names = self.parsed.names
        return list(dict.fromkeys(Adjusted(names.get(one.field, one.field), one.how) for one in told))

    def whole(self) -> Json:
        """The answer of everything that was taken."""
        choices = [self._choice(number, said, self._done[number]) for number, said in enumerate(self._said)]
        usages = usage(self._done.values())
        return {**self._head, "choices": choices, "usage": usages, "timings": _timings(self._done[0])}

    @abstractmethod
    def opening(self) -> list[Json]:
        """The chunks before anything is said."""

    @abstractmethod
    def said(self, number: int, delta: Delta) -> Iterable[Json]:
        """The chunks of a delta."""

    @abstractmethod
    def ended(self, number: int, done: Done) -> Json:
        """The last chunk of a choice, with its timings."""

    @abstractmethod
    def _choice(self, number: int, said: Sequence[Delta], done: Done) -> Json:
        """A choice of a whole answer."""

    def usage_chunk(self, done: Iterable[Done]) -> Json:
        """The chunk behind the last, where usage is asked for."""
        return {**self._head, "choices": [], "usage": usage(done)}

    def _chunk(self, choice: Json) -> Json:
        return {**self._head, "choices": [choice]}


class ChatAnswer(Answer):
    def __init__(self, parsed: Parsed) -> None:
        super().__init__(parsed, "chatcmpl", "chat.completion.chunk" if parsed.stream else "chat.completion")

    def opening(self) -> list[Json]:
        first = {"role": "assistant", "content": ""}
        return [self._chunk(_delta(number, first)) for number in range(len(self.parsed.requests))]

    def said(self, number: int, delta: Delta) -> Iterable[Json]:
        """A call's entry never shares its chunk with another: clients read the first of `tool_calls` alone."""
        said: Json = {}
        if delta.reasoning:
            said["reasoning_content"] = delta.reasoning
        if delta.text:
            said["content"] = delta.text
        if said or not delta.calls:
            yield self._chunk(_delta(number, said, logprobs=_chat_logprobs(delta.logprobs)))
        for entry in (entry for call in delta.calls for entry in _call_entries(call)):
            yield self._chunk(_delta(number, {"tool_calls": [entry]}))

    def ended(self, number: int, done: Done) -> Json:
        return {**self._chunk(_delta(number, {}, done.finish_reason)), "timings": _timings(done)}

    def _choice(self, number: int, said: Sequence[Delta], done: Done) -> Json:
        message = {**reply(said, done), "refusal": None}
        logprobs = None
        if self.parsed.requests[number].sampling.logprobs is not None:
            logprobs = _chat_logprobs([one for delta in said for one in delta.logprobs], always=True)
        return {"index": number, "message": message, "finish_reason": done.finish_reason, "logprobs": logprobs}


class CompletionAnswer(Answer):
    def __init__(self, parsed: Parsed) -> None:
        super().__init__(parsed, "cmpl", "text_completion")
        self._offsets = [0] * len(parsed.requests)

    def opening(self) -> list[Json]:
        return []

    def said(self, number: int, delta: Delta) -> Iterable[Json]:
        choice = self._text(number, delta.text, delta.logprobs, None)
        self._offsets[number] += len(delta.text)
        yield self._chunk(choice)

    def ended(self, number: int, done: Done) -> Json:
        return {**self._chunk(self._text(number, "", (), done.finish_reason)), "timings": _timings(done)}

    def _choice(self, number: int, said: Sequence[Delta], done: Done) -> Json:
        logprobs = [one for delta in said for one in delta.logprobs]
        return self._text(number, "".join(delta.text for delta in said), logprobs, done.finish_reason)

    def _text(self, number: int, text: str, logprobs: Sequence[TokenLogprob], reason: str | None) -> Json:
        wanted = self.parsed.requests[number].sampling.logprobs is not None
        return {
            "index": number,
            "text": text,
            "logprobs": _completion_logprobs(logprobs, self._offsets[number]) if wanted else None,
            "finish_reason": reason,
        }


def answer(parsed: Parsed) -> Answer:
    """The kind of answer that the requests' route gives."""
    return ChatAnswer(parsed) if isinstance(parsed.first, ChatRequest) else CompletionAnswer(parsed)


def usage(done: Iterable[Done]) -> Json:
    """Of all choices together; their common prompt counts once, and so does a prompt for each of several."""
    counts = [one.usage for one in done]
    prompt, made = counts[0].prompt_tokens, sum(one.completion_tokens for one in counts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": min(one.cached_tokens for one in counts)},
        "completion_tokens_details": {"reasoning_tokens": sum(one.reasoning_tokens for one in counts)},
    }


def _timings(done: Done) -> Json:
    timings: Json = msgspec.to_builtins(done.timings)
    return timings


def _delta(number: int, delta: Json, finish_reason: str | None = None, logprobs: Json | None = None) -> Json:
    return {"index": number, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}


def _call_entries(call: CallDelta) -> Iterable[Json]:
    """The head of a call, whose arguments are "" yet, and what is written of them."""
    if call.id:
        function = {"name": call.name, "arguments": ""}
        yield {"index": call.index, "id": call.id, "type": "function", "function": function}
    if call.arguments:
        yield {"index": call.index, "function": {"arguments": call.arguments}}


def _chat_logprobs(logprobs: Sequence[TokenLogprob], always: bool = False) -> Json | None:
    if not logprobs and not always:
        return None
    return {
        "content": [
            {
                **_token(one.token, one.logprob or 0.0),
                "top_logprobs": [_token(token, logprob) for _, token, logprob in one.top],
            }
            for one in logprobs
        ],
        "refusal": None,
    }


def _token(token: bytes, logprob: float) -> Json:
    return {"token": token.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(token)}


def _completion_logprobs(logprobs: Sequence[TokenLogprob], offset: int) -> Json:
    """The older shape: four lists. A token that is no whole text is written `bytes:\\x..`, so that keys don't fall
    together; offsets count characters."""
    offsets: list[int] = []
    before = b""
    for one in logprobs:
        offsets.append(offset + len(before.decode("utf-8", "ignore")))
        before += one.token
    return {
        "tokens": [_written(one.token) for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [
            {_written(token): logprob for _, token, logprob in one.top} if one.logprob is not None else None
            for one in logprobs
        ],
        "text_offset": offsets,
    }


def _written(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
