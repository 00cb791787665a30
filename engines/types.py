"""Requests, results and events of all capabilities: the vocabulary of the project.

Everything here is frozen and goes over the wire between server and runner as it is (`wire.py`).
Times are seconds, sizes are bytes, lengths of text are tokens, unless a name says otherwise.
"""

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant"]
Capability = Literal["chat"]
FinishReason = Literal["stop", "length"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation, as plain text; fronts have joined parts and mapped `developer` to `system`."""

    role: Role
    content: str


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is chosen, and when to stop.

    `temperature` 0 is greedy. `top_p` is applied after the temperature. `seed` None draws a fresh one.
    `max_tokens` None means: as many as the context leaves. `stop` strings are matched on text and never shown.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """A conversation to continue. `model` is any name that the catalog knows; `trace` is the client's request id."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    trace: str = ""


class Usage(msgspec.Struct, frozen=True):
    """Tokens in and out of one request."""

    prompt_tokens: int
    completion_tokens: int


class Timings(msgspec.Struct, frozen=True):
    """Where a request's time went: waiting for its turn (and its model), prefill, decode."""

    queued: float
    prefill: float
    decode: float


class Started(msgspec.Struct, frozen=True, tag=True):
    """All checks are passed and a model works on the request. Always the first event."""

    model: str
    prompt_tokens: int


class Delta(msgspec.Struct, frozen=True, tag=True):
    """Text that was added; never half a character, never part of a stop string."""

    text: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The last event of a request that ended well. `finish_reason` "length" marks a cut result."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings


Event = Started | Delta | Done


ModelPhase = Literal["unloaded", "loading", "ready", "unloading", "failed"]


class ModelStatus(msgspec.Struct, frozen=True):
    """A model that is configured or installed. `names` are what clients may call it; the first is its main one."""

    names: tuple[str, ...]
    capability: Capability
    phase: ModelPhase
    installed: bool
    running: int = 0
    waiting: int = 0
    lease_bytes: int = 0
    created: int = 0
    detail: str = ""


class Health(msgspec.Struct, frozen=True):
    """`ok` unless a busy runner hangs or a model keeps dying; `problems` names model and reason, single deaths too."""

    ok: bool
    problems: tuple[str, ...] = ()


class Metric(msgspec.Struct, frozen=True):
    """One sample for monitoring, in Prometheus' terms."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
