"""Which runners take turns, and which of them yield."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.service.priority import Share, shares
from engines.types.common import Priority

PAYS, YIELDS, ALONE = Share(in_turns=True), Share(in_turns=True, yields=True), Share()
NOW: Priority = "interactive"
LATER: Priority = "background"


@pytest.mark.parametrize(
    ("at_work", "shared"),
    [
        ({"chat": {NOW}, "whisper": {LATER}}, {"chat": PAYS, "whisper": YIELDS}),
        ({"chat": {NOW}, "speech": {NOW}, "whisper": {LATER}}, {"chat": PAYS, "speech": PAYS, "whisper": YIELDS}),
        ({"chat": {NOW}, "speech": {NOW}}, {"chat": PAYS, "speech": PAYS}),
        ({"chat": {LATER}, "whisper": {NOW}}, {"chat": YIELDS, "whisper": PAYS}),
        ({"chat": {NOW, LATER}, "whisper": {LATER, NOW}}, {"chat": PAYS, "whisper": PAYS}),
        ({"chat": {LATER}, "whisper": {LATER}}, {"chat": ALONE, "whisper": ALONE}),
        ({"chat": {NOW}, "whisper": set()}, {"chat": ALONE}),
        ({}, {}),
    ],
)
def test_interactive_work_takes_turns_with_all_other_and_background_work_yields_to_it(
    at_work: Mapping[str, set[Priority]], shared: Mapping[str, Share]
) -> None:
    assert shares(at_work) == shared


@given(st.dictionaries(st.integers().map(str), st.frozensets(st.sampled_from([NOW, LATER])), max_size=5))
def test_nobody_yields_where_no_interactive_work_is_and_turns_are_for_all_or_none(
    at_work: Mapping[str, frozenset[Priority]],
) -> None:
    shared = shares(at_work)
    assert len({one.in_turns for one in shared.values()}) <= 1
    for model, one in shared.items():
        assert not (one.yields and NOW in at_work[model])
        assert not one.yields or any(NOW in priorities for priorities in at_work.values())
