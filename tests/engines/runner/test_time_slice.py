"""How much is computed until others may go on."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from engines.runner.device_lock import DeviceLock
from engines.runner.time_slice import SlicedLayer, TimeSlice, units_within


class Scripted(DeviceLock):
    """Time as the test says: a unit takes `seconds`, and so much is `time` till others are to go on."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.share(True, yields=True)
        self.time = 0.0
        self.took = 0.0
        self.pauses = 0

    def left(self) -> float:
        return self.time

    def pause(self) -> float:
        self.pauses += 1
        return self.took


@pytest.mark.parametrize(
    ("left", "seconds", "most", "units"),
    [
        (1.0, None, 9, 1),
        (0.0, 0.1, 9, 1),
        (0.25, 0.1, 9, 3),
        (5.0, 0.1, 9, 9),
        (0.05, 0.1, 9, 1),
        (1.0, 0.0, 9, 9),
    ],
)
def test_as_many_units_as_begin_in_time(left: float, seconds: float | None, most: int, units: int) -> None:
    assert units_within(left, seconds, most) == units


def test_a_size_follows_what_the_same_kind_took_before() -> None:
    lock = Scripted()
    pace = TimeSlice(lock)
    assert pace.size("fed", 8) == 1
    lock.took, lock.time = 0.004, 0.01
    pace.reached("fed", 2, mx.zeros(1))
    assert pace.size("fed", 8) == 5 and pace.size("heard", 8) == 1
    lock.took = 0.02
    pace.reached("fed", 2, mx.zeros(1))
    assert pace.size("fed", 8) == 1


def test_a_pause_before_the_first_turn_tells_nothing_of_how_long_a_unit_takes() -> None:
    lock = Scripted()
    pace = TimeSlice(lock)
    pace.reached("fed", 2, mx.zeros(1))
    assert lock.took == 0.0 and pace.size("fed", 8) == 1


def test_where_no_turns_are_taken_all_is_done_at_once() -> None:
    lock = Scripted()
    lock.shared = False
    for pace in (TimeSlice(None), TimeSlice(lock)):
        assert pace.size("fed", 8) == 8
        pace.reached("fed", 8, mx.zeros(1))
        pace.passed(0, mx.zeros((1, 1, 1)))
    assert lock.pauses == 0


def test_layers_are_computed_as_many_at_a_time_as_there_is_time_for() -> None:
    lock = Scripted()
    pace = TimeSlice(lock)
    layers = [SlicedLayer(nn.Identity(), number, pace) for number in range(6)]  # type: ignore[attr-defined]

    def pauses(tokens: int) -> int:
        before, hidden = lock.pauses, mx.zeros((1, tokens, 4))
        for layer in layers:
            hidden = layer(hidden)
        return lock.pauses - before

    lock.took, lock.time = 0.002, 0.0
    assert pauses(1) == 6
    lock.time, lock.took = 0.006, 0.006
    assert pauses(1) == 2
    lock.took = 0.001
    assert pauses(64) == 1  # the first layer tells how long one takes
    lock.time = 1.0
    assert pauses(1) == 0  # the step's own end computes them
