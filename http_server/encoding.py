"""Bodies that come compressed (`Content-Encoding`), inflated piece by piece: nobody holds more than was asked for."""

import asyncio
import zlib
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from engines.types.errors import InvalidRequest, UnsupportedEncoding

TAKEN = "gzip, deflate, identity"  # as `Accept-Encoding` says it
PIECE = 64 << 10  # bytes that are inflated at a time
_GZIP, _ZLIB, _RAW = 31, 15, -15  # window bits, by which zlib knows the format


class Inflater:
    """Bytes in, bytes out, `PIECE` at most at a time. Raises `InvalidRequest` for what is no whole stream."""

    def __init__(self, coding: str) -> None:
        """`coding` is gzip or deflate."""
        self._coding = coding
        self._stream: zlib._Decompress | None = None
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes stand for; take all of it before the next call."""
        data = self._held + data
        if self._stream is None and len(data) < 2:  # by which the kinds of deflate are told apart
            self._held = data
            return
        self._held = b""
        piece = b""
        while data or len(piece) == PIECE:
            stream = self._stream_for(data)
            try:
                piece = stream.decompress(data, PIECE)
            except zlib.error as error:
                raise self._broken(str(error)) from None
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
            if piece:
                yield piece

    def close(self) -> None:
        """Say that there are no more bytes. A body without any is empty."""
        if self._held or (self._stream is not None and not self._stream.eof):
            raise self._broken("it ends too early")

    def _stream_for(self, data: bytes) -> "zlib._Decompress":
        if self._stream is None or (self._stream.eof and data):
            if self._stream is not None and self._coding != "gzip":
                raise self._broken("something follows its end")
            self._stream = zlib.decompressobj(_GZIP if self._coding == "gzip" else _deflate(data))
        return self._stream

    def _broken(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"The body is no whole {self._coding}, as Content-Encoding says it is: {why}.")


def _deflate(data: bytes) -> int:
    """RFC 9110 means zlib's format; some clients send it bare."""
    return _ZLIB if data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0 else _RAW


def coding_of(headers: Headers) -> str | None:
    """gzip or deflate; None where the body comes as it is. Raises `UnsupportedEncoding`."""
    named = [part.strip().lower() for value in headers.getlist("content-encoding") for part in value.split(",")]
    codings = [{"x-gzip": "gzip"}.get(name, name) for name in named if name not in ("", "identity")]
    if not codings:
        return None
    if codings not in (["gzip"], ["deflate"]):
        raise UnsupportedEncoding(
            f"Content-Encoding {', '.join(codings)[:100]} is not taken: send the body as gzip, as deflate, or as it is."
        )
    return codings[0]


def inflated(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """The request as if its body had come as it is. Raises `UnsupportedEncoding`; reading raises `InvalidRequest`."""
    coding = coding_of(Headers(scope=scope))
    if coding is None:
        return scope, receive
    gone = (b"content-encoding", b"content-length")
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in gone]
    return {**scope, "headers": headers}, _Inflating(receive, Inflater(coding)).receive


class _Inflating:
    def __init__(self, receive: Receive, inflater: Inflater) -> None:
        self._receive = receive
        self._inflater = inflater
        self._pieces: Iterator[bytes] = iter(())
        self._whole = self._closed = False

    async def receive(self) -> Message:
        while True:
            piece = next(self._pieces, None)
            if piece is not None:
                await asyncio.sleep(0)  # others get their turn, however much comes out of little
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._whole and not self._closed:
                self._closed = True
                self._inflater.close()
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._pieces = self._inflater.feed(message.get("body", b""))
            self._whole = not message.get("more_body", False)
