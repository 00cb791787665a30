import asyncio

import pytest

from http_server.transport import connections
from http_server.transport.limits import TransportLimits
from tests.http_server.conftest import RunningServer, Serve
from tests.promises import promise

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
OFFERS = [
    OFFER,
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n",
    b"connection: keep-alive, upgrade\r\nUpgrade: TLS/1.0\r\n",
    b"Upgrade: foo/2\r\nConnection: upgrade\r\n",
]
LENGTH = b"Content-Length: 5\r\n\r\nhello"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
QUICK = TransportLimits(head_seconds=0.2, body_seconds=0.2, idle_seconds=0.2, linger_seconds=0.2)


@promise("http:upgrade:ignored")
@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket", "TLS", "foo"])
@pytest.mark.parametrize("body", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "two segments"])
def test_an_offered_upgrade_is_ignored_and_the_connection_goes_on(
    serve: Serve, offer: bytes, body: bytes, apart: bool
) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        head, end, content = (b"POST /a?b=c HTTP/1.1\r\nHost: x\r\n" + offer + body).partition(b"\r\n\r\n")
        for _ in range(2):
            client.send(head + end)
            if apart:
                await asyncio.sleep(0.01)
            client.send(content)
            told = (await client.reply()).json
            assert (told["method"], told["path"], told["body"]) == ("POST", "/a", "hello")
            assert "upgrade" not in told["headers"]
        client.send(b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.reply()).json["path"] == "/after"

    serve(test)


def test_requests_that_offer_an_upgrade_may_be_pipelined(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send((b"POST /a HTTP/1.1\r\nHost: x\r\n" + OFFER + LENGTH) * 3)
        assert [(await client.reply()).json["body"] for _ in range(3)] == ["hello"] * 3

    serve(test)


@promise("http:head:limits")
@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 66_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 5_000_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 201 + b"\r\n", 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\n" + OFFER + b"X: 1\r\n" * 201 + b"\r\n", 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 900_000, 400, "invalid_request"),
        (b"nonsense\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405, "method_not_allowed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_request"),
    ],
    ids=["target", "value", "endless value", "number", "number with offer", "extension", "nonsense", "connect", "h2"],
)
def test_what_is_no_request_of_ordinary_size_gets_a_whole_answer_and_the_end(
    serve: Serve, head: bytes, status: int, code: str
) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(head)
        reply = await client.reply()
        assert (reply.status, reply.json["error"]["code"], reply.headers["connection"]) == (status, code, "close")
        assert reply.headers["x-request-id"]
        assert await client.closed()

    serve(test, QUICK)


def test_headers_up_to_the_limits_and_long_bodies_pass(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(b"POST / HTTP/1.1\r\nX: " + b"a" * 60_000 + b"\r\n" + b"Y: 1\r\n" * 190)
        client.send(b"Content-Length: 400000\r\n\r\n" + b"b" * 400_000)
        assert len((await client.reply()).json["body"]) == 400_000

    serve(test)


def test_blanks_around_a_value_are_no_part_of_it(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(b"GET / HTTP/1.1\r\nHost:x:1 \r\nA:\t b c \t\r\nB: \r\n\r\n")
        headers = (await client.reply()).json["headers"]
        assert (headers["host"], headers["a"], headers["b"]) == ("x:1", "b c", "")

    serve(test)


def test_trailers_are_no_headers(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        body = CHUNKED.removesuffix(b"\r\n") + b"Authorization: Bearer late\r\n\r\n"
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + body)
        told = (await client.reply()).json
        assert (told["body"], "authorization" in told["headers"]) == ("hello", False)

    serve(test)


@promise("http:time:limits")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 0),
        (b"GET / HT", 408),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-", 408),
        (b"POST / HTTP/1.1\r\n" + LENGTH[:-2], 408),
    ],
    ids=["silence", "request line", "headers", "body"],
)
def test_what_stops_coming_is_ended_in_time(serve: Serve, sent: bytes, status: int) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(sent)
        if status:
            reply = await client.reply()
            assert (reply.status, reply.json["error"]["code"]) == (408, "request_timeout")
        assert await client.closed()
        if b"POST" in sent:
            await server.echo.left.wait()

    serve(test, QUICK)


def test_headers_that_drip_are_ended_and_a_body_that_moves_is_not(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        dripping, moving = await server.connect(), await server.connect()
        dripping.send(b"GET / HTTP/1.1\r\nX: ")
        moving.send(b"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n")
        for step in range(12):
            await asyncio.sleep(0.05)
            moving.send(b"b")
            if step < 3:
                dripping.send(b"a")
        assert (await moving.reply()).json["body"] == "b" * 12
        assert (await dripping.reply()).status == 408

    serve(test, QUICK)


def test_an_idle_connection_is_closed_and_one_whose_answer_takes_long_is_not(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        idle, waiting = await server.connect(), await server.connect()
        idle.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await idle.reply()).status == 200 and await idle.closed()
        await asyncio.sleep(0.3)
        server.echo.let_go.set()
        assert (await waiting.reply()).status == 200

    serve(test, QUICK)


def test_a_body_that_nobody_reads_any_more_is_let_in_for_a_while(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(b"POST /early HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 500_000)
        assert (await client.reply()).status == 200
        for _ in range(10):
            await asyncio.sleep(0.05)
            client.send(b"x")
        assert await client.closed()

    serve(test, QUICK)


@promise("http:answer:while-sending")
def test_who_reads_only_behind_its_body_has_the_answer_though_the_connection_ends_with_it(serve: Serve) -> None:
    """As urllib and proxies in HTTP/1.0 send; a reset would take the answer away."""
    head = b"POST /early HTTP/1.1\r\nConnection: close\r\nContent-Length: 30000000\r\n\r\n"

    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(head)
        for _ in range(300):
            client.send(b"x" * 100_000)
            await client.sent()
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await client.closed()

    serve(test)


def test_what_is_wrong_in_a_body_behind_its_answer_gets_no_second_one(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(b"POST /early HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n")
        assert (await client.reply()).status == 200
        client.send(b"no number\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.reply()

    serve(test)


def test_nonsense_behind_a_request_doesnt_cost_its_answer(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
        await asyncio.sleep(0.05)
        server.echo.let_go.set()
        assert (await client.reply()).json["path"] == "/wait"
        assert await client.closed()

    serve(test)


@promise("http:connections:bound")
def test_beyond_the_bound_connections_are_told_so_and_an_idle_one_gives_way(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(server: RunningServer) -> None:
        waiting = [await server.connect() for _ in range(3)]
        for client in waiting:
            client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        idle = await server.connect()
        idle.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await idle.reply()).status == 200
        beyond = await server.connect()
        beyond.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = await beyond.reply()
        assert (reply.status, reply.json["error"]["code"]) == (503, "too_many_connections")
        assert int(reply.headers["retry-after"]) >= 1 and await beyond.closed()
        monkeypatch.setattr(connections, "IDLE_ENOUGH", 0.0)
        late = await server.connect()
        late.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await late.reply()).status == 200
        assert await idle.closed()
        server.echo.let_go.set()
        assert [(await client.reply()).status for client in waiting] == [200] * 3

    serve(test, most=4)


def test_a_stop_lets_running_requests_end(serve: Serve) -> None:
    async def test(server: RunningServer) -> None:
        client = await server.connect()
        client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_later(0.1, server.echo.let_go.set)
        asyncio.create_task(ended(client))

    seen: list[int] = []

    async def ended(client: object) -> None:
        seen.append((await client.reply()).status)  # type: ignore[attr-defined]

    serve(test)
    assert seen == [200]
