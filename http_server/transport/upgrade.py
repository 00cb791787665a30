"""An offer to change the protocol (`Upgrade: h2c` of Java's client, `TLS/1.0`, `websocket`), taken out of a head. Pure.

A server may ignore it (RFC 9110, 7.8): what follows the head is then the request's own body.
"""

from collections.abc import Iterable


def without_offer(method: str, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The same head as bytes, without `Upgrade` and the token of `Connection` that goes with it.

    Names are in lower case. Values hold no line ends: a parser has read them.
    """
    lines = [b"%b %b HTTP/%b" % (method.encode("ascii"), target, version.encode("ascii"))]
    for name, value in headers:
        if name == b"upgrade":
            continue
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            value = b", ".join(token for token in tokens if token.lower() not in (b"upgrade", b"http2-settings"))
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"\r\n"])
