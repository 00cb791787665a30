"""Prefill by measured seconds, also in a model of devices where a pass costs what its weights or its tiles cost."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.models.prefill_limits import CPU, SCORE_BYTES, PrefillLimits, gpu_limits
from engines.runner.generation.scheduler import Waiting
from engines.runner.generation.token_budget import PassCost, TokenBudget

GPU = gpu_limits({"num_attention_heads": 40, "hidden_size": 5120, "head_dim": 128})
LONG, SHORT = [Waiting(1, 5000)], [Waiting(1, 5000), Waiting(2, 100)]

Cost = Callable[[int], float]


def device(weights: float, tile: float, rows: int = 32) -> Cost:
    """Seconds of a pass: reading all weights, or computing its tiles, whichever takes longer."""
    return lambda tokens: max(weights, -(-tokens // rows) * tile)


# A 14B model at 4 bits, by public figures: seconds of a decode step, of reading the weights and of a tile of 32 rows.
DEVICES = {
    "M1 Pro": (0.052, device(0.040, 0.260)),
    "M2 Max": (0.026, device(0.020, 0.100)),
    "M4 Max": (0.020, device(0.015, 0.078)),
    "neural accelerators": (0.020, device(0.015, 0.005)),
}


def prefill(budget: TokenBudget, cost: Cost, prompt: int, decode: float) -> tuple[float, float, list[int]]:
    """Read a prompt beside one stream: seconds to its end, the longest gap, and the chunks."""
    elapsed, gap, chunks = 0.0, 0.0, []
    left = prompt
    while left:
        budget.decoded(decode, 1)
        tokens = min(left, budget.tokens(True, [Waiting(1, left, prompt - left)]), budget.limits.prompt)
        seconds = cost(tokens)
        budget.prefilled(tokens, prompt - left, seconds)
        left -= tokens
        elapsed += seconds + decode
        gap = max(gap, seconds + decode)
        chunks.append(tokens)
    return elapsed, gap, chunks


@pytest.mark.parametrize("name", DEVICES)
def test_a_long_prompt_beside_a_stream_is_read_nearly_as_fast_as_by_the_best_fixed_chunk(name: str) -> None:
    decode, cost = DEVICES[name]
    budget = TokenBudget(GPU)
    budget.decoded(decode, 1)
    budget.prefilled(512, 0, cost(512))
    elapsed, gap, _ = prefill(budget, cost, 4096, decode)
    fair = [size for size in range(32, 513, 32) if size <= 64 or cost(size) <= 1.5 * decode]
    best = min(-(-4096 // size) * (cost(size) + decode) for size in fair)
    assert elapsed <= 1.3 * best
    # No longer than a stream's gaps are meant to be, or than the smallest pass that pays.
    paying = max(size for size in range(32, 513, 32) if size == 32 or cost(size) <= 2 * cost(1))
    assert gap <= decode + max(1.5 * decode, 2 * cost(paying))


@given(st.floats(0.001, 0.5), st.floats(0.00001, 0.01), st.floats(1.0, 3.0), st.integers(CPU.smallest, 512))
def test_prefill_never_settles_below_the_size_where_a_pass_pays(
    fixed: float, per_token: float, step: float, first: int
) -> None:
    """A decode step reads the weights as a pass does, so it takes as long as an empty one, or longer."""

    def cost(tokens: int) -> float:
        return fixed + per_token * tokens

    decode = step * cost(1)
    budget = TokenBudget(CPU)
    budget.decoded(decode, 1)
    budget.prefilled(first, 0, cost(first))
    _, _, chunks = prefill(budget, cost, 20_000, decode)
    settled = sorted(chunks[len(chunks) // 2 : -1])
    assert not settled or settled[len(settled) // 2] >= min(fixed / per_token, CPU.prompt) * 0.9 - 1


@given(st.floats(0.01, 0.3), st.floats(0.0001, 0.01), st.integers(8, 64))
def test_where_small_passes_cost_the_same_prefill_grows_out_of_them(
    weights: float, per_token: float, first: int
) -> None:
    """The trap of a speed in tokens a second: a small pass looks slow, which made the next one smaller still."""

    def cost(tokens: int) -> float:
        return max(weights, per_token * tokens)

    budget = TokenBudget(CPU)
    budget.decoded(weights, 1)
    budget.prefilled(first, 0, cost(first))
    budget.prefilled(first // 2, first, cost(first // 2))
    _, _, chunks = prefill(budget, cost, 20_000, weights)
    settled = sorted(chunks[len(chunks) // 2 : -1])
    assert not settled or settled[len(settled) // 2] >= 0.7 * min(weights / per_token, CPU.prompt)


@given(st.floats(0.005, 0.1), st.floats(0.0002, 0.005), st.floats(0.0, 0.002))
def test_deep_in_a_prompt_gaps_stay_within_thrice_a_step(fixed: float, per_token: float, growth: float) -> None:
    """Attention makes both terms of a pass grow with the positions before it; the stream beside it stays short."""
    budget = TokenBudget(CPU)
    budget.decoded(fixed, 1)
    budget.prefilled(128, 0, fixed + per_token * 128)
    begin, before = 0, 128
    while begin < 4000:
        budget.decoded(fixed, 1)
        tokens = budget.tokens(True, [Waiting(1, 4000 - begin, begin)])
        seconds = (fixed + per_token * tokens) * (1 + growth * begin)
        smallest = (fixed + per_token * CPU.smallest) * (1 + growth * begin)
        lag = 1 + 3 * growth * before  # the cost that is known is of earlier positions
        assert seconds <= max(1.1 * 2 * fixed * lag, smallest) + 1e-9
        budget.prefilled(tokens, begin, seconds)
        begin, before = begin + tokens, tokens


def test_a_step_that_took_far_too_long_counts_as_twice_what_was_known() -> None:
    calm, struck = PassCost(), PassCost()
    for cost in (calm, struck):
        cost.decoded(0.01, 1)
        cost.prefilled(100, 0, 0.1)
    calm.decoded(0.02, 1)
    struck.decoded(5.0, 1)
    assert struck.decode_seconds == calm.decode_seconds == 0.015
    calm.prefilled(100, 1000, 2 * 100 * 0.001)
    struck.prefilled(100, 1000, 9.0)
    assert struck.per_token == pytest.approx(calm.per_token, rel=0.1)


def test_the_budget_follows_the_measured_speeds_while_rows_decode() -> None:
    budget = TokenBudget()
    assert (budget.tokens(False, LONG), budget.tokens(True, LONG)) == (CPU.usual, CPU.smallest)
    budget.decoded(0.02, 1)
    budget.prefilled(401, 0, 0.42)  # 0.019 s of reading, 0.001 s a token
    assert budget.tokens(True, LONG) == pytest.approx(20, abs=2)
    assert budget.tokens(True, SHORT) == pytest.approx(181, abs=2)
    for _ in range(9):
        budget.decoded(0.1, 16)
    assert budget.tokens(True, LONG) == pytest.approx(131, abs=2)


def test_on_a_gpu_passes_are_multiples_of_32_and_no_smaller() -> None:
    budget = TokenBudget(GPU)
    budget.prefilled(512, 0, 4.0)
    budget.decoded(0.01, 1)
    assert budget.tokens(True, LONG) == 32
    budget.decoded(1.4, 1)
    assert budget.tokens(True, LONG) % 32 == 0


def test_alone_on_a_gpu_passes_grow_while_they_take_less_than_half_a_second() -> None:
    quick, slow = TokenBudget(GPU), TokenBudget(GPU)
    sizes = []
    for _ in range(4):
        sizes.append(quick.tokens(False, LONG))
        quick.prefilled(sizes[-1], 0, 0.02 + sizes[-1] * 0.0001)
        slow.prefilled(512, 0, 1.5)
    assert sizes == [512, 1024, 2048, 2048]
    assert slow.tokens(False, LONG) == 512


def test_on_a_processor_passes_stay_as_they_were_measured_best() -> None:
    budget = TokenBudget()
    budget.prefilled(512, 0, 0.01)
    assert budget.tokens(False, LONG) == 512


def test_scores_that_no_kernel_fuses_bound_a_pass() -> None:
    gemma = gpu_limits({"num_attention_heads": 16, "hidden_size": 3840, "head_dim": 256})
    assert gemma.score_bytes == 32
    budget = TokenBudget(gemma)
    deep = [Waiting(1, 2048, begin=30_000)]
    tokens = budget.tokens(False, deep)
    assert tokens * 32_048 * 32 <= SCORE_BYTES
    assert 0 < tokens < 512
    assert budget.tokens(False, [Waiting(1, 512)]) == 512


@pytest.mark.parametrize(
    ("config", "scores"),
    [
        ({"num_attention_heads": 40, "hidden_size": 5120}, 0),
        ({"num_attention_heads": 8, "hidden_size": 2048}, 16),
        ({}, 0),
    ],
)
def test_whether_attention_is_fused_follows_from_the_head_size(config: dict[str, int], scores: int) -> None:
    assert gpu_limits(config).score_bytes == scores


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 512), st.floats(1e-6, 5.0)), min_size=1, max_size=30))
def test_a_pass_never_costs_less_than_nothing(steps: list[tuple[bool, int, float]]) -> None:
    cost = PassCost()
    for decoded, tokens, seconds in steps:
        cost.decoded(seconds, tokens) if decoded else cost.prefilled(tokens, 0, seconds)
        assert cost.paying >= 0
        assert cost.per_token >= 0


@given(
    st.floats(0.1, 32.0),
    st.floats(0.0001, 0.01),
    st.integers(1, 16),
    st.lists(st.integers(33, 512), min_size=8, max_size=12),
)
def test_what_is_linear_is_found_by_passes_that_pay(
    paying: float, per_token: float, rows: int, sizes: list[int]
) -> None:
    fixed = paying * per_token
    cost = PassCost()
    cost.decoded(fixed + per_token * rows, rows)
    for size in sizes:
        cost.prefilled(size, 0, fixed + per_token * size)
    predicted = cost.per_token * (cost.paying + 512)
    assert predicted == pytest.approx(fixed + per_token * 512, rel=0.1)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 512), st.floats(1e-4, 3.0)), max_size=20), st.booleans())
def test_a_pass_keeps_the_limits_of_its_device(events: list[tuple[bool, int, float]], decoding: bool) -> None:
    for limits in (CPU, GPU, PrefillLimits(multiple=16, smallest=16)):
        budget = TokenBudget(limits)
        for decoded, tokens, seconds in events:
            budget.decoded(seconds, 1) if decoded else budget.prefilled(tokens, 0, seconds)
        found = budget.tokens(decoding, LONG)
        assert limits.smallest <= found <= limits.most
        assert found % limits.multiple == 0
