"""What requests of all capabilities share.

Everything in `engines.types` is frozen, and goes between server and runner as it is (`engines.ipc.runner_protocol`).
Times are seconds, sizes are bytes, lengths of text are tokens, unless a name says otherwise.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Capability = Literal["chat", "transcription", "alignment", "speech"]
DOES: Mapping[Capability, str] = {
    "chat": "chats",
    "transcription": "transcribes",
    "alignment": "finds the times of words",
    "speech": "speaks",
}


# Background requests leave the device to interactive ones: they wait longer, and no request waits for them.
Priority = Literal["interactive", "background"]

Json = dict[str, Any]


class Usage(msgspec.Struct, frozen=True):
    """Tokens in and out of one request: `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(msgspec.Struct, frozen=True):
    """Where a request's time went: waiting for its turn (and its model), prefill, decode."""

    queued: float
    prefill: float
    decode: float


class Adjusted(msgspec.Struct, frozen=True):
    """A field of a request that acts otherwise than it was given; `how` says in words what acts instead."""

    field: str
    how: str


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """All checks are passed; the request waits for its turn. The first event of a request for text, and of no other."""

    adjusted: tuple[Adjusted, ...] = ()


class Started(msgspec.Struct, frozen=True, tag=True):
    """A model works on the request. The first event but `Accepted`."""

    model: str
    prompt_tokens: int
