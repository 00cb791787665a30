import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.types import Message

from engines.types.errors import InvalidRequest, UnsupportedEncoding
from http_server.encoding import PIECE, Inflater, coding_of, inflated


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "members": ("gzip", lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw),
}


def unpacked(coding: str, sent: bytes, step: int) -> bytes:
    inflater = Inflater(coding)
    pieces = [piece for at in range(0, len(sent), step) for piece in inflater.feed(sent[at : at + step])]
    inflater.close()
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", PACKERS)
@given(data=st.binary(max_size=500), copies=st.sampled_from([1, 400]), step=st.integers(1, 300))
def test_what_was_packed_comes_out_however_it_is_cut(kind: str, data: bytes, copies: int, step: int) -> None:
    coding, pack = PACKERS[kind]
    assert unpacked(coding, pack(data * copies), step) == data * copies


@pytest.mark.parametrize("harm", ["cut", "flipped", "tail", "other"])
@pytest.mark.parametrize("kind", [kind for kind in PACKERS if kind != "raw"])  # which has no checksum
def test_what_is_no_whole_stream_is_refused(kind: str, harm: str) -> None:
    coding, pack = PACKERS[kind]
    whole = pack(b"hello " * 100)
    sent = {
        "cut": whole[:-3],
        "flipped": whole[:-1] + bytes([whole[-1] ^ 255]),
        "tail": whole + b"more",
        "other": b'{"model": "a"}',
    }[harm]
    with pytest.raises(InvalidRequest, match=coding):
        unpacked(coding, sent, 7)


def test_a_bomb_never_takes_more_than_its_reader_asks_for() -> None:
    bomb = gzip.compress(bytes(200 << 20))
    tracemalloc.start()
    taken = 0
    for piece in Inflater("gzip").feed(bomb):
        taken += len(piece)
        if taken > 1 << 20:
            break
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("named", "coding"),
    [
        ([], None),
        (["identity"], None),
        ([""], None),
        (["gzip"], "gzip"),
        (["X-GZip"], "gzip"),
        ([" GZIP , identity"], "gzip"),
        (["deflate"], "deflate"),
    ],
)
def test_a_coding_is_known_by_its_name(named: list[str], coding: str | None) -> None:
    assert coding_of(Headers(raw=[(b"content-encoding", name.encode()) for name in named])) == coding


@pytest.mark.parametrize(
    "named", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "deflate"], ["compress"], ["aws-chunked"]]
)
def test_another_coding_is_refused_by_name(named: list[str]) -> None:
    with pytest.raises(UnsupportedEncoding, match=named[-1].partition(",")[0]):
        coding_of(Headers(raw=[(b"content-encoding", name.encode()) for name in named]))


def test_who_reads_the_body_never_knows_and_learns_that_its_client_left() -> None:
    body = gzip.compress(b"hello" * 50_000)
    messages: list[Message] = [
        {"type": "http.request", "body": body[:50], "more_body": True},
        {"type": "http.request", "body": body[50:], "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def main() -> bytes:
        headers = [(b"content-encoding", b"gzip"), (b"content-length", b"1"), (b"x", b"y")]
        scope, read = inflated({"type": "http", "headers": headers}, receive)
        assert scope["headers"] == [(b"x", b"y")]
        got = b""
        while (message := await read())["type"] == "http.request":
            got += message["body"]
        return got

    assert asyncio.run(main()) == b"hello" * 50_000
