import asyncio
import errno
import logging
import os
import socket

import pytest

from mlx_local_inference import ports
from tests.promises import promise

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("localhost", ("127.0.0.1", "::1")),
        ("LocalHost.", ("127.0.0.1", "::1")),
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1", ("::1",)),
        ("[::1]", ("::1",)),
        ("0.0.0.0", ("0.0.0.0",)),
        ("[::]", ("::",)),
        ("192.168.1.7", ("192.168.1.7",)),
    ],
)
def test_a_host_means_addresses(host: str, addresses: tuple[str, ...]) -> None:
    assert ports.addresses(host) == addresses


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.53", "127.1")),
        *((host, True) for host in ("::1", "[::1]", "0:0:0:0:0:0:0:1", "[0000::0001]", "::ffff:127.0.0.1")),
        *(
            (host, False)
            for host in ("0.0.0.0", "::", "[::]", "10.0.0.1", "fe80::1", "mac.local", "localhost.evil.com")
        ),
    ],
)
def test_every_spelling_of_a_loopback_is_one(host: str, loopback: bool) -> None:
    assert ports.is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://127.0.0.1:1"),
        ("[::1]", "http://[::1]:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("mac.local", "http://mac.local:1"),
    ],
)
def test_a_client_on_this_machine_finds_the_server(host: str, url: str) -> None:
    assert ports.local_url(host, 1) == url


@promise("http:loopback:both")
def test_localhost_is_both_loopbacks_on_one_port() -> None:
    first, second = ports.listen("localhost", 0)
    with first, second:
        assert first.getsockname()[0] == "127.0.0.1" and second.getsockname()[0] == "::1"
        assert first.getsockname()[1] == second.getsockname()[1] > 0


@pytest.mark.parametrize("mine", ["127.0.0.1", "::1"])
def test_a_program_on_one_of_the_loopbacks_is_told_of(mine: str) -> None:
    with ports._bound(mine, 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(ports.PortTaken, match=rf"port {port}.*{mine}.*process {os.getpid()}"):
            ports.listen("localhost", port)
        with pytest.raises(ports.PortTaken, match=str(port)):
            ports.listen(mine, port)
        if mine == "::1":
            ports.listen("127.0.0.1", port)[0].close()  # named alone, it is free


def test_who_answers_is_looked_for_where_clients_would_find_it() -> None:
    asked: list[str] = []

    def connect(address: str, port: int) -> bool:
        asked.append(address)
        return address == "::1"

    assert ports._answering(("0.0.0.0",), 1, connect) == "::1"
    assert ports._answering(("127.0.0.1",), 1, connect) is None
    assert ports._answering(("10.0.0.1",), 1, connect) is None
    assert asked == ["127.0.0.1", "::1", "127.0.0.1", "10.0.0.1"]


@pytest.mark.parametrize("lacking", ["127.0.0.1", "::1"])
def test_a_loopback_that_isnt_there_is_left_out_and_told(
    lacking: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bound = ports._bound

    def lame(address: str, port: int) -> socket.socket:
        if address == lacking:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return bound(address, port)

    monkeypatch.setattr(ports, "_bound", lame)
    with caplog.at_level(logging.WARNING):
        (listener,) = ports.listen("localhost", 0)
    with listener:
        assert listener.getsockname()[0] != lacking
    assert [lacking in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_the_ports_send_leaves_at_once(host: str) -> None:
    """Else every answer waits for the client's ACK of its head, 40 ms and more: asyncio goes by the protocol."""

    async def run() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        (listener,) = ports.listen(host, 0)
        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            writer.close()
            return await found

    assert asyncio.run(run())
