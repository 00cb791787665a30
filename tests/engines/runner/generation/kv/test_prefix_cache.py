"""The prefix cache at work: the same text with it and without it, and little that is computed twice."""

import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from demo.checkpoints import make_gemma3, make_qwen3
from engines.ipc import job, runner_protocol
from engines.models.prefill_limits import gpu_limits
from engines.runner.generation import model as models
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.blocks import BLOCK
from engines.runner.generation.kv.prefix_cache import PrefixCache
from engines.runner.generation.prompt import Prompt
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.chat import Sampling
from engines.types.common import Usage
from tests.promises import promise

GREEDY = Sampling(temperature=0.0)
ROOM = 1 << 30
Tokens = tuple[int, ...]


class Bench:
    """One loaded checkpoint, and engines over it."""

    def __init__(self, folder: Path) -> None:
        self.model = models.load(folder)
        self.model.eos = frozenset()
        self.table = TokenTable.read(folder)

    def engine(self, room: int = ROOM) -> DecodingEngine:
        return DecodingEngine(self.model, self.table, room)

    def fresh(self, ids: Tokens, tokens: int) -> Tokens:
        """What an engine without any past answers."""
        return ask(self.engine(), ids, tokens)[0]


@pytest.fixture(scope="module", params=[make_qwen3, make_gemma3], ids=["qwen3", "gemma3"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("checkpoint")
    request.param(folder)
    return Bench(folder)


def text(seed: int, length: int) -> Tokens:
    """Tokens that stand for some text."""
    generator = random.Random(seed)
    return tuple(generator.randrange(300, 900) for _ in range(length))


def ask(engine: DecodingEngine, ids: Tokens, tokens: int = 12) -> tuple[Tokens, Usage]:
    """An answer alone on the engine, and its usage."""
    engine.submit(1, Prompt(ids, tokens, GREEDY), 10_000)
    sequence = engine._prefill.waiting[0]
    while not engine.idle:
        reports = engine.step()
        assert not any(isinstance(report, job.Failed) for report in reports)
        ended = [report.end.usage for report in reports if isinstance(report, runner_protocol.Finished)]
    return tuple(sequence.tokens[len(ids) :]), ended[0]


@promise("chat:prefix:same")
def test_a_long_conversation_says_the_same_as_without_a_cache_and_prefills_its_new_turns_alone(bench: Bench) -> None:
    engine = bench.engine()
    history = text(0, 40)
    for turn in range(12):
        history += text(turn + 1, 23)
        answer, usage = ask(engine, history)
        assert answer == bench.fresh(history, 12)
        if turn:
            assert usage.prompt_tokens - usage.cached_tokens <= 23 + 2 * BLOCK
        history += answer


def test_a_thought_that_is_dropped_from_the_history_costs_no_more_than_itself(bench: Bench) -> None:
    engine = bench.engine()
    history = text(0, 90)
    for turn in range(6):
        question = text(turn + 1, 20)
        answer, usage = ask(engine, history + question, 40)
        assert answer == bench.fresh(history + question, 40)
        assert usage.cached_tokens >= (len(history) - 10 - BLOCK if turn else 0)
        history += question + answer[-10:]  # the first thirty were the thought


@promise("chat:prefix:branches")
def test_a_conversation_goes_on_from_any_earlier_turn(bench: Bench) -> None:
    engine = bench.engine()
    history = text(0, 300)
    ask(engine, history)
    for length in (299, 250, 161, 64, 33, 17):
        branch = history[:length] + text(length, 9)
        answer, usage = ask(engine, branch)
        assert answer == bench.fresh(branch, 12)
        assert usage.cached_tokens >= length - BLOCK


def test_a_first_prompt_shorter_than_a_block_is_no_obstacle(bench: Bench) -> None:
    engine = bench.engine()
    ids = text(0, 5)
    answer, _ = ask(engine, ids, 40)
    longer = ids + answer + text(1, 9)
    again, usage = ask(engine, longer)
    assert again == bench.fresh(longer, 12)
    assert usage.cached_tokens >= 32


def test_the_same_request_again_feeds_a_few_tokens_alone(bench: Bench) -> None:
    engine = bench.engine()
    ids = text(0, 8 * BLOCK)
    first, cold = ask(engine, ids)
    again, warm = ask(engine, ids)
    assert again == first
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 7 * BLOCK)


@promise("chat:prefix:together")
def test_requests_that_arrive_together_compute_what_they_share_once(bench: Bench) -> None:
    engine = bench.engine()
    shared = text(0, 600)
    prompts = {id: shared + text(id, 10 + id) for id in range(1, 5)}
    for id, ids in prompts.items():
        engine.submit(id, Prompt(ids, 8, GREEDY), 10_000)
    sequences = {sequence.id: sequence for sequence in engine._prefill.waiting}
    computed = 0
    while not engine.idle:
        for report in engine.step():
            if isinstance(report, runner_protocol.Finished):
                computed += report.end.usage.prompt_tokens - report.end.usage.cached_tokens
    assert computed <= 600 + 4 * (14 + 2 * BLOCK)
    for id, ids in prompts.items():
        assert tuple(sequences[id].tokens[len(ids) :]) == bench.fresh(ids, 8)


@promise("chat:prefix:same")
def test_random_conversations_that_share_and_branch_stay_right_under_little_memory(bench: Bench) -> None:
    cache = bench.model.new_cache()
    bench.model.prefill([300], cache)
    engine = bench.engine(caches.kv_shape(cache).bytes(2, 512))
    generator = random.Random(5)
    histories = [text(seed, 50) for seed in range(3)]
    for turn in range(25):
        history = generator.choice(histories)
        history = history[: generator.randrange(20, len(history) + 1)] + text(100 + turn, generator.randrange(1, 60))
        answer, _ = ask(engine, history, 6)
        assert answer == bench.fresh(history, 6)
        assert engine.stored_bytes <= engine._memory.budget
        histories.append((history + answer)[:400])


def test_prompts_that_are_fed_in_one_pass_say_the_same_and_are_stored_as_if_alone(bench: Bench) -> None:
    engine = bench.engine()
    prompts = {id: text(id, length) for id, length in enumerate((45, 50, 55, 48, 60, 20), start=1)}
    for id, ids in prompts.items():
        engine.submit(id, Prompt(ids, 8, GREEDY), 10_000)
    sequences = {sequence.id: sequence for sequence in engine._prefill.waiting}
    engine.step()
    assert sum(sequence.num_output > 0 for sequence in sequences.values()) > 2  # the first step had read several
    while not engine.idle:
        engine.step()
    for id, ids in prompts.items():
        assert tuple(sequences[id].tokens[len(ids) :]) == bench.fresh(ids, 8)
        longer = tuple(sequences[id].tokens) + text(id, 11)
        answer, usage = ask(engine, longer)
        assert answer == bench.fresh(longer, 12)
        assert usage.cached_tokens >= len(ids) + 7 - BLOCK


def test_rows_of_any_past_are_fed_in_one_pass(bench: Bench) -> None:
    pasts, chunks = (0, 7, 40, 75), (30, 25, 40, 38)
    alone, own = [], []
    for place, (past, chunk) in enumerate(zip(pasts, chunks, strict=True)):
        ids = text(place, past + chunk)
        cache = bench.model.new_cache()
        if past:
            bench.model.feed(ids[:past], cache)
        own.append(cache)
        whole = bench.model.new_cache()
        alone.append(bench.model.prefill(ids, whole)[0])
    rows = [text(place, past + chunk)[past:] for place, (past, chunk) in enumerate(zip(pasts, chunks, strict=True))]
    logits, fed = bench.model.prefill_rows(rows, own)
    assert all(mx.allclose(logits[row], alone[row], atol=1e-3).item() for row in range(4))
    for row, cache in enumerate(fed):
        ids = text(row, pasts[row] + chunks[row])
        whole = bench.model.new_cache()
        bench.model.feed(ids, whole)
        assert mx.allclose(bench.model.decode([301], cache), bench.model.decode([301], whole), atol=1e-3).item()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_many_requests_in_little_memory_all_end_with_the_text_of_each_alone(bench: Bench, rows: int) -> None:
    cache = bench.model.new_cache()
    bench.model.prefill([300], cache)
    engine = bench.engine(caches.kv_shape(cache).bytes(rows, 512))
    prompts = {id: text(id // 3, length) + text(id, 3) for id, length in enumerate((300, 20, 120, 7, 350, 90, 5, 40))}
    for id, ids in prompts.items():
        engine.submit(id, Prompt(ids, 20, GREEDY), 10_000)
    sequences = {sequence.id: sequence for sequence in engine._prefill.waiting}
    steps = 0
    while not engine.idle:
        steps += 1
        assert steps < 2000, "they are in each other's way"
        assert not any(isinstance(report, job.Failed) for report in engine.step())
    for id, ids in prompts.items():
        assert tuple(sequences[id].tokens[len(ids) :]) == bench.fresh(ids, 20)


def test_blocks_are_given_back_when_the_lease_shrinks(bench: Bench) -> None:
    engine = bench.engine()
    ids = text(0, 200)
    ask(engine, ids)
    assert engine.stored_bytes > 0
    engine.resize(0)
    assert engine.stored_bytes == 0
    engine.resize(ROOM)
    assert ask(engine, ids)[1].cached_tokens == 0


def test_a_row_takes_its_blocks_out_of_a_batch_as_it_would_alone(bench: Bench) -> None:
    engine = bench.engine()
    prompts = {1: text(1, 70), 2: text(2, 20), 3: text(3, 45)}
    for id, ids in prompts.items():
        engine.submit(id, Prompt(ids, 60, GREEDY), 10_000)
    sequences = {sequence.id: sequence for sequence in engine._prefill.waiting}
    while not engine.idle:
        engine.step()
    for id, ids in prompts.items():
        longer = tuple(sequences[id].tokens[:-1]) + text(9, 5)
        answer, usage = ask(engine, longer)
        assert usage.cached_tokens >= len(ids) + 59 - BLOCK
        assert answer == bench.fresh(longer, 12)


def test_on_a_gpu_an_answer_is_cut_into_blocks_less_often(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting waits for the device, so no pass is ahead then."""

    def cut(engine: DecodingEngine) -> int:
        spans: list[int] = []
        real = PrefixCache.capture

        def capture(self: PrefixCache, chain: Any, tokens: Any, stored: int, fed: int, *rest: Any) -> None:
            spans.append(fed - stored)
            real(self, chain, tokens, stored, fed, *rest)

        with monkeypatch.context() as patched:
            patched.setattr(PrefixCache, "capture", capture)
            ask(engine, text(3, 40), 256)
        return len(spans)

    on_cpu = cut(bench.engine())
    monkeypatch.setattr(bench.model, "limits", gpu_limits({"num_attention_heads": 4, "hidden_size": 256}))
    assert cut(bench.engine()) < on_cpu
