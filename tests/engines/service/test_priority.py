"""How runners share the device."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.ipc.runner_protocol import ShareDevice
from engines.service.priority import Rank, rank, sharing
from engines.types.common import Priority

ALONE, IN_TURN, YIELDING = ShareDevice(False), ShareDevice(True), ShareDevice(True, yields=True)
STREAM, LONG_STEPS, BACKGROUND = Rank


@pytest.mark.parametrize(
    ("priorities", "has_long_steps", "expected"),
    [
        ({"interactive"}, False, STREAM),
        ({"interactive"}, True, LONG_STEPS),
        ({"interactive", "background"}, False, STREAM),
        ({"background"}, False, BACKGROUND),
        ({"background"}, True, BACKGROUND),
        (set(), True, None),
    ],
)
def test_a_runner_has_the_rank_of_its_first_request(
    priorities: set[Priority], has_long_steps: bool, expected: Rank | None
) -> None:
    assert rank(priorities, has_long_steps) == expected


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ({"chat": STREAM}, {"chat": ALONE}),
        ({"chat": STREAM, "another": STREAM}, {"chat": IN_TURN, "another": IN_TURN}),
        ({"chat": STREAM, "speech": LONG_STEPS}, {"chat": IN_TURN, "speech": YIELDING}),
        ({"chat": STREAM, "recording": BACKGROUND}, {"chat": IN_TURN, "recording": YIELDING}),
        ({"speech": LONG_STEPS, "recording": BACKGROUND}, {"speech": IN_TURN, "recording": YIELDING}),
        ({"flex chat": BACKGROUND, "recording": LONG_STEPS}, {"flex chat": YIELDING, "recording": IN_TURN}),
        ({"recording": BACKGROUND, "another": BACKGROUND}, {"recording": ALONE, "another": ALONE}),
    ],
)
def test_runners_compute_in_turns_and_yield_to_those_of_the_first_rank(
    ranks: Mapping[str, Rank], expected: Mapping[str, ShareDevice]
) -> None:
    assert {key: sharing(ranks, key) for key in ranks} == expected


@given(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(Rank), min_size=1))
def test_somebody_never_yields(ranks: dict[str, Rank]) -> None:
    found = [sharing(ranks, key) for key in ranks]
    assert not all(one.yields for one in found)
    assert sharing(ranks, "an idle one") == ALONE
