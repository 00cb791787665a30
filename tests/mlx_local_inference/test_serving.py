import asyncio
import socket
from pathlib import Path

import pytest

from mlx_local_inference import serving
from mlx_local_inference.settings import Settings


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


@pytest.mark.parametrize(
    ("named", "demo", "folder"),
    [
        ("/recorded/voices", False, "/recorded/voices"),
        ("/recorded/voices", True, "/recorded/voices"),
        ("~/voices", True, "{home}/voices"),
        (None, False, "{home}/.mlx-server/voices"),
        (None, True, "/scratch/voices"),
    ],
)
def test_the_folder_of_voices_that_is_named_holds_in_a_demo_too(named: str | None, demo: bool, folder: str) -> None:
    settings = Settings() if named is None else Settings(voices_dir=named)
    options = serving._audio_options(settings, serving.Command(demo=demo), Path("/scratch"))
    assert str(options.voices) == folder.format(home=Path.home())
