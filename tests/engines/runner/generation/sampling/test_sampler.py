from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engines.runner.generation.sampling.penalties import Penalties
from engines.runner.generation.sampling.sampler import Choice, Choices, Draw, choose
from engines.types.chat import Sampling
from tests.promises import promise

Logits = npt.NDArray[np.float32]

# No two are so near to each other that their likelihoods are one in float32.
steps = st.integers(-20 << 10, 20 << 10)
any_logits = arrays(np.int32, st.integers(2, 40), elements=steps, unique=True).map(lambda n: np.float32(n) / 1024)


def draw(position: int = 0, **sampling: float) -> Draw:
    return Draw(Sampling(**sampling), 7, position)  # type: ignore[arg-type]


def drawn(logits: Logits, draws: int = 300, **sampling: float) -> list[int]:
    return [choose(logits, draw(position, **sampling)).token for position in range(draws)]


def candidates(logits: Logits, temperature: float, top_k: int, min_p: float, top_p: float) -> set[int]:
    """Who may be drawn, by the plain definition: a full sort, one rule after the other.

    In float64; who stands on the edge of a rule by less than float32 can tell counts as in.
    """
    edge = 1 + 1e-5
    probability = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    order = np.argsort(-probability, kind="stable")[: top_k or None]
    order = order[probability[order] * edge >= min_p * probability.max()]
    before = np.cumsum(probability[order]) - probability[order]
    return set(order[before <= top_p * probability[order].sum() * edge].tolist())


@promise("chat:sampling:rules")
@given(
    any_logits,
    st.sampled_from([0.3, 1.0, 1.7]),
    st.sampled_from([0, 1, 3, 1000]),
    st.sampled_from([0.0, 0.1, 0.9]),
    st.sampled_from([0.2, 0.8, 1.0]),
    st.integers(0, 1000),
)
def test_only_candidates_of_the_plain_definition_are_drawn(
    logits: Logits, temperature: float, top_k: int, min_p: float, top_p: float, position: int
) -> None:
    chosen = choose(logits, draw(position, temperature=temperature, top_k=top_k, min_p=min_p, top_p=top_p)).token
    assert chosen in candidates(logits, temperature, top_k, min_p, top_p)


def test_every_candidate_is_drawn_as_often_as_it_is_likely() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.07, 0.03], np.float32))
    share = np.bincount(drawn(logits, 6000, top_p=0.85), minlength=5) / 6000
    assert np.abs(share - np.array([4, 3, 2, 0, 0]) / 9).max() < 0.03


@promise("chat:sampling:rules")
def test_the_temperature_is_applied_before_top_p() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    assert set(drawn(logits, temperature=0.2, top_p=0.9)) == {0}
    assert set(drawn(logits, temperature=2.0, top_p=0.9)) == {0, 1, 2}


def test_a_nucleus_wider_than_the_first_candidates_is_found() -> None:
    logits = np.zeros(5000, np.float32)
    assert len(set(drawn(logits, 2000, top_p=0.9))) > 1000


def test_a_tiny_temperature_is_greedy_and_no_overflow() -> None:
    assert set(drawn(np.array([0.0, 1.0, 0.5], np.float32), 20, temperature=1e-300)) == {1}


def test_logits_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        choose(np.array([0.0, np.nan], np.float32), draw())


def test_a_row_draws_the_same_whoever_stands_beside_it() -> None:
    logits = mx.random.normal((3, 400), key=mx.random.key(1))
    one = draw(5, top_p=0.95)
    assert Choices(logits[1:2], None).choose(0, one) == Choices(logits, None).choose(1, one)


def test_choices_of_one_request_differ_and_each_repeats() -> None:
    logits = np.zeros(50, np.float32)

    def text(choice: int) -> list[int]:
        sampling = Sampling(choice=choice)
        return [choose(logits, Draw(sampling, 3, position)).token for position in range(20)]

    assert text(0) == text(0) and len({tuple(text(choice)) for choice in range(4)}) == 4


