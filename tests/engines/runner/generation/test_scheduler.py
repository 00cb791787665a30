from hypothesis import given
from hypothesis import strategies as st

from engines.runner.generation.scheduler import (
    PAUSE_SECONDS,
    SHORT,
    Chunk,
    KvShape,
    Waiting,
    pauses,
    plan,
    room,
    together,
)

LONGEST = 256


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8), st.integers(1, 600))
def test_prefill_keeps_its_budget_and_everybody_finishes(lengths: list[int], budget: int) -> None:
    left = dict(enumerate(lengths))
    turn = 0
    while left:
        chunks = plan([Waiting(id, tokens) for id, tokens in left.items()], budget, turn, LONGEST)
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
    chunks = plan([Waiting(1, 5000), Waiting(2, 10)], budget=64, turn=1, longest=LONGEST)
    assert (chunks[0].id, chunks[0].tokens) == (2, 10)


def test_short_prompts_are_fed_whole_or_wait() -> None:
    waiting = [Waiting(1, 100), Waiting(2, 100), Waiting(3, 40)]
    assert [(chunk.id, chunk.tokens) for chunk in plan(waiting, budget=150, turn=0, longest=LONGEST)] == [
        (1, 100),
        (3, 40),
    ]
    assert [(chunk.id, chunk.tokens) for chunk in plan(waiting, budget=64, turn=0, longest=LONGEST)] == [(1, 64)]


def test_chunks_of_like_sizes_are_fed_together_in_their_order() -> None:
    chunks = [Chunk(1, 100), Chunk(2, 30), Chunk(3, 120), Chunk(4, 90), Chunk(5, 29)]
    assert [[chunk.id for chunk in group] for group in together(chunks)] == [[2, 5], [1, 3, 4]]


def test_those_who_have_begun_wait_for_as_many_short_prompts_but_not_for_long() -> None:
    waiting = [Waiting(1, SHORT), Waiting(2, 20, num_computed=SHORT - 20), Waiting(3, 5000)]
    assert [pauses(waiting, begun, 0.0) for begun in (0, 1, 2, 3)] == [True, True, True, False]
    assert not pauses(waiting, 1, PAUSE_SECONDS)
    assert not pauses([], 0, 0.0)
    assert not pauses([Waiting(1, SHORT + 1)], 0, 0.0)
    assert [pauses([Waiting(1, 20)], begun, 0.0) for begun in (0, 1)] == [True, False]


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


@given(st.lists(st.tuples(st.integers(1, 2000), st.booleans()), min_size=1, max_size=8), st.integers(0, 1))
def test_an_interactive_prompt_is_read_before_those_in_the_background(
    prompts: list[tuple[int, bool]], turn: int
) -> None:
    waiting = [Waiting(id, tokens, background=late) for id, (tokens, late) in enumerate(prompts)]
    waiting.sort(key=lambda one: (one.background, one.id))
    late = [prompts[chunk.id][1] for chunk in plan(waiting, 600, turn, LONGEST)]
    assert late == sorted(late)
    assert not any(one.short for one in waiting if one.background)
