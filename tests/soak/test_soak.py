"""What the soak makes of its times."""

from tests.soak.soak import share, slow_after_kills


def test_a_share_of_times_is_the_time_within_which_it_lies() -> None:
    times = [float(number) for number in range(1, 101)]
    assert (share(times, 0.5), share(times, 0.95), share([3.0], 0.95), share([], 0.95)) == (50.0, 95.0, 3.0, 0.0)


def test_slow_answers_after_kills_are_a_fault_only_where_others_are_quick() -> None:
    assert slow_after_kills([1.4] * 19 + [9.0], [0.3]) == []
    assert slow_after_kills([6.0] * 20, [0.3]) == ["good answers came 6.0 s after kills"]
    assert slow_after_kills([6.0] * 20, [3.0]) == []
