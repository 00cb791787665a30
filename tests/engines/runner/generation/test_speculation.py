from hypothesis import given
from hypothesis import strategies as st

from engines.runner.generation.speculation import GRAM, LONGEST, LONGEST_REST, Lookup

TEXT = [5, 6, 7, 8, 9, 10, 11, 12]


def test_what_followed_the_same_tokens_before_is_proposed() -> None:
    assert Lookup().propose([*TEXT, 99, 5, 6, 7], 16) == (8, 9, 10, 11)


def test_no_more_is_proposed_than_may_be() -> None:
    assert Lookup().propose([*TEXT, 99, 5, 6, 7], 2) == (8, 9)


def test_the_newest_place_counts() -> None:
    assert Lookup().propose([5, 6, 7, 1, 5, 6, 7, 2, 3, 4, 5, 6, 7], 1) == (2,)


def test_nothing_is_proposed_where_nothing_was_the_same() -> None:
    assert Lookup().propose(TEXT, 16) == ()
    assert Lookup().propose([5, 6], 16) == ()


def test_what_holds_whole_grows_to_a_limit() -> None:
    lookup, tokens, lengths = Lookup(), TEXT * 20, []
    for _ in range(4):
        lengths.append(len(lookup.propose(tokens, 100)))
        lookup.tried(lengths[-1], lengths[-1], 0.1, len(tokens))
    # Behind the newest place where they stood there are as many tokens as one round has.
    assert lengths == [4, 8, 8, 8] and LONGEST == 16


def test_what_fails_rests_twice_as_long_each_time_and_a_success_ends_that() -> None:
    lookup, tokens, rests = Lookup(), list(TEXT * 2), []
    for _ in range(4):
        lookup.tried(4, 0, 0.1, len(tokens))
        waited = 0
        while not lookup.propose(tokens, 16):
            tokens.append(TEXT[len(tokens) % len(TEXT)])
            waited += 1
        rests.append(waited)
    assert rests == [1, 2, 4, 8]
    lookup.tried(4, 4, 0.1, len(tokens))
    lookup.tried(4, 0, 0.1, len(tokens))
    assert not lookup.propose(tokens, 16)
    assert lookup.propose([*tokens, TEXT[len(tokens) % len(TEXT)]], 16)


def test_what_holds_but_saves_no_time_rests_too() -> None:
    lookup, tokens = Lookup(), list(TEXT * 2)
    lookup.tried(4, 4, -0.1, len(tokens))
    assert not lookup.propose(tokens, 16)


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(1, 20))
def test_a_proposal_is_a_stretch_of_the_sequence_behind_the_tokens_that_it_ends_with(
    tokens: list[int], most: int
) -> None:
    lookup = Lookup()
    for length in range(len(tokens) + 1):
        so_far = tokens[:length]
        proposal = lookup.propose(so_far, most)
        places = [
            end
            for end in range(GRAM, length)
            if so_far[end - GRAM : end] == so_far[-GRAM:] and tuple(so_far[end : end + len(proposal)]) == proposal
        ]
        assert bool(proposal) == bool(places) and len(proposal) <= most


@given(st.lists(st.tuples(st.integers(0, 16), st.floats(-1, 1)), max_size=60))
def test_a_rest_has_an_end(outcomes: list[tuple[int, float]]) -> None:
    lookup, tokens = Lookup(), list(TEXT * 2)
    for held, saved in outcomes:
        lookup.tried(16, held, saved, len(tokens))
    assert lookup.propose(tokens + TEXT * (LONGEST_REST // len(TEXT)), 16)
