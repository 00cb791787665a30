"""A pass that begins before the last one's tokens are known changes nothing that anybody sees."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.checkpoints import make_gemma3, make_qwen3
from engines.runner.generation import model as models
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.kv import caches
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.prompt import Prompt
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.chat import Sampling
from tests.engines.runner.generation.recorder import PLENTY, EngineRecorder, RecordedOutput, prompt_of

ROOM = 1 << 30
STOPPING = 5  # of `Desk.prompts`


class Passes(models.Model):
    """Notes which passes were fed tokens that weren't known yet; one of these can be made to fail."""

    def __init__(self, folder: Path) -> None:
        super().__init__(models.load(folder)._module, frozenset(), b"")
        self.ahead = self.known = 0
        self.breaks = False

    def decode(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        if isinstance(tokens, mx.array):
            self.ahead += 1
            if self.breaks:
                raise RuntimeError("a secret of the server")
        else:
            self.known += 1
        return super().decode(tokens, cache)


class Waiting(DecodingEngine):
    """Without passes that are ahead, and without drafts."""

    def _may_go_further(self) -> bool:
        return False

    def _draft(self) -> None:
        return None


class Desk:
    """A checkpoint, prompts of several kinds, and what each says alone on an engine that never is ahead."""

    def __init__(self, folder: Path) -> None:
        self.model = Passes(folder)
        self.table = TokenTable.read(folder)
        whole = self.alone(prompt_of(30)).text
        stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
        self.prompts = [
            prompt_of(30),
            prompt_of(12, 40),
            prompt_of(7, 1),
            prompt_of(55, 24, Sampling(temperature=0.0, logprobs=0)),
            prompt_of(20, 24, Sampling(temperature=0.0, logprobs=2)),
            prompt_of(30, 24, Sampling(temperature=0.0, stop=(stop,))),
            prompt_of(25, 24, Sampling(temperature=1.0, seed=3)),
            prompt_of(40, 30, Sampling(temperature=0.0, frequency_penalty=0.5)),
            prompt_of(300, 10),
        ]
        self.expected = [self.alone(prompt) for prompt in self.prompts]

    def alone(self, prompt: Prompt) -> RecordedOutput:
        hearing = EngineRecorder(Waiting(self.model, self.table, ROOM))
        hearing.submit(1, prompt)
        hearing.end()
        return hearing.heard[1]

    def open(self, room: int = ROOM) -> EngineRecorder:
        return EngineRecorder(DecodingEngine(self.model, self.table, room))

    def bytes(self, rows: int, positions: int) -> int:
        cache = self.model.new_cache()
        self.model.prefill([300], cache)
        return caches.kv_shape(cache).bytes(rows, positions)


def same(heard: RecordedOutput, expected: RecordedOutput) -> bool:
    ids = [id for id, _ in heard.logprobs] == [id for id, _ in expected.logprobs]
    near = [logprob for _, logprob in heard.logprobs] == pytest.approx(
        [each for _, each in expected.logprobs], abs=1e-3
    )
    return (heard.text, heard.reason) == (expected.text, expected.reason) and ids and near


@pytest.fixture(scope="module", params=[make_qwen3, make_gemma3], ids=["qwen3", "gemma3"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("checkpoint")
    request.param(folder)
    return Desk(folder)


KINDS = st.integers(0, 8)
IDS = st.integers(0, 5)
EVENTS = st.one_of(
    st.tuples(st.just("submit"), KINDS, st.sampled_from([1, 2, 5, PLENTY])),
    st.tuples(st.just("step"), st.integers(1, 12), st.just(0)),
    st.tuples(st.just("grant"), IDS, st.integers(1, 6)),
    st.tuples(st.just("cancel"), IDS, st.just(0)),
    st.tuples(st.just("resize"), st.integers(1, 4), st.just(0)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENTS, min_size=4, max_size=16))
def test_whatever_comes_and_goes_every_text_is_that_of_the_request_alone(
    desk: Desk, events: list[tuple[str, int, int]]
) -> None:
    hearing = desk.open()
    kinds: dict[int, int] = {}
    credit: dict[int, int] = {}
    cancelled: set[int] = set()
    for what, first, second in events:
        match what:
            case "submit":
                id = len(kinds)
                kinds[id], credit[id] = first, second
                hearing.submit(id, desk.prompts[first], second)
            case "step":
                for _ in range(first):
                    hearing.step()
            case "grant" if first in kinds:
                credit[first] += second
                hearing.engine.grant(first, second)
            case "cancel" if first in kinds:
                cancelled.add(first)
                hearing.engine.cancel(first)
            case "resize":
                hearing.engine.resize(desk.bytes(first, 512))
        assert all(heard.deltas <= credit[id] for id, heard in hearing.heard.items())
    hearing.engine.resize(ROOM)
    for id in kinds:
        hearing.engine.grant(id, PLENTY)
    hearing.end()
    for id, heard in hearing.heard.items():
        expected = desk.expected[kinds[id]]
        assert not heard.failed
        assert same(heard, expected) or (id in cancelled and expected.text.startswith(heard.text.rstrip("\ufffd")))


def test_greedy_rows_nearly_always_go_on_before_their_tokens_are_known(desk: Desk) -> None:
    hearing = desk.open()
    for id in range(3):
        hearing.submit(id, prompt_of(20 + id, 60))
    desk.model.ahead = desk.model.known = 0
    hearing.end()
    assert desk.model.ahead > 4 * desk.model.known > 0


@pytest.mark.parametrize("kind", [4, 6, 7])
def test_beside_a_row_that_is_chosen_on_the_host_no_pass_is_ahead(desk: Desk, kind: int) -> None:
    hearing = desk.open()
    hearing.submit(0, desk.prompts[0])
    hearing.submit(1, desk.prompts[kind])
    hearing.until(lambda: len(hearing.engine._running) == 2)
    desk.model.ahead = 0
    hearing.until(lambda: len(hearing.engine._running) < 2)
    assert desk.model.ahead == 0
    hearing.end()
    assert same(hearing.heard[0], desk.expected[0]) and same(hearing.heard[1], desk.expected[kind])


def test_a_row_that_ends_while_a_pass_is_ahead_leaves_the_others_their_part_of_it(desk: Desk) -> None:
    hearing = desk.open()
    for id, prompt in enumerate((desk.prompts[STOPPING], prompt_of(12, 40), prompt_of(17, 40))):
        hearing.submit(id, prompt)
    hearing.until(lambda: hearing.heard[0].reason != "")
    assert len(hearing.engine._running) == 2 and hearing.engine._batch.ahead
    hearing.end()
    assert same(hearing.heard[0], desk.expected[STOPPING])
    assert same(hearing.heard[1], desk.expected[1]) and same(hearing.heard[2], desk.alone(prompt_of(17, 40)))


def test_a_row_that_is_cancelled_or_preempted_while_a_pass_is_ahead(desk: Desk) -> None:
    hearing = desk.open()
    for id, length in enumerate((12, 17, 23)):
        hearing.submit(id, prompt_of(length, 40))
    hearing.until(lambda: len(hearing.engine._running) == 3 and hearing.engine._batch.ahead)
    hearing.engine.cancel(1)
    assert hearing.engine._batch.ahead
    hearing.step()
    hearing.until(lambda: hearing.engine._batch.ahead)
    hearing.engine.resize(desk.bytes(1, 256))
    hearing.step()
    assert len(hearing.engine._running) == 1
    hearing.end()
    assert same(hearing.heard[0], desk.expected[1]) and same(hearing.heard[2], desk.alone(prompt_of(23, 40)))


def test_a_row_that_joins_waits_for_the_pass_that_is_ahead(desk: Desk) -> None:
    hearing = desk.open()
    hearing.submit(0, desk.prompts[0], 3)
    hearing.until(lambda: hearing.engine.idle)
    hearing.submit(1, desk.prompts[1])
    hearing.until(lambda: hearing.engine._batch.ahead)
    hearing.engine.grant(0, PLENTY)
    hearing.end()
    assert same(hearing.heard[0], desk.expected[0]) and same(hearing.heard[1], desk.expected[1])


@pytest.mark.parametrize("positions", [31, 40, 53])
def test_a_lone_row_that_outgrows_the_budget_says_as_much_as_without(desk: Desk, positions: int) -> None:
    room = desk.bytes(1, positions)
    hearings = desk.open(room), EngineRecorder(Waiting(desk.model, desk.table, room))
    for hearing in hearings:
        hearing.submit(0, prompt_of(30, 60))
        hearing.end()
    assert hearings[0].heard == hearings[1].heard


def test_a_pass_that_fails_ahead_fails_its_rows_and_the_next_request_is_served(desk: Desk) -> None:
    hearing = desk.open()
    hearing.submit(0, desk.prompts[0])
    hearing.submit(1, desk.prompts[1])
    hearing.until(lambda: len(hearing.engine._running) == 2 and hearing.engine._batch.ahead)
    desk.model.breaks = True
    hearing.step()
    desk.model.breaks = False
    assert hearing.heard[0].failed and hearing.heard[1].failed and hearing.engine.idle
    hearing.submit(2, desk.prompts[1])
    hearing.end()
    assert same(hearing.heard[2], desk.expected[1])


def test_the_blocks_that_are_stored_are_those_of_an_engine_without(desk: Desk) -> None:
    engines = DecodingEngine(desk.model, desk.table, ROOM), Waiting(desk.model, desk.table, ROOM)
    stored = []
    for engine in engines:
        hearing = EngineRecorder(engine)
        for id, length in enumerate((70, 20, 45)):
            hearing.submit(id, prompt_of(length, 60))
        hearing.end()
        assert engine._memory.prefixes is not None and engine._memory.prefixes._store is not None
        stored.append({name: part for name, (part, _) in engine._memory.prefixes._store._parts.items()})
    assert stored[0].keys() == stored[1].keys() and len(stored[0]) > 3 * 60 // 8
    assert all(mx.allclose(part, stored[1][name], atol=1e-4).item() for name, part in stored[0].items())
