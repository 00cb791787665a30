"""Runners that behave as no runner should, and their ends."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import aclosing

import psutil
import pytest

from demo.checkpoints import make_qwen3
from engines.models.catalog import Catalog, Roots
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.runtime import Runtime
from engines.types.chat import ChatRequest, Event, Message
from engines.types.errors import RunnerDied, ServiceError, ShuttingDown
from tests.promises import promise

HEAD = """
import socket, sys, time
from engines.ipc import runner_protocol as wire
link = socket.socket(fileno=int(sys.argv[1]))
"""
SILENT = "import time; time.sleep(60)"
GARBAGE = HEAD + "link.sendall((7).to_bytes(4, 'big') + b'garbage'); time.sleep(60)"
TOO_LARGE = HEAD + "link.sendall(b'xxxxxxxx'); time.sleep(60)"
TWICE_OPEN = HEAD + "[link.sendall(wire.encode(wire.Opened(100))) for _ in range(2)]; time.sleep(60)"
ENDS = HEAD + "sys.exit(3)"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("models")
    make_qwen3(folder / "toy")
    return Catalog(Roots(configured=(folder,)), {})


async def collect(runtime: Runtime) -> list[Event]:
    async with aclosing(runtime.run(ChatRequest("toy", (Message("user", "hello"),)))) as events:
        return [event async for event in events]


def run(catalog: Catalog, code: str, body: Callable[[Runtime], Coroutine[None, None, None]], spare: bool) -> None:
    limits = PoolLimits(4 << 30, max_running=4, queue_limit=4, idle_unload=-1.0, patience=30.0)
    options = RuntimeOptions(limits, spare=spare, runner=("-P", "-c", code))

    async def main() -> None:
        async with asyncio.timeout(30), Runtime(catalog, options) as runtime:
            await body(runtime)

    asyncio.run(main())
    assert not [child for child in psutil.Process().children() if code in child.cmdline()]


@promise("core:runner:nonsense")
@pytest.mark.parametrize("spare", [False, True])
@pytest.mark.parametrize("code", [GARBAGE, TOO_LARGE, TWICE_OPEN, ENDS])
def test_a_runner_that_talks_nonsense_is_ended_and_its_requests_fail(catalog: Catalog, code: str, spare: bool) -> None:
    async def body(runtime: Runtime) -> None:
        for _ in range(2):
            with pytest.raises(RunnerDied):
                await collect(runtime)
        assert not list(runtime._supervisor.runners)

    run(catalog, code, body, spare)


@pytest.mark.parametrize("spare", [False, True])
@pytest.mark.parametrize("moment", [0.0, 0.3])
def test_a_request_whose_runner_is_being_started_is_told_that_the_server_stops(
    catalog: Catalog, moment: float, spare: bool
) -> None:
    async def body(runtime: Runtime) -> None:
        request = asyncio.create_task(collect(runtime))
        await asyncio.sleep(moment)  # resolving or starting; waiting for its tokenizer
        await runtime.close(0.0)
        with pytest.raises(ShuttingDown):
            await request

    run(catalog, SILENT, body, spare)


def test_a_request_that_waits_for_the_end_of_a_runner_is_told_that_the_server_stops(catalog: Catalog) -> None:
    async def body(runtime: Runtime) -> None:
        first = asyncio.create_task(collect(runtime))
        while not (workers := list(runtime._supervisor.runners)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        os.kill(workers[0].process.pid, signal.SIGSTOP)
        workers[0].stopping = True
        second = asyncio.create_task(collect(runtime))
        await asyncio.sleep(0.2)
        await runtime.close(0.0)
        for ended in await asyncio.gather(first, second, return_exceptions=True):
            assert isinstance(ended, ServiceError)

    run(catalog, SILENT, body, spare=False)
