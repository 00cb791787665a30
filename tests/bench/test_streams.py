"""Figures follow from moments; a stream that did something else than asked is an error."""

import pytest

from bench.parts.arrival import largest_gap_after
from bench.parts.prefix import worst_ratio
from bench.streams import Ask, BenchFailed, Run, Stream, check, percentile
from engines.types.chat import Message


def stream(submitted: float, *arrivals: float) -> Stream:
    return Stream(submitted, arrivals, prompt_tokens=4, tokens=len(arrivals))


ASK = Ask((Message("user", " ab"),), (1, 2, 3, 4), max_tokens=3)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([7.0], 0.01) == 7.0


def test_a_rate_is_counted_from_the_first_submit_to_the_last_token() -> None:
    run = Run((stream(10.0, 11.0, 12.0), stream(10.5, 13.0, 14.0)), cpu_seconds=2.0)
    assert run.rate == 4 / 4.0
    assert run.cpu_per_token == 0.5


def test_the_first_token_of_a_run_is_the_median_of_its_streams() -> None:
    run = Run((stream(0.0, 1.0), stream(0.0, 2.0), stream(0.0, 9.0)), cpu_seconds=0.0)
    assert run.first == 2.0


def test_a_step_counts_tokens_that_came_together() -> None:
    one = stream(0.0, 1.0, 1.0, 1.0, 2.5)
    assert one.step == 0.5
    assert one.gaps == [0.0, 0.0, 1.5]


def test_what_was_asked_for_passes() -> None:
    check([ASK], [Stream(0.0, (1.0, 2.0, 3.0), prompt_tokens=4, tokens=3)], "one")


@pytest.mark.parametrize(
    "wrong",
    [
        Stream(0.0, (1.0, 2.0), prompt_tokens=4, tokens=2),
        Stream(0.0, (1.0, 2.0, 3.0), prompt_tokens=5, tokens=3),
        Stream(0.0, (), prompt_tokens=4, tokens=3),
    ],
)
def test_an_answer_of_another_length_fails_loudly(wrong: Stream) -> None:
    with pytest.raises(BenchFailed, match="one"):
        check([ASK], [wrong], "one")


def test_the_largest_gap_is_looked_for_after_the_arrival_alone() -> None:
    run = Run((stream(0.0, 1.0, 5.0, 6.0, 8.0), stream(5.5, 9.0)), cpu_seconds=0.0)
    assert largest_gap_after(run) == 2.0


def test_a_conversation_is_judged_by_its_worst_stretch() -> None:
    base = [1.0] * 10
    assert worst_ratio([1.0] * 8 + [3.0, 3.0], base) == 3.0
    assert worst_ratio([1.0] * 7 + [3.0] + [1.0] * 2, base) == 2.0  # in a stretch of two turns
