import asyncio
import errno
import logging
import os
import socket
from typing import Any

import pytest

from http_server.transport import accepting
from tests.promises import promise


class Short(socket.socket):
    """A listening socket of a process that can open no more files, for so many tries."""

    tries = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.tries:
            self.tries -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@promise("http:descriptors:pause")
def test_a_want_of_descriptors_is_waited_out_and_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.01)
    listener = Short()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.tries = 5

    class Hello(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(b"hello")  # type: ignore[attr-defined]

    async def run() -> bytes:
        acceptor = accepting.Acceptor(listener, Hello)
        acceptor.start()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            return await reader.readexactly(5)
        finally:
            writer.close()
            acceptor.close()

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(run()) == b"hello"
    assert listener.tries == 0 and len(caplog.records) == 1
