import math

import pytest

from bench.compare import compare, line, table

VALUES = {
    "levels/4k/1/rate": {"this": [110.0, 120.0, 90.0], "other": [100.0, 100.0, 100.0]},
    "levels/4k/1/first": {"this": [2.0, 2.0, 2.0], "other": [1.0, 1.0, 1.0]},
    "start/ready": {"this": [1.0], "third": [1.0]},
    "start/growth": {"this": [0.0], "other": [1.0]},
}


def test_a_ratio_above_one_is_better_whichever_way_a_figure_counts() -> None:
    rate, first = compare(VALUES, "this", "other")
    assert (rate.figure, rate.ratio, rate.is_worse) == ("levels/4k/1/rate", 1.1, False)
    assert (first.ratio, first.low, first.high, first.is_worse) == (0.5, 0.5, 0.5, True)
    assert "1 of 2 lines" in table([rate, first]) and "WORSE" in table([rate, first])


def test_a_line_is_worse_only_with_its_whole_interval() -> None:
    assert not line("x", [0.5, 0.5, 0.5, 0.5, 0.98]).is_worse
    assert line("x", [0.5, 0.5, 0.5, 0.5, 0.96]).is_worse


@pytest.mark.parametrize("rounds", range(1, 40))
def test_the_interval_holds_the_median_as_often_as_it_says_and_is_no_wider_than_it_must_be(rounds: int) -> None:
    ordered = [float(number) for number in range(1, rounds + 1)]
    found = line("x", ordered)
    skip = int(found.low) - 1
    assert found.high == rounds - skip

    def outside(count: int) -> float:
        return 2 * sum(math.comb(rounds, place) for place in range(count + 1)) * 0.5**rounds

    assert skip == 0 or outside(skip) <= 0.1
    assert outside(skip + 1) > 0.1
