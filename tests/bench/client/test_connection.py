"""Server-sent events and their moments, however the bytes were cut."""

import asyncio

from bench.client.connection import StreamProgress, events
from tests.bench.client.test_chat import ANSWER


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
