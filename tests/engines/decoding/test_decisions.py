import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.decoding.sampling import Choices, Draw, choose
from engines.decoding.schedule import LARGEST, SMALLEST, KvShape, TokenBudget, Waiting, plan, room


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8), st.integers(1, 600))
def test_prefill_keeps_its_budget_and_everybody_finishes(lengths: list[int], budget: int) -> None:
    left = dict(enumerate(lengths))
    turn = 0
    while left:
        chunks = plan([Waiting(id, tokens) for id, tokens in left.items()], budget, turn)
        assert 0 < sum(chunk.tokens for chunk in chunks) <= budget
        if turn % 2 == 0:
            assert chunks[0].id == min(left)
        for chunk in chunks:
            left[chunk.id] -= chunk.tokens
            if not left[chunk.id]:
                del left[chunk.id]
        turn += 1
    assert turn <= sum(lengths)


def test_a_short_prompt_is_not_stuck_behind_a_long_one() -> None:
    chunks = plan([Waiting(1, 5000), Waiting(2, 10)], budget=64, turn=1)
    assert (chunks[0].id, chunks[0].tokens) == (2, 10)


SHAPE = KvShape(((10, 0), (10, 32)))


def test_a_window_bounds_what_its_layer_keeps() -> None:
    assert SHAPE.bytes(2, 100) == 2 * (100 * 10 + 32 * 10)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(0, 200_000))
def test_those_with_room_fit_together_and_the_first_always_has_it(positions: list[int], budget: int) -> None:
    found = room(positions, SHAPE, budget)
    assert 1 <= found.begin <= found.keep <= len(positions)
    if found.keep > 1:
        assert SHAPE.bytes(found.keep, max(positions[: found.keep]) + 1) <= budget


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(0, 200_000), st.integers(1, 256))
def test_who_begins_is_not_preempted_within_256_tokens(positions: list[int], budget: int, more: int) -> None:
    begun = positions[: room(positions, SHAPE, budget).begin]
    assert room([held + more - 1 for held in begun], SHAPE, budget).keep == len(begun)


def test_the_budget_follows_the_measured_speed_while_rows_decode() -> None:
    budget = TokenBudget()
    assert (budget.tokens(decoding=False), budget.tokens(decoding=True)) == (LARGEST, SMALLEST)
    budget.measured(400, 0.1)
    assert budget.tokens(decoding=True) == 200


def test_the_nucleus_holds_the_likeliest_tokens_and_no_other() -> None:
    logits = np.log(np.array([0.05, 0.5, 0.3, 0.15], dtype=np.float32))
    chosen = {choose(logits, Draw(1.0, 0.75, 7, position)) for position in range(300)}
    assert chosen == {1, 2}


def test_a_nucleus_wider_than_the_first_candidates_is_exact() -> None:
    logits = np.zeros(2000, dtype=np.float32)
    chosen = {choose(logits, Draw(1.0, 0.9, 3, position)) for position in range(2000)}
    assert 700 < len(chosen) <= 1800


def test_draws_follow_the_probabilities_after_the_temperature() -> None:
    logits = np.array([0.0, 1.0], dtype=np.float32)
    share = np.mean([choose(logits, Draw(0.5, 1.0, 11, position)) for position in range(4000)])
    assert abs(share - 1 / (1 + np.exp(-2))) < 0.03


def test_a_rows_choice_depends_on_its_seed_and_position_alone() -> None:
    logits = mx.random.normal((3, 50), key=mx.random.key(1))
    draw = Draw(1.0, 0.95, 42, 5)
    assert Choices(logits[1:2], None).token(0, draw) == Choices(logits, None).token(1, draw)


def test_ids_without_a_token_are_never_chosen() -> None:
    logits = mx.array([[0.0, 9.0, 1.0], [0.0, 9.0, 1.0]])
    valid = mx.array([0.0, -float("inf"), 0.0])
    draws = [Draw(0.0, 1.0, 0, 0), Draw(1.0, 1.0, 1, 0)]
    choices = Choices(logits, valid)
    assert 1 not in [choices.token(row, draw) for row, draw in enumerate(draws)]


def test_a_temperature_near_zero_is_greedy() -> None:
    logits = np.array([0.0, 5.0, 1.0], dtype=np.float32)
    assert {choose(logits, Draw(1e-300, 1.0, 3, position)) for position in range(20)} == {1}


def test_logits_that_are_no_numbers_are_an_error_not_a_token() -> None:
    with pytest.raises(ValueError):
        choose(np.array([0.0, np.nan], dtype=np.float32), Draw(1.0, 1.0, 3, 0))
