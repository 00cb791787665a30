import asyncio
import socket

import pytest

from mlx_local_inference import serving


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_the_ports_send_leaves_at_once(host: str) -> None:
    """Else every answer waits for the client's ACK of its head, 40 ms and more: asyncio goes by the protocol."""
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")

    async def run() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = serving._bound(host, 0)
        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            writer.close()
            return await found

    assert asyncio.run(run())
