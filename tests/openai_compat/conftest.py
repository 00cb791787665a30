import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

import openai
import pytest
import uvicorn

from openai_compat.app import AppOptions, build
from tests.scripted import Scripted


class Served:
    """A `Scripted` behind a real server on a thread of its own. `url` is without a path."""

    def __init__(self, options: AppOptions) -> None:
        self.scripted = Scripted()
        self._listener = socket.socket(proto=socket.IPPROTO_TCP)  # as the service does: answers leave at once
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        app = build(self.scripted, options)
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        self.close: Callable[[], None] = self._listener.close  # once it runs: returns when the server has ended
        self._loop: Future[asyncio.AbstractEventLoop] = Future()

    def call(self, work: Callable[[], object]) -> None:
        """Run `work` on the server's loop."""
        self._loop.result(5).call_soon_threadsafe(work)

    def until(self, fact: Callable[[Scripted], bool]) -> None:
        """Return when `fact` holds on the server's loop; a test that waits in vain fails after 5 seconds."""

        async def watch() -> None:
            async with asyncio.timeout(5):
                while not fact(self.scripted):  # noqa: ASYNC110 (Scripted has no event for it)
                    await asyncio.sleep(0.002)

        asyncio.run_coroutine_threadsafe(watch(), self._loop.result(5)).result(6)

    @contextmanager
    def running(self) -> "Iterator[Served]":
        async def serve() -> None:
            self._loop.set_result(asyncio.get_running_loop())
            await self._server.serve(sockets=[self._listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))

        def stop() -> None:
            if thread.is_alive():
                self.call(lambda: setattr(self._server, "should_exit", True))
            thread.join(10)
            self._listener.close()
            assert not thread.is_alive()

        thread.start()
        self.close = stop
        try:
            yield self
        finally:
            stop()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers with the given `AppOptions`; all are stopped when the test ends."""
    with ExitStack() as stack:

        def start(**options: object) -> Served:
            return stack.enter_context(Served(AppOptions(**options)).running())  # type: ignore[arg-type]

        yield start


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where `served` keeps what it needs for a while; not made yet."""
    return tmp_path / "scratch"


@pytest.fixture
def served(serve: Serve, scratch: Path) -> Served:
    return serve(scratch=str(scratch))


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as made:
        yield made
