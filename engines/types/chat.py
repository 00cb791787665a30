"""Requests, results and events of chat and completions."""

from typing import Any, Literal

import msgspec

from engines.types.common import Accepted, Json, Priority, Started, Timings, Usage

Role = Literal["system", "user", "assistant", "tool"]


FinishReason = Literal["stop", "length", "tool_calls"]


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made earlier; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    text: str


class SpooledPart(msgspec.Struct, frozen=True):
    """Content in a file that the server keeps until its request has ended, so that no payload goes over the wire.

    `path` is absolute; `media_type` is what the file was found to be (image/png); `digest` identifies the content: it
    takes the place of the file in the keys of KV blocks.
    """

    path: str
    media_type: str
    digest: bytes


class ImagePart(SpooledPart, frozen=True, tag="image"):
    """A picture."""


class FilePart(SpooledPart, frozen=True, tag="file"):
    """A document, as a PDF."""


class AudioPart(SpooledPart, frozen=True, tag="audio"):
    """Recorded sound."""


Part = TextPart | ImagePart | FilePart | AudioPart


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; fronts have joined parts that are all text, and mapped `developer` to `system`.

    `reasoning` and `tool_calls` are an assistant's; `tool_call_id` says which call a tool's message answers.
    """

    role: Role
    content: str | tuple[Part, ...]
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    @property
    def text(self) -> str:
        """The text of all parts that are text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters` is a JSON schema. `strict` calls always match it."""

    name: str
    description: str = ""
    parameters: Json = {}
    strict: bool = False


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether the model may call, must call, or must call the tool `name`; `parallel` allows several calls."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    parallel: bool = True


class Constraint(msgspec.Struct, frozen=True):
    """What the answer must be: `value` is a JSON schema, a grammar, a regular expression or a list of texts.

    A `grammar` is written in Lark or in EBNF, whichever it looks like.

    `at` is the request's field, for errors. A `json_object` has no value.
    """

    kind: Literal["json_object", "json_schema", "grammar", "ebnf", "regex", "choice"]
    value: Any = None
    at: str = "response_format"


class Thinking(msgspec.Struct, frozen=True):
    """Of a model that thinks before it answers.

    `enabled` None leaves it to the model's template. `budget` is the tokens of a thought, which is closed when they
    are used up. `separate` False leaves the thought in the answer's text, as the model wrote it.
    """

    enabled: bool | None = None
    budget: int | None = None
    separate: bool = True


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is chosen, and when to stop.

    Applied in this order: repetition penalty (over prompt and answer; above 0, 1 is none), presence and frequency
    penalty (over the answer) and `logit_bias`; temperature (0 is greedy); then of the likeliest tokens the first
    `top_k` (0: all), those of at least `min_p` times the likeliest one's probability, and those that together hold
    `top_p`. `seed` None draws a fresh one; `choice` tells the answers of one request apart. `max_tokens` None means:
    as many as the context leaves. `stop` strings are matched on text and never shown. `logprobs` None gives none, else
    those of each token and of so many likeliest ones; they are the model's own, before any of the above. `unset` are
    the names of those that the client left to the model: for them a checkpoint's own hold.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choice: int = 0
    unset: tuple[str, ...] = ()


class ChatRequest(msgspec.Struct, frozen=True, tag=True):
    """A conversation to continue. `model` is any name that the catalog knows; `trace` is the client's request id.

    `continue_final` goes on with the last message, an assistant's, instead of beginning a new one. `template` are
    further variables for the model's chat template.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    trace: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    constraint: Constraint | None = None
    thinking: Thinking = Thinking()
    continue_final: bool = False
    template: Json = {}
    priority: Priority = "interactive"


class CompletionRequest(msgspec.Struct, frozen=True, tag=True):
    """Text, or token ids, to continue as they are. `echo` gives the prompt back before its continuation."""

    model: str
    prompt: str | tuple[int, ...]
    sampling: Sampling = Sampling()
    trace: str = ""
    echo: bool = False
    constraint: Constraint | None = None
    priority: Priority = "interactive"


Request = ChatRequest | CompletionRequest


class Tokenized(msgspec.Struct, frozen=True):
    """The tokens of a prompt, and how many the model takes at most, answer included."""

    tokens: tuple[int, ...]
    context_length: int


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token with the logarithm of its probability (None: the first of a prompt), and the likeliest ones there.

    `id` and `token` are the same thing; a token can be less than a character.
    """

    id: int
    token: bytes
    logprob: float | None
    top: tuple[tuple[int, bytes, float], ...] = ()


class CallDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of the tool call number `index`: its first has `id` and `name`, each adds to the JSON of `arguments`."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """What was added; text never holds half a character, or part of a stop string.

    `logprobs` are of the tokens that `text` was made of.
    """

    text: str = ""
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Done(msgspec.Struct, frozen=True, tag=True):
    """The last event of a request that ended well. `finish_reason` "length" marks a cut result.

    `unfinished_calls` are numbers of tool calls whose deltas don't make a call, because they were cut or broke off;
    `unfinished_text` is what the model wrote of them.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    unfinished_calls: tuple[int, ...] = ()
    unfinished_text: str = ""


Event = Accepted | Started | Delta | Done
