"""What came, and when, makes a stream; a dropped connection is tried again."""

import asyncio
import json

import pytest

from bench.client.chat import ChatClient, stream_of
from bench.streams import Ask, BenchFailed, Stream
from engines.types.chat import Message


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def said(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"delta": {"role": "assistant", "content": text}, "finish_reason": finish}])


USAGE = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2})
ANSWER = said("") + said(" ab") + b": keep-alive\n\n" + said(" 你") + said("", "length") + USAGE + b"data: [DONE]\n\n"


def test_only_text_counts_as_a_token() -> None:
    one = stream_of(0.5, [(1.0, ANSWER[:200]), (2.0, ANSWER[200:])])
    assert (one.text, one.tokens, one.prompt_tokens, one.submitted) == (" ab 你", 2, 9, 0.5)
    assert len(one.arrivals) == 2


@pytest.mark.parametrize(
    "data",
    [event(error={"message": "no"}), said(" ab", "stop") + USAGE, said(" ab", "length")],
    ids=["an error", "an early end", "no usage"],
)
def test_an_answer_that_is_not_what_was_asked_for_fails_loudly(data: bytes) -> None:
    with pytest.raises(BenchFailed):
        stream_of(0.0, [(1.0, data)])


@pytest.mark.parametrize("chunked", [True, False])
def test_an_answer_is_read_from_a_server_that_drops_the_first_connection(chunked: bool) -> None:
    (stream,) = asyncio.run(asked(b"200 OK", ANSWER, chunked=chunked, dropped=1))
    assert (stream.text, stream.tokens, stream.retries, len(stream.arrivals)) == (" ab 你", 2, 1, 2)


def test_a_refusal_fails_with_its_status_and_what_it_says() -> None:
    with pytest.raises(BenchFailed, match="404: no such model"):
        asyncio.run(asked(b"404 Not Found", b"no such model", chunked=False, dropped=0))


async def asked(status: bytes, body: bytes, *, chunked: bool, dropped: int) -> list[Stream]:
    """What the client makes of a server's answer, with or without chunks, behind so many dropped connections."""
    left = dropped

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        if left:
            left -= 1
        else:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
            kind = b"Transfer-Encoding: chunked\r\n" if chunked else b""
            writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n" + kind + b"\r\n")
            for part in (body[:200], body[200:]):
                writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            writer.write(b"0\r\n\r\n" if chunked else b"")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ask = Ask((Message("user", "x"),), (1,), 2)
        return await ChatClient(f"http://127.0.0.1:{port}", "m").run([ask])
