"""Whole answers: what a client gets when the model says a given text, with thoughts, tools, grammars and logprobs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import mlx.core as mx
import pytest
from tokenizers import Tokenizer

from demo.checkpoints import make_qwen3
from engines.ipc import job, runner_protocol
from engines.runner.chat.prompt import PromptWriter
from engines.runner.generation import model as models
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.kv.caches import Cache
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.chat import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    Delta,
    Done,
    Message,
    Sampling,
    Thinking,
    TokenLogprob,
    Tool,
    ToolChoice,
)
from tests.promises import promise

GREEDY = Sampling(temperature=0.0, max_tokens=60)
PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "李"]}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", "", {**PERSON, "properties": {"name": {"enum": ["Ada"]}, "age": {"const": 7}}})
CALL = '<tool_call>\n{"name": "weather", "arguments": {"name": "Ada", "age": 7}}\n</tool_call>'


class Saying(models.Model):
    """A real model that likes to say a given text: each of its tokens is the likeliest in its turn, then the end."""

    def __init__(self, folder: Path) -> None:
        loaded = models.load(folder)
        super().__init__(loaded._module, loaded.eos, loaded.identity)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        end = self._tokenizer.token_to_id("<|im_end|>")
        assert end is not None
        self._end = end
        self._script: list[int] = []
        self._begun: int | None = None

    def says(self, text: str) -> None:
        self._script = [*self._tokenizer.encode(text, add_special_tokens=False).ids, self._end]
        self._begun = None

    def prefill(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        return self._led(super().prefill(tokens, cache), cache)

    def decode(self, tokens: Sequence[int] | mx.array, cache: Cache) -> mx.array:
        return self._led(super().decode(tokens, cache), cache)

    def score(self, tokens: Sequence[int], cache: Cache) -> mx.array:
        logits = super().score(tokens, cache)
        return logits if self._begun is None else self._led(logits, cache)

    def _led(self, logits: mx.array, cache: Cache) -> mx.array:
        """The rows are places, of which the last is behind all that the cache holds."""
        if self._begun is None:
            self._begun = cache[0].offset
        for row in range(len(logits)):
            place = cache[0].offset - self._begun - (len(logits) - 1 - row)
            logits[row, self._script[place] if place < len(self._script) else self._end] = 100.0
        return logits


class Heard:
    """What came of one request."""

    def __init__(self, reports: Sequence[runner_protocol.Said | runner_protocol.Finished | job.Failed]) -> None:
        self.deltas: list[Delta] = [
            report.delta
            for report in reports
            if isinstance(report, runner_protocol.Said) and isinstance(report.delta, Delta)
        ]
        last = reports[-1]
        assert isinstance(last, runner_protocol.Finished) and isinstance(last.end, Done), last
        self.end = last.end
        self.text = "".join(delta.text for delta in self.deltas)
        self.reasoning = "".join(delta.reasoning for delta in self.deltas)
        calls = [call for delta in self.deltas for call in delta.calls]
        self.calls = [(call.name, self._arguments(call.index, calls)) for call in calls if call.id]

    @staticmethod
    def _arguments(index: int, calls: Sequence[Any]) -> str:
        return "".join(call.arguments for call in calls if call.index == index)

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [one for delta in self.deltas for one in delta.logprobs]


class Desk:
    def __init__(self, folder: Path) -> None:
        self.model = Saying(folder)
        self.writer = PromptWriter.read(folder, 4096)
        self.engine = DecodingEngine(self.model, TokenTable.read(folder), 1 << 30)

    def ask(self, says: str, request: ChatRequest | CompletionRequest) -> Heard:
        self.model.says(says)
        self.engine.submit(1, self.writer.write(request), 10_000)
        reports: list[runner_protocol.Said | runner_protocol.Finished | job.Failed] = []
        while not self.engine.idle:
            reports += self.engine.step()
        return Heard(reports)

    def chat(self, says: str, **fields: Any) -> Heard:
        return self.ask(says, ChatRequest("m", (Message("user", "hello"),), **{"sampling": GREEDY, **fields}))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("qwen3")
    make_qwen3(folder, padded=True)
    return Desk(folder)


# -- thoughts -------------------------------------------------------------------------------------------------------


@promise("chat:thought:apart")
def test_a_thought_is_told_apart_and_its_tokens_are_counted(desk: Desk) -> None:
    heard = desk.chat("<think>\nHm, 你好.\n</think>\n\nHi!")
    assert (heard.reasoning, heard.text) == ("Hm, 你好.", "Hi!")
    usage = heard.end.usage
    assert 0 < usage.reasoning_tokens < usage.completion_tokens


def test_a_thought_stays_in_the_text_as_it_was_written_if_asked_for(desk: Desk) -> None:
    written = "<think>\nHm.\n</think>\n\nHi!"
    heard = desk.chat(written, thinking=Thinking(separate=False))
    assert (heard.text, heard.reasoning) == (written, "")


@promise("chat:thought:cut")
def test_a_thought_that_is_cut_is_a_thought_all_the_same(desk: Desk) -> None:
    heard = desk.chat("<think>\n" + "Hm. " * 100, sampling=Sampling(temperature=0.0, max_tokens=12))
    assert heard.end.finish_reason == "length" and heard.text == ""
    assert heard.reasoning.startswith("Hm. Hm.")
    assert heard.end.usage.reasoning_tokens == 12


@promise("chat:thought:budget")
def test_a_thought_beyond_its_budget_is_closed_and_the_answer_follows(desk: Desk) -> None:
    heard = desk.chat("<think>\n" + "Hm. " * 6 + "Yes!", thinking=Thinking(budget=8))
    assert heard.reasoning.startswith("Hm.") and heard.text and heard.end.finish_reason == "stop"
    assert 8 <= heard.end.usage.reasoning_tokens <= 12
    assert "think" not in heard.text + heard.reasoning


def test_stop_strings_are_met_in_the_answer_and_not_in_the_thought(desk: Desk) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=60, stop=("STOP",))
    heard = desk.chat("<think>\nSTOP?\n</think>\n\nGo. STOP here", sampling=sampling)
    assert (heard.reasoning, heard.text, heard.end.finish_reason) == ("STOP?", "Go. ", "stop")


# -- text -----------------------------------------------------------------------------------------------------------


@promise("chat:text:whole")
@pytest.mark.parametrize("tools", [(), (WEATHER,)], ids=["plain", "with tools"])
def test_every_piece_is_whole_text_and_leaves_with_the_token_that_completes_it(desk: Desk, tools: Any) -> None:
    written = "嘅 𨋢, 😀 👨‍👩‍👧 and 龘!"
    heard = desk.chat(written, tools=tools, thinking=Thinking(enabled=False))
    assert heard.text == written and "\ufffd" not in "".join(delta.text for delta in heard.deltas)
    parts = [delta.text for delta in heard.deltas]
    assert len(parts) >= len(set(written)) - 4 and all(parts)


def test_a_character_that_the_length_cuts_is_told_as_cut_and_never_as_half(desk: Desk) -> None:
    for limit in range(1, 9):
        heard = desk.chat("😀😀", sampling=Sampling(temperature=0.0, max_tokens=limit))
        assert heard.text.rstrip("\ufffd") in ("", "😀", "😀😀") and heard.text.count("\ufffd") <= 1


# -- what an answer must be -----------------------------------------------------------------------------------------


@promise("chat:schema:holds")
@pytest.mark.parametrize("thought", ["", "<think>\nA person {with} a name.\n</think>\n\n"])
@pytest.mark.parametrize("says", ["Sure! Here you are: ", '{"name": "Eve", "age": 1000, "x": 1}', ""])
def test_a_schema_holds_whatever_the_model_likes_to_say_behind_its_thought(desk: Desk, thought: str, says: str) -> None:
    constraint = Constraint("json_schema", PERSON)
    heard = desk.chat(thought + says, constraint=constraint, thinking=Thinking(enabled=bool(thought)))
    jsonschema.validate(json.loads(heard.text), PERSON)
    assert heard.reasoning == thought.removeprefix("<think>\n").split("\n</think>")[0]
    assert heard.end.finish_reason == "stop"


def test_a_thought_cannot_end_the_answer_that_must_follow(desk: Desk) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=200)
    heard = desk.chat("<think>\nHm.", constraint=Constraint("choice", ("yes", "no")), sampling=sampling)
    assert heard.end.finish_reason == "length" or heard.text in ("yes", "no")


def test_a_thought_beyond_its_budget_is_followed_by_the_document(desk: Desk) -> None:
    constraint, thinking = Constraint("choice", ("yes", "no")), Thinking(budget=6)
    heard = desk.chat("<think>\n" + "Hm. " * 30, constraint=constraint, thinking=thinking)
    assert heard.text in ("yes", "no") and heard.reasoning.startswith("Hm.")


def test_sampled_documents_are_valid_too(desk: Desk) -> None:
    for seed in range(5):
        sampling = Sampling(temperature=1.5, seed=seed, max_tokens=80)
        constraint = Constraint("json_schema", PERSON)
        heard = desk.chat("", constraint=constraint, sampling=sampling, thinking=Thinking(enabled=False))
        jsonschema.validate(json.loads(heard.text), PERSON)


def test_a_completion_may_be_constrained_as_well(desk: Desk) -> None:
    constraint = Constraint("regex", "[0-9]{3}-[0-9]{4}", "regex")
    request = CompletionRequest("m", "Call", Sampling(temperature=0.0, max_tokens=20), constraint=constraint)
    text = desk.ask("me", request).text
    assert len(text) == 8 and text[3] == "-" and text.replace("-", "").isdigit()


# -- tools ----------------------------------------------------------------------------------------------------------


def test_a_call_is_streamed_in_pieces_and_ends_the_answer_by_its_reason(desk: Desk) -> None:
    heard = desk.chat(f"<think>\nHm.\n</think>\n\nLet me see.\n{CALL}", tools=(WEATHER,))
    assert (heard.text, heard.reasoning) == ("Let me see.", "Hm.")
    ((name, arguments),) = heard.calls
    assert (name, json.loads(arguments)) == ("weather", {"name": "Ada", "age": 7})
    assert heard.end.finish_reason == "tool_calls"
    assert sum(bool(delta.calls) for delta in heard.deltas) > 2


@promise("chat:tools:required")
@pytest.mark.parametrize(("mode", "name"), [("required", ""), ("named", "weather")])
@pytest.mark.parametrize("thought", ["", "<think>\nHm.\n</think>\n\n"])
def test_a_call_that_must_be_made_is_made_and_matches_its_schema(
    desk: Desk, mode: Any, name: str, thought: str
) -> None:
    choice = ToolChoice(mode, name, parallel=False)
    thinking = Thinking(enabled=bool(thought))
    heard = desk.chat(f"{thought}No, I won't.", tools=(WEATHER, Tool("other")), tool_choice=choice, thinking=thinking)
    ((called, arguments),) = heard.calls
    if called == "weather":
        jsonschema.validate(json.loads(arguments), WEATHER.parameters)
    assert called in ("weather", "other") and heard.text == ""
    assert heard.end.finish_reason == "tool_calls"


def test_calls_of_strict_tools_match_their_schema_and_the_text_around_them_is_free(desk: Desk) -> None:
    strict = Tool("weather", "", WEATHER.parameters, strict=True)
    broken = '<tool_call>\n{"name": "weather", "arguments": {"name": "Eve"}}\n</tool_call>'
    heard = desk.chat(f"Let me see.\n{broken}", tools=(strict, Tool("other")))
    assert heard.text.startswith("Let me see.") and heard.end.finish_reason == "tool_calls"
    for name, arguments in heard.calls:
        assert name == "other" or jsonschema.validate(json.loads(arguments), strict.parameters) is None
    loose = desk.chat(f"Let me see.\n{broken}", tools=(WEATHER,))
    assert loose.calls == [("weather", '{"name": "Eve"}')]


def test_one_call_is_the_end_where_only_one_is_allowed(desk: Desk) -> None:
    heard = desk.chat(f"{CALL}\n{CALL}", tools=(WEATHER,), tool_choice=ToolChoice(parallel=False))
    assert len(heard.calls) == 1 and heard.end.finish_reason == "tool_calls"
    assert len(desk.chat(f"{CALL}\n{CALL}", tools=(WEATHER,)).calls) == 2


@promise("chat:tools:cut")
def test_a_call_that_is_cut_is_no_call(desk: Desk) -> None:
    for limit in range(8, 22, 3):
        heard = desk.chat(CALL, tools=(WEATHER,), sampling=Sampling(temperature=0.0, max_tokens=limit))
        assert heard.end.finish_reason == "length"
        assert CALL.startswith(heard.end.unfinished_text) and heard.end.unfinished_text
        assert len(heard.end.unfinished_calls) == len(heard.calls)


def test_without_tools_the_markup_is_text(desk: Desk) -> None:
    assert desk.chat(CALL).text == CALL


# -- logprobs -------------------------------------------------------------------------------------------------------


@promise("chat:logprobs")
def test_logprobs_are_of_the_tokens_that_the_text_was_made_of(desk: Desk) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=60, logprobs=2)
    heard = desk.chat("<think>\nHm.\n</think>\n\n你好 🎉!", sampling=sampling)
    assert b"".join(one.token for one in heard.logprobs).decode() == heard.text == "你好 🎉!"
    for one in heard.logprobs:
        assert one.logprob is not None and one.logprob <= 0 and len(one.top) == 2
        assert one.top[0][2] >= one.top[1][2]


def test_an_echoed_prompt_has_the_logprobs_of_one_plain_forward_pass(desk: Desk) -> None:
    text = "The quick 你好 brown fox. " * 3
    sampling = Sampling(temperature=0.0, max_tokens=0, logprobs=1)
    heard = desk.ask("", CompletionRequest("m", text, sampling, echo=True))
    ids = desk.writer.write(CompletionRequest("m", text)).ids
    logits = desk.model.score(ids, desk.model.new_cache())[:, : len(desk.engine._table.valid)]
    reference = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    assert heard.text == text and heard.end.usage.completion_tokens == 0
    assert [one.id for one in heard.logprobs] == list(ids) and heard.logprobs[0].logprob is None
    for place, one in enumerate(heard.logprobs[1:]):
        assert one.logprob == pytest.approx(reference[place, one.id].item(), abs=1e-3)


def test_echoed_prompts_that_arrive_together_have_their_logprobs_all_the_same(desk: Desk) -> None:
    texts = {1: "The quick brown fox.", 2: "The lazy yellow dog.", 3: "No fox."}
    sampling = Sampling(temperature=0.0, max_tokens=0, logprobs=0)
    alone = {id: desk.ask("", CompletionRequest("m", text, sampling, echo=True)).logprobs for id, text in texts.items()}
    for id, text in texts.items():
        request = CompletionRequest("m", text, sampling, echo=True)
        desk.engine.submit(id, desk.writer.write(request), 10_000)
    told: dict[int, list[TokenLogprob]] = {id: [] for id in texts}
    while not desk.engine.idle:
        for report in desk.engine.step():
            if isinstance(report, runner_protocol.Said) and isinstance(report.delta, Delta):
                told[report.id] += report.delta.logprobs
    for id, logprobs in told.items():
        assert [one.id for one in logprobs] == [one.id for one in alone[id]]
        for one, reference in zip(logprobs[1:], alone[id][1:], strict=True):
            assert one.logprob == pytest.approx(reference.logprob, abs=1e-3)


def test_an_echo_stands_before_its_continuation(desk: Desk) -> None:
    heard = desk.ask(" there", CompletionRequest("m", "hi", GREEDY, echo=True))
    assert heard.text == "hi there" and heard.end.finish_reason == "stop"
