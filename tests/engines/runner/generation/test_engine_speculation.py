"""Tokens that are tried before they are chosen save passes, and change nothing that anybody sees."""

import json
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.checkpoints import make_gemma3, make_qwen3
from engines.runner.chat.prompt import PromptWriter
from engines.runner.generation import model as models
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.kv.caches import Cache
from engines.runner.generation.prompt import Prompt
from engines.runner.generation.speculation import Draft
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.chat import ChatRequest, Constraint, Message, Sampling, Thinking
from tests.engines.runner.generation.recorder import GREEDY, EngineRecorder, RecordedOutput, prompt_of

ROOM = 1 << 30
DRAWN = 3.0
PERSON = {
    "type": "object",
    "properties": {"name": {"const": "Ada Lovelace"}, "profession": {"const": "mathematician"}},
    "required": ["name", "profession"],
    "additionalProperties": False,
}


class Passes(models.Model):
    """Counts its passes, and the tokens that it was fed as drafts. It mostly goes round in a circle of seven tokens.

    One that tries a draft can be made to fail.
    """

    def __init__(self, folder: Path, drawn: float = 0.0) -> None:
        loaded = models.load(folder)
        super().__init__(loaded._module, frozenset() if drawn else loaded.eos, loaded.identity)
        self.passes = self.tried = 0
        self.breaks = False
        self._drawn = drawn

    def prefill(self, row: models.Row, cache: Cache) -> mx.array:
        return self._led(super().prefill(row, cache), row[-1:])

    def decode(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        self.passes += 1
        return self._led(super().decode(tokens, cache), tokens)

    def score(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        self.passes += 1
        self.tried += len(tokens) - 1
        if self.breaks:
            raise RuntimeError("a secret of the server")
        return self._led(super().score(tokens, cache), tokens)

    def _led(self, logits: mx.array, tokens: Sequence[int] | mx.array) -> mx.array:
        """Logits [rows, vocabulary], towards what follows each of `tokens` in the circle."""
        fed = tokens if isinstance(tokens, mx.array) else mx.array(list(tokens))
        wanted = 300 + (fed + 1) % 7
        return logits + self._drawn * (mx.arange(logits.shape[-1])[None] == wanted[:, None])


class Trying(DecodingEngine):
    """A token of a lone row seems to take so long that every draft pays, however slow the test's machine."""

    def _draft(self) -> Draft | None:
        self._budget.lone_seconds = 100.0
        return super()._draft()


class Plain(DecodingEngine):
    """Without drafts."""

    def _draft(self) -> None:
        return None


class Desk:
    def __init__(self, folder: Path) -> None:
        self.model = Passes(folder, DRAWN)
        self.table = TokenTable.read(folder)

    def run(self, prompt: Prompt, engine: type[DecodingEngine], credit: int = 10_000) -> tuple[RecordedOutput, int]:
        """What it said, and in how many passes."""
        self.model.passes = 0
        hearing = EngineRecorder(engine(self.model, self.table, ROOM))
        hearing.submit(1, prompt, credit)
        hearing.end()
        return hearing.heard[1], self.model.passes


@pytest.fixture(scope="module", params=[make_qwen3, make_gemma3], ids=["qwen3", "gemma3"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("checkpoint")
    request.param(folder)
    return Desk(folder)


def repeating(length: int, max_tokens: int, sampling: Sampling = GREEDY) -> Prompt:
    """Behind it, what follows an earlier place is likely to be tried."""
    return Prompt(tuple(300 + place % 7 for place in range(length)), max_tokens, sampling)


ASKED = [
    repeating(20, 60),
    repeating(21, 1),
    prompt_of(12, 60),
    repeating(22, 40, Sampling(temperature=0.0, logprobs=0)),
    repeating(23, 40, Sampling(temperature=0.0, logprobs=2)),
    repeating(24, 40, Sampling(temperature=0.7, seed=3)),
    repeating(25, 40, Sampling(temperature=1.5, seed=4, top_p=0.9)),
    repeating(26, 40, Sampling(temperature=0.0, frequency_penalty=0.5)),
    repeating(300, 30),
]


@pytest.mark.parametrize("prompt", ASKED)
def test_what_is_said_is_the_same_with_drafts_and_without(desk: Desk, prompt: Prompt) -> None:
    with_drafts, _ = desk.run(prompt, Trying)
    expected, _ = desk.run(prompt, Plain)
    assert (with_drafts.text, with_drafts.reason) == (expected.text, expected.reason)
    assert [id for id, _ in with_drafts.logprobs] == [id for id, _ in expected.logprobs]
    assert [one for _, one in with_drafts.logprobs] == pytest.approx([one for _, one in expected.logprobs], abs=1e-3)


def test_an_answer_that_repeats_itself_takes_fewer_passes_though_some_drafts_fail(tmp_path: Path) -> None:
    make_qwen3(tmp_path)
    desk = Desk(tmp_path)
    expected, plain_passes = desk.run(repeating(20, 120), Plain)
    heard, passes = desk.run(repeating(20, 120), Trying)
    assert heard.text == expected.text
    assert passes < 0.7 * plain_passes
    assert passes + desk.model.tried > heard.deltas


def test_drafts_end_where_a_window_would_forget_what_a_failed_one_must_give_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gemma3(tmp_path)
    desk = Desk(tmp_path)
    beyond = repeating(40, 60)  # its windows hold 32
    heard, _ = desk.run(beyond, Trying)
    assert desk.model.tried == 0
    assert heard.text == desk.run(beyond, Plain)[0].text


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(credits=st.lists(st.integers(1, 9), min_size=1, max_size=12), length=st.integers(8, 29))
def test_nothing_is_sent_beyond_the_credit_and_all_of_it_in_the_end(
    desk: Desk, credits: list[int], length: int
) -> None:
    expected, _ = desk.run(repeating(length, 30), Plain)
    hearing = EngineRecorder(Trying(desk.model, desk.table, ROOM))
    hearing.submit(1, repeating(length, 30), credits[0])
    granted = credits[0]
    for credit in [*credits[1:], 10_000]:
        hearing.end()
        assert hearing.heard[1].deltas <= granted
        hearing.engine.grant(1, credit)
        granted += credit
    hearing.end()
    assert (hearing.heard[1].text, hearing.heard[1].reason) == (expected.text, expected.reason)


def test_a_row_that_others_join_goes_on_as_it_was(desk: Desk) -> None:
    expected = [desk.run(repeating(20, 60), Plain)[0], desk.run(prompt_of(15, 30), Plain)[0]]
    hearing = EngineRecorder(Trying(desk.model, desk.table, ROOM))
    hearing.submit(0, repeating(20, 60))
    hearing.until(lambda: hearing.heard[0].deltas > 10)
    hearing.submit(1, prompt_of(15, 30))
    hearing.end()
    assert [hearing.heard[id].text for id in (0, 1)] == [one.text for one in expected]


def test_what_a_row_with_drafts_has_computed_is_taken_over_by_the_next(desk: Desk) -> None:
    engine = Trying(desk.model, desk.table, ROOM)
    first = EngineRecorder(engine)
    asked = repeating(20, 60)
    first.submit(1, asked)
    [sequence] = engine._prefill.waiting
    first.end()
    longer = Prompt((*sequence.tokens[:64], 500), 20, GREEDY)
    again = EngineRecorder(engine)
    again.submit(2, longer)
    again.end()
    assert again.heard[2].text == desk.run(longer, Plain)[0].text


def test_a_pass_that_fails_with_a_draft_fails_its_request_alone(desk: Desk) -> None:
    hearing = EngineRecorder(Trying(desk.model, desk.table, ROOM))
    hearing.submit(1, repeating(20, 60))
    desk.model.breaks = True
    try:
        hearing.end()
    finally:
        desk.model.breaks = False
    assert hearing.heard[1].failed
    hearing.submit(2, repeating(20, 60))
    hearing.end()
    assert hearing.heard[2].text == desk.run(repeating(20, 60), Plain)[0].text


def test_what_a_grammar_leaves_no_choice_about_is_fed_in_one_pass(tmp_path: Path) -> None:
    make_qwen3(tmp_path, padded=True)
    writer = PromptWriter.read(tmp_path, 4096)
    request = ChatRequest(
        "m",
        (Message("user", "hello"),),
        sampling=Sampling(temperature=0.0, max_tokens=60),
        thinking=Thinking(enabled=False),
        constraint=Constraint("json_schema", PERSON),
    )
    model, table = Passes(tmp_path), TokenTable.read(tmp_path)
    told: dict[type[DecodingEngine], tuple[str, int]] = {}
    for engine in (Trying, Plain):
        model.passes = 0
        hearing = EngineRecorder(engine(model, table, ROOM))
        hearing.submit(1, writer.write(request))
        hearing.end()
        told[engine] = hearing.heard[1].text, model.passes
    assert told[Trying][0] == told[Plain][0]
    assert json.loads(told[Trying][0]) == {"name": "Ada Lovelace", "profession": "mathematician"}
    assert told[Trying][1] < told[Plain][1] * 0.8
