from engines.host.clock import AwakeClock


def clock(*times: float, longest_tick: float = 2.0) -> AwakeClock:
    readings = iter(times)
    return AwakeClock(lambda: next(readings), longest_tick)


def test_time_begins_at_zero_and_moves_only_with_a_tick() -> None:
    it = clock(1000.0, 1000.5)
    assert it.now == 0.0
    assert (it.tick(), it.now) == (0.5, 0.5)


def test_time_during_which_the_process_was_stopped_does_not_count() -> None:
    it = clock(0.0, 0.25, 60.25, 60.5)
    assert [it.tick(), it.tick(), it.tick()] == [0.25, 2.25, 2.5]


def test_the_longest_tick_is_the_caller_s_choice() -> None:
    it = clock(0.0, 60.0, longest_tick=5.0)
    assert it.tick() == 5.0


def test_a_clock_that_steps_back_costs_nothing() -> None:
    it = clock(10.0, 9.0, 9.5)
    assert [it.tick(), it.tick()] == [0.0, 0.5]
