"""The whole conversation between server and runner, and its framing.

A frame is four bytes of length (big-endian) and one msgpack value of the union for its direction. `id` is the runtime's
number for a request, unique in a server's life.
"""

from typing import Generic, TypeVar

import msgspec

from engines.ipc.job import Cancel, Credit, Failed, Ping
from engines.types.audio import (
    AlignmentDone,
    AlignmentRequest,
    PieceDone,
    PieceRequest,
    PieceText,
    Sound,
    UtteranceDone,
    UtteranceRequest,
)
from engines.types.chat import Delta, Done, Request, Tokenized
from engines.types.common import Adjusted
from engines.types.errors import Failure

Work = Request | PieceRequest | AlignmentRequest | UtteranceRequest
Saying = Delta | PieceText | Sound
End = Done | PieceDone | AlignmentDone | UtteranceDone

MAX_FRAME = 64 * 1024 * 1024
_HEADER = 4


class Open(msgspec.Struct, frozen=True, tag=True):
    """Read the checkpoint's tokenizer and template, so that requests can be prepared; no weights yet."""

    folder: str
    context_limit: int


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Render and encode a request; answered by `Prepared` or `Failed`. What is made of it stays in the runner."""

    id: int
    request: Work


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load the weights, within a lease of memory of which `kv_bytes` are for KV, of requests and stored.

    `wired_bytes` are kept resident at most, where the device has such a limit; 0 leaves it as it is.
    """

    lease_bytes: int
    kv_bytes: int
    wired_bytes: int = 0


class Tokenize(msgspec.Struct, frozen=True, tag=True):
    """The tokens of a request's prompt; answered by `Tokens` or `Failed`."""

    id: int
    request: Request


class Detokenize(msgspec.Struct, frozen=True, tag=True):
    """The text of tokens; answered by `Detokenized` or `Failed`."""

    id: int
    tokens: tuple[int, ...]


class Resize(msgspec.Struct, frozen=True, tag=True):
    """The lease has another size now; stored blocks give way to a smaller one at once. Not answered."""

    lease_bytes: int
    kv_bytes: int


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Run a prepared request, until its `credit` of deltas is used up."""

    id: int
    credit: int


class ShareDevice(msgspec.Struct, frozen=True, tag=True):
    """Whether other runners compute as well, from now on; `yields`: this one leaves them the device, but for its share
    (`runner.device_lock`). Not answered."""

    shared: bool
    yields: bool = False


Command = Open | Prepare | Tokenize | Detokenize | Load | Resize | Submit | Cancel | Credit | ShareDevice | Ping


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The imports are done. `device_bytes` is what the device recommends to use; 0 if it doesn't say."""

    pid: int
    device: str
    device_bytes: int


class Opened(msgspec.Struct, frozen=True, tag=True):
    context_length: int


class OpenFailed(msgspec.Struct, frozen=True, tag=True):
    failure: Failure


class Prepared(msgspec.Struct, frozen=True, tag=True):
    id: int
    prompt_tokens: int
    max_tokens: int
    adjusted: tuple[Adjusted, ...] = ()


class Tokens(msgspec.Struct, frozen=True, tag=True):
    id: int
    result: Tokenized


class Detokenized(msgspec.Struct, frozen=True, tag=True):
    id: int
    text: str


class Loaded(msgspec.Struct, frozen=True, tag=True):
    seconds: float
    active_bytes: int


class LoadingFailed(msgspec.Struct, frozen=True, tag=True):
    failure: Failure


class Said(msgspec.Struct, frozen=True, tag=True):
    id: int
    delta: Saying


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The request's last event; of its timings the runner knows all but how long it was queued."""

    id: int
    end: End


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Sent when a step ends, at most a few a second, and to answer a `Ping`: the watchdog's only evidence of life."""

    steps: int
    slowest_step: float
    active_bytes: int
    peak_bytes: int


Answer = Prepared | Tokens | Detokenized
Report = Hello | Opened | OpenFailed | Answer | Loaded | LoadingFailed | Said | Finished | Failed | Beat


T = TypeVar("T")


class FrameTooLarge(ValueError):
    """A peer announced a frame beyond `MAX_FRAME`: the stream is not ours, or is damaged."""


def encode(message: msgspec.Struct) -> bytes:
    """One whole frame."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_HEADER, "big") + body


class FrameDecoder(Generic[T]):
    """Bytes in any pieces → messages. Raises `FrameTooLarge`, or msgspec's errors for what isn't a message."""

    def __init__(self, kind: object) -> None:
        self._decode: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        self._buffer += data
        messages: list[T] = []
        start = 0
        while len(self._buffer) - start >= _HEADER:
            size = int.from_bytes(self._buffer[start : start + _HEADER], "big")
            if size > MAX_FRAME:
                raise FrameTooLarge(f"a frame of {size} bytes; {MAX_FRAME} is the limit")
            end = start + _HEADER + size
            if len(self._buffer) < end:
                break
            messages.append(self._decode.decode(self._buffer[start + _HEADER : end]))
            start = end
        del self._buffer[:start]
        return messages
