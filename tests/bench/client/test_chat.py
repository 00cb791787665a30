"""Server-sent events → moments and tokens, however the bytes were cut."""

import asyncio
import json

import pytest

from bench.client.chat import ChatClient, stream_of
from bench.client.connection import StreamProgress, events
from bench.streams import Ask, BenchFailed, Stream
from engines.types.chat import Message


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def said(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"delta": {"role": "assistant", "content": text}, "finish_reason": finish}])


USAGE = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2})
ANSWER = said("") + said(" ab") + b": keep-alive\n\n" + said(" 你") + said("", "length") + USAGE + b"data: [DONE]\n\n"


def test_an_event_has_the_moment_of_its_last_byte_at_every_split() -> None:
    whole = [data for _, data in events([(0.0, ANSWER)])]
    assert len(whole) == 6
    for cut in range(1, len(ANSWER)):
        found = list(events([(1.0, ANSWER[:cut]), (2.0, ANSWER[cut:])]))
        assert [data for _, data in found] == whole
        assert [moment for moment, _ in found] == sorted(moment for moment, _ in found)


def test_an_event_that_is_cut_counts_when_it_is_whole() -> None:
    assert [moment for moment, _ in events([(1.0, b"data: a\n"), (2.0, b"\n"), (3.0, b"data: b\r\n\r\n")])] == [
        2.0,
        3.0,
    ]


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


def test_who_waits_for_the_first_stream_is_let_go_at_the_right_token() -> None:
    async def scenario() -> list[bool]:
        progress = StreamProgress()
        await progress.reached(0)
        waiting = asyncio.ensure_future(progress.reached(3))
        states = []
        for _ in range(3):
            progress.add(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            states.append(waiting.done())
        return states

    assert asyncio.run(scenario()) == [False, False, True]


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
