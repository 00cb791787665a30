"""Conditions of the machine: what they call for, who waits, and for how long at most."""

import asyncio
import logging

import pytest

from engines.host.clock import AwakeClock
from engines.host.conditions import Conditions
from engines.service.background import LONGEST_PAUSE_SECONDS, READ_SECONDS, Advice, Background, advise
from tests.promises import promise

HOT, SCARCE, CALM = Conditions(thermal_pressure=2), Conditions(memory_pressure=2), Conditions(1, 0, 90.0, False)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = AwakeClock(lambda: self.now, longest_tick=1000.0)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.clock.tick()


def begun(time: Time) -> Background:
    return Background(time.clock, Conditions, battery_floor=20.0)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("conditions", "unload", "reasons"),
    [
        (Conditions(), False, 0),
        (CALM, False, 0),
        (Conditions(memory_pressure=2), True, 1),
        (Conditions(memory_pressure=4), True, 1),
        (Conditions(thermal_pressure=1), False, 0),
        (Conditions(thermal_pressure=2), False, 1),
        (Conditions(thermal_pressure=4), False, 1),
        (Conditions(battery_percent=19.0, on_mains=False), False, 1),
        (Conditions(battery_percent=20.0, on_mains=False), False, 0),
        (Conditions(battery_percent=3.0, on_mains=True), False, 0),
        (Conditions(battery_percent=3.0, on_mains=None), False, 0),
        (Conditions(2, 3, 5.0, False), True, 3),
    ],
)
def test_what_conditions_call_for(conditions: Conditions, unload: bool, reasons: int) -> None:
    advice = advise(conditions, battery_floor=20.0)
    assert (advice.unload_idle, len(advice.pauses)) == (unload, reasons)


def test_the_battery_does_not_matter_where_its_floor_is_nought() -> None:
    assert advise(Conditions(battery_percent=0.0, on_mains=False), battery_floor=0.0) == Advice()


@promise("mac:background:waits")
def test_background_work_waits_and_starts_as_soon_as_conditions_clear() -> None:
    async def body() -> None:
        background = begun(Time())
        background.take(HOT)
        waiting = [asyncio.create_task(background.go_ahead()) for _ in range(3)]
        background.wake()
        await settled()
        assert not any(task.done() for task in waiting)
        background.take(CALM)
        await asyncio.gather(*waiting)

    asyncio.run(body())


@promise("mac:background:waits")
def test_no_piece_waits_for_longer_than_a_minute() -> None:
    async def body() -> None:
        time = Time()
        background = begun(time)
        background.take(SCARCE)
        waiting = asyncio.create_task(background.go_ahead())
        await settled()
        time.passes(LONGEST_PAUSE_SECONDS - 1)
        background.wake()
        await settled()
        assert not waiting.done()
        time.passes(1)
        background.wake()
        await waiting

    asyncio.run(body())


def test_nobody_waits_in_a_server_that_stops() -> None:
    async def body() -> None:
        background = begun(Time())
        background.take(SCARCE)
        waiting = asyncio.create_task(background.go_ahead())
        await settled()
        background.end()
        await waiting
        await background.go_ahead()

    asyncio.run(body())


def test_who_comes_in_calm_conditions_does_not_wait() -> None:
    background = begun(Time())
    background.take(CALM)
    asyncio.run(background.go_ahead())


def test_conditions_are_read_every_two_seconds() -> None:
    time = Time()
    background = begun(time)
    assert background.is_due
    background.take(CALM)
    assert not background.is_due
    time.passes(READ_SECONDS)
    assert background.is_due


def test_the_log_says_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    background = begun(Time())
    for conditions in (CALM, HOT, HOT, CALM, CALM):
        background.take(conditions)
    paused = "background work is paused: the machine is hot (thermal pressure: heavy)"
    assert [record.message for record in caplog.records] == [paused, "background work goes on"]
