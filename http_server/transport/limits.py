"""How much one connection may send, and how long it may take; all connections together."""

import msgspec

RESERVED = 96  # descriptors for everything but connections: runners, files of requests, libraries
MOST_CONNECTIONS = 4096


class TransportLimits(msgspec.Struct, frozen=True):
    """Sizes are bytes, times seconds.

    `head` counts names and values of the headers and the target; `beside_body` what a chunked body may have beside its
    data: sizes and extensions of chunks, and trailers.
    """

    target: int = 16 << 10
    head: int = 64 << 10
    headers: int = 200
    beside_body: int = 64 << 10
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 75.0
    linger_seconds: float = 2.0


def most_connections(descriptors: int) -> int:
    """How many connections a process may hold that can open so many files."""
    return max(16, min(MOST_CONNECTIONS, descriptors - max(RESERVED, descriptors // 4)))
