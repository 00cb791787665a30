from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model
from msgspec import structs

from demo.checkpoints import make_gemma3, make_qwen3
from engines.ipc import job, runner_protocol
from engines.models import tokenizer
from engines.runner.generation import model as models
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.prompt import Prompt
from engines.runner.row_engine import Report
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.chat import Delta, Done, Sampling
from tests.promises import promise

GREEDY = Sampling(temperature=0.0)
ROOM = 1 << 30
Make = Callable[[int], DecodingEngine]


def text_of(report: runner_protocol.Said) -> str:
    assert isinstance(report.delta, Delta)
    return report.delta.text


MAKERS: dict[str, Callable[[Path], None]] = {
    "qwen3": make_qwen3,
    "gemma3": make_gemma3,
    "qwen3 padded": partial(make_qwen3, padded=True),
}


@pytest.fixture(scope="module", params=list(MAKERS.values()), ids=list(MAKERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoint")
    request.param(made)
    return made


@pytest.fixture(scope="module")
def make_engine(folder: Path) -> Make:
    model, table = models.load(folder), TokenTable.read(folder)
    model.eos = frozenset()
    return lambda room: DecodingEngine(model, table, room)


def prompt(length: int, max_tokens: int = 24, sampling: Sampling = GREEDY) -> Prompt:
    return Prompt(tuple(300 + (7 * length + 13 * place) % 600 for place in range(length)), max_tokens, sampling)


def run(engine: DecodingEngine, texts: dict[int, str] | None = None) -> dict[int, str]:
    """Step to the end; each request's text."""
    texts = {} if texts is None else texts
    while not engine.idle:
        for report in engine.step():
            assert not isinstance(report, job.Failed)
            if isinstance(report, runner_protocol.Said):
                texts[report.id] = texts.get(report.id, "") + text_of(report)
    return texts


def iterate(
    engine: DecodingEngine,
) -> Iterator[runner_protocol.Said | runner_protocol.Finished | job.Failed]:
    while not engine.idle:
        yield from engine.step()


def outcome(engine: DecodingEngine) -> tuple[dict[int, str], list[int]]:
    """Each request's text, and the requests that failed."""
    texts: dict[int, str] = {}
    failed = []
    for report in iterate(engine):
        if isinstance(report, job.Failed):
            assert "secret" not in report.failure.message
            failed.append(report.id)
        elif isinstance(report, runner_protocol.Said):
            texts[report.id] = texts.get(report.id, "") + text_of(report)
    return {id: text for id, text in texts.items() if id not in failed}, failed


def alone(engine: DecodingEngine, one: Prompt) -> str:
    engine.submit(1, one, 10_000)
    return run(engine).get(1, "")


@promise("chat:batch:greedy")
def test_batched_greedy_equals_the_librarys_single_generation(folder: Path, make_engine: Make) -> None:
    engine = make_engine(ROOM)
    module = load_model(folder, strict=True)[0]
    table = TokenTable.read(folder)
    lengths = [3, 17, 40, 100]
    texts: dict[int, str] = {}
    for length in lengths:
        engine.submit(length, prompt(length), 10_000)
        for report in engine.step():
            if isinstance(report, runner_protocol.Said):
                texts[report.id] = texts.get(report.id, "") + text_of(report)
    run(engine, texts)
    valid = mx.array([0.0 if one else -float("inf") for one in table.valid] + [-float("inf")] * 4096)
    for length in lengths:
        steps = generate_step(
            mx.array(prompt(length).ids),
            module,
            max_tokens=24,
            sampler=lambda logits: mx.argmax(logits + valid[: logits.shape[-1]], axis=-1),
        )
        ids = [int(token) for token, _ in steps]
        assert texts[length] == tokenizer.read(folder).decode(ids, skip_special_tokens=False)


def test_a_row_without_credit_pauses_and_goes_on_with_the_same_text(
    make_engine: Make,
) -> None:
    expected = alone(make_engine(ROOM), prompt(30))
    engine = make_engine(ROOM)
    engine.submit(1, prompt(30), 3)
    engine.submit(2, prompt(9), 10_000)
    texts = run(engine)
    assert expected.startswith(texts[1]) and texts[1] != expected
    engine.grant(1, 10_000)
    assert not engine.idle
    assert run(engine, texts)[1] == expected


def test_a_cancelled_request_sends_nothing_more_and_the_others_go_on(
    make_engine: Make,
) -> None:
    expected = alone(make_engine(ROOM), prompt(20))
    engine = make_engine(ROOM)
    engine.submit(1, prompt(20), 10_000)
    engine.submit(2, prompt(33), 10_000)
    texts: dict[int, str] = {}
    for _ in range(4):
        for report in engine.step():
            if isinstance(report, runner_protocol.Said):
                texts[report.id] = texts.get(report.id, "") + text_of(report)
    engine.cancel(2)
    cut = texts.get(2, "")
    run(engine, texts)
    assert (texts[1], texts.get(2, "")) == (expected, cut)


@promise("chat:sampling:seed")
def test_the_same_seed_gives_the_same_text_whatever_else_runs(make_engine: Make) -> None:
    seeded = prompt(25, sampling=Sampling(temperature=1.0, top_p=0.9, seed=5))
    expected = alone(make_engine(ROOM), seeded)
    engine = make_engine(ROOM)
    engine.submit(8, prompt(50, sampling=Sampling()), 10_000)
    engine.step()
    engine.submit(1, seeded, 10_000)
    assert run(engine)[1] == expected


def test_a_row_never_sends_more_than_its_credit(make_engine: Make) -> None:
    expected = alone(make_engine(ROOM), prompt(30))
    engine = make_engine(ROOM)
    engine.submit(1, prompt(30), 1)
    texts: dict[int, str] = {}
    for _ in range(200):
        before = texts.get(1, "")
        sent = 0
        while not engine.idle:
            for report in engine.step():
                if isinstance(report, runner_protocol.Said):
                    sent += 1
                    texts[1] = texts.get(1, "") + text_of(report)
        assert sent <= 1
        if texts[1] == before:
            break
        engine.grant(1, 1)
    assert texts[1] == expected


class Counting(models.Model):
    """Counts the prompt tokens that it is fed."""

    def __init__(self, folder: Path) -> None:
        loaded = models.load(folder)
        super().__init__(loaded._module, frozenset(), b"")
        self.prompt_tokens = 0

    def feed(self, tokens: Sequence[int] | mx.array, cache: Cache) -> None:
        self.prompt_tokens += len(tokens)
        super().feed(tokens, cache)

    def prefill(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        self.prompt_tokens += len(tokens)
        return super().prefill(tokens, cache)


def test_a_preempted_row_says_the_same_and_is_prefilled_once_more_at_most(folder: Path) -> None:
    model, table = Counting(folder), TokenTable.read(folder)
    expected = {length: alone(DecodingEngine(model, table, ROOM), prompt(length)) for length in (12, 40)}
    cache = model.new_cache()
    model.prefill([300], cache)
    model.prompt_tokens = 0
    engine = DecodingEngine(model, table, caches.kv_shape(cache).bytes(2, 256) - 1)
    for length in expected:
        engine.submit(length, prompt(length), 10_000)
    assert run(engine) == expected
    assert 12 + 40 < model.prompt_tokens <= 12 + 2 * 40 + 24


def test_where_there_is_no_room_for_both_the_row_in_the_background_gives_way(folder: Path) -> None:
    model, table = Counting(folder), TokenTable.read(folder)
    expected = {length: alone(DecodingEngine(model, table, ROOM), prompt(length)) for length in (12, 40)}
    cache = model.new_cache()
    model.prefill([300], cache)
    engine = DecodingEngine(model, table, caches.kv_shape(cache).bytes(2, 256) - 1)
    engine.submit(12, structs.replace(prompt(12), background=True), 10_000)
    texts: dict[int, str] = {}
    while 12 not in texts:
        texts |= said(engine.step())
    engine.submit(40, prompt(40), 10_000)
    ended: list[int] = []
    for report in iterate(engine):
        if isinstance(report, runner_protocol.Finished):
            ended.append(report.id)
        else:
            texts[report.id] = texts.get(report.id, "") + said([report])[report.id]
    assert ended == [40, 12]
    assert texts == expected


def said(reports: Sequence[Report]) -> dict[int, str]:
    return {one.id: text_of(one) for one in reports if isinstance(one, runner_protocol.Said)}


def test_a_lone_row_that_outgrows_the_budget_ends_by_length(folder: Path) -> None:
    model, table = Counting(folder), TokenTable.read(folder)
    expected = alone(DecodingEngine(model, table, ROOM), prompt(40))
    cache = model.new_cache()
    model.prefill([300], cache)
    engine = DecodingEngine(model, table, caches.kv_shape(cache).bytes(1, 50))
    engine.submit(1, prompt(40), 10_000)
    reports = list(iterate(engine))
    last = reports[-1]
    assert isinstance(last, runner_protocol.Finished) and isinstance(last.end, Done)
    assert last.end.finish_reason == "length"
    assert last.end.usage.completion_tokens < 24
    text = "".join(text_of(report) for report in reports if isinstance(report, runner_protocol.Said))
    assert text and expected.startswith(text.rstrip("\ufffd"))


class Faulty(models.Model):
    """Can't feed prompts that begin with `refused`; row 1 of a batch gets logits that are no numbers."""

    def __init__(self, folder: Path, refused: int = -1) -> None:
        super().__init__(models.load(folder)._module, frozenset(), b"")
        self.refused = refused
        self.poisoned = False
        self.broken = False

    def prefill(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        if tokens[0] == self.refused:
            raise RuntimeError("a secret of the server")
        return super().prefill(tokens, cache)

    def decode(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        if self.broken:
            raise RuntimeError("a secret of the server")
        logits = super().decode(tokens, cache)
        if self.poisoned and len(tokens) > 1:
            logits[1] = float("nan")
        return logits


def test_a_prompt_whose_forward_raises_fails_alone(folder: Path) -> None:
    model, table = Faulty(folder), TokenTable.read(folder)
    expected = alone(DecodingEngine(model, table, ROOM), prompt(20))
    engine = DecodingEngine(model, table, ROOM)
    model.refused = prompt(31).ids[0]
    engine.submit(1, prompt(20), 10_000)
    engine.submit(2, prompt(31), 10_000)
    assert outcome(engine) == ({1: expected}, [2])


@promise("core:runner:row-alone")
def test_a_row_whose_draw_raises_fails_alone(folder: Path) -> None:
    model, table = Faulty(folder), TokenTable.read(folder)
    expected = alone(DecodingEngine(model, table, ROOM), prompt(20))
    engine = DecodingEngine(model, table, ROOM)
    model.poisoned = True
    engine.submit(1, prompt(20), 10_000)
    engine.submit(2, prompt(31, sampling=Sampling(seed=1)), 10_000)
    texts, failed = outcome(engine)
    assert (texts[1], failed) == (expected, [2])


def test_a_shared_forward_that_raises_fails_all_and_the_next_request_is_served(folder: Path) -> None:
    model, table = Faulty(folder), TokenTable.read(folder)
    engine = DecodingEngine(model, table, ROOM)
    expected = alone(engine, prompt(20))
    engine.submit(1, prompt(20), 10_000)
    engine.submit(2, prompt(31), 10_000)
    model.broken = True
    assert sorted(outcome(engine)[1]) == [1, 2]
    model.broken = False
    assert alone(engine, prompt(20)) == expected


def test_a_prompt_cancelled_between_its_chunks_leaves_nothing(make_engine: Make) -> None:
    engine = make_engine(ROOM)
    engine.submit(1, prompt(1200), 10_000)
    assert not engine.step()
    engine.cancel(1)
    assert engine.idle and not engine.step()


def test_a_stop_string_ends_a_row_and_is_not_shown(make_engine: Make) -> None:
    whole = alone(make_engine(ROOM), prompt(30))
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    engine = make_engine(ROOM)
    engine.submit(1, prompt(30, sampling=Sampling(temperature=0.0, stop=(stop,))), 10_000)
    assert run(engine).get(1, "") == whole[: whole.index(stop)]


@promise("core:runner:row-alone")
def test_an_error_in_one_row_fails_that_row_alone(folder: Path, make_engine: Make) -> None:
    class Broken(TokenTable):
        def bytes_of(self, id: int) -> bytes:
            raise RuntimeError("a secret of the server")

        def token(self, id: int) -> str | None:
            raise RuntimeError("a secret of the server")

    expected = alone(make_engine(ROOM), prompt(20))
    engine = make_engine(ROOM)
    engine.submit(1, prompt(20), 10_000)
    engine.submit(2, prompt(31), 10_000)
    engine._prefill.waiting[1].answer._detokenizer._table = Broken([])
    texts, failed = "", []
    while not engine.idle:
        for report in engine.step():
            if isinstance(report, job.Failed):
                failed.append(report)
            elif isinstance(report, runner_protocol.Said):
                texts += text_of(report)
    assert [report.id for report in failed] == [2] and "secret" not in failed[0].failure.message
    assert texts == expected
