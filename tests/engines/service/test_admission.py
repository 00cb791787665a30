import asyncio
from collections.abc import Awaitable, Callable

import pytest

from engines.host.clock import AwakeClock
from engines.models.catalog import Entry
from engines.models.checkpoint import Checkpoint
from engines.service.admission import Admission
from engines.types.errors import ShuttingDown

ENTRY = Entry("/models/toy", ("toy",), Checkpoint("/models/toy", "qwen3", "chat", 0, 0, 0, 0))


def run(body: Callable[[Admission], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await body(Admission())

    asyncio.run(main())


async def stopping(admission: Admission) -> asyncio.Task[None]:
    """A stop that has begun and waits."""
    stop = asyncio.create_task(admission.stop(grace=10.0))
    await asyncio.sleep(0)
    return stop


def test_a_stop_refuses_who_comes_and_waits_for_who_is_inside() -> None:
    async def body(admission: Admission) -> None:
        ticket = admission.enter(ENTRY, None, is_piece=False)
        stop = await stopping(admission)
        with pytest.raises(ShuttingDown):
            admission.enter(ENTRY, None, is_piece=False)
        with pytest.raises(ShuttingDown), admission.composite():
            raise AssertionError("nobody gets in here")
        assert not stop.done() and list(admission.tickets.values()) == [ticket]
        admission.leave(ticket)
        await stop
        assert not admission.busy

    run(body)


def test_a_stop_admits_the_pieces_of_a_visit_and_waits_for_its_end() -> None:
    async def body(admission: Admission) -> None:
        with admission.composite():
            stop = await stopping(admission)
            for _ in range(2):
                admission.leave(admission.enter(ENTRY, None, is_piece=True))
                await asyncio.sleep(0)
            assert admission.busy and not stop.done()
        await stop
        with pytest.raises(ShuttingDown):
            admission.enter(ENTRY, None, is_piece=True)

    run(body)


def test_who_is_inside_when_the_grace_is_over_fails() -> None:
    async def body(admission: Admission) -> None:
        ticket = admission.enter(ENTRY, None, is_piece=False)
        assert not admission.closed
        await admission.stop(grace=0.0)
        assert admission.closed
        with pytest.raises(ShuttingDown):
            await anext(ticket.events(0.0, AwakeClock(lambda: 0.0)))

    run(body)