def test_ids_without_a_token_are_never_chosen() -> None:
    logits = mx.array([[0.0, 1.0, 9.0], [0.0, 1.0, 9.0]])
    valid = mx.array([0.0, 0.0, -float("inf")])
    choices = Choices(logits, valid)
    assert choices.choose(0, draw(temperature=0.0)).token == 1
    assert choices.choose(1, draw()).token in (0, 1)


# -- logprobs -------------------------------------------------------------------------------------------------------


@promise("chat:logprobs")
@given(any_logits, st.integers(0, 20))
def test_logprobs_are_those_of_a_plain_softmax(logits: Logits, top: int) -> None:
    top = min(top, len(logits))
    got = choose(logits, draw(temperature=0.0, logprobs=top))
    reference = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert got.token == logits.argmax() and got.logprob == pytest.approx(reference[got.token], abs=1e-4)
    assert [logprob for _, logprob in got.top] == pytest.approx([reference[id] for id, _ in got.top], abs=1e-4)
    assert [logprob for _, logprob in got.top] == pytest.approx(sorted(reference, reverse=True)[:top], abs=1e-4)


def test_the_logprob_of_a_greedy_token_alone_is_the_same_for_every_row_of_a_batch() -> None:
    logits = np.random.default_rng(7).standard_normal((3, 50), np.float32) * 4
    valid = np.where(np.arange(50) < 45, 0.0, -np.inf).astype(np.float32)
    choices = Choices(mx.array(logits), mx.array(valid))
    for row in (2, 0, 1):
        expected = choose(logits[row] + valid, draw(temperature=0.0, logprobs=1))
        got = choices.choose(row, draw(temperature=0.0, logprobs=0))
        assert got.token == expected.token and got.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert choices.choose(row, draw(temperature=0.0)) == Choice(expected.token)


def test_logprobs_are_the_models_own_before_penalties_and_masks() -> None:
    logits = np.array([2.0, 1.0, 0.0], np.float32)
    plain = choose(logits, draw(temperature=0.0, logprobs=3))
    sampling = Sampling(temperature=0.0, logprobs=3, logit_bias=((0, -100.0),))
    biased = choose(logits, Draw(sampling, 0, 0, Penalties.of(sampling, ())))
    assert biased.token == 1 and biased.top == plain.top
    assert biased.logprob == dict(plain.top)[1]


# -- penalties ------------------------------------------------------------------------------------------------------


def reference(logits: Logits, prompt: Sequence[int], answer: Sequence[int], sampling: Sampling) -> list[float]:
    """Penalties by their definitions, one token at a time."""
    changed = []
    for id, logit in enumerate(map(float, logits)):
        if id in (*prompt, *answer):
            repeat = sampling.repetition_penalty
            logit = logit / repeat if logit > 0 else logit * repeat
        count = list(answer).count(id)
        logit -= sampling.presence_penalty * (count > 0) + sampling.frequency_penalty * count
        changed.append(logit + dict(sampling.logit_bias).get(id, 0.0))
    return changed


ids = st.lists(st.integers(0, 9), max_size=30)


@promise("chat:sampling:penalties")
@given(
    arrays(np.float32, 10, elements=st.floats(-9, 9, width=32)), ids, ids, st.sampled_from([0.0, 0.5, -1.0]),
    st.sampled_from([0.0, 0.25]), st.sampled_from([1.0, 1.3, 0.8]), st.dictionaries(st.integers(0, 9), st.just(2.5)),
)  # fmt: skip
def test_penalties_are_those_of_their_definitions(
    logits: Logits,
    prompt: list[int],
    answer: list[int],
    presence: float,
    frequency: float,
    repetition: float,
    bias: dict[int, float],
) -> None:
    sampling = Sampling(
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        logit_bias=tuple(bias.items()),
    )
    before = logits.copy()
    penalties = Penalties(sampling, prompt)
    for id in answer:
        penalties.count(id)
    assert penalties.applied(logits).tolist() == pytest.approx(reference(logits, prompt, answer, sampling), abs=1e-4)
    assert np.array_equal(logits, before)


def test_where_nothing_is_asked_nothing_is_applied() -> None:
    assert Penalties.of(Sampling(), (1, 2)) is None
    assert choose(np.array([0.0, 1.0], np.float32), draw(temperature=0.0)) == Choice(1)
