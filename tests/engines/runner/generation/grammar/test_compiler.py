"""Grammars, walked token by token: what may come, what must come, and when it is over."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from demo.checkpoints import PADDING, make_gemma3, make_qwen3
from engines.runner.generation.grammar.compiler import Grammar, GrammarCompiler, allowed
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.chat import Constraint, ToolChoice
from engines.types.errors import InvalidRequest

WALKS = 6
FREE_STEPS, MOST_STEPS = 60, 2000
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}


class Model:
    """A demo checkpoint's tokenizer, and a model that writes any token that it may."""

    def __init__(self, folder: Path, *, marked: bool) -> None:
        self.table = TokenTable.read(folder)
        self.real = [id for id, valid in enumerate(self.table.valid) if valid]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.width = json.loads((folder / "config.json").read_text())["vocab_size"]
        self.eos = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        marks = ("<tool_call>", "</tool_call>", "<think>", "</think>") if marked else ()
        self.marks = {mark: self.ids(mark)[0] for mark in marks}
        self.compiler = GrammarCompiler((folder / "tokenizer.json").read_text(), self.width, self.eos, self.marks)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def choices(self, grammar: Grammar) -> list[int]:
        bits = np.unpackbits(grammar.mask().view(np.uint8), bitorder="little")
        return [int(id) for id in np.flatnonzero(bits)]

    def walk(self, grammar: Grammar, seed: int) -> str:
        """Random tokens for a while, then whatever leads to an end."""
        dice, written = random.Random(seed), b""
        for step in range(MOST_STEPS):
            ids = self.choices(grammar)
            assert ids and set(ids) <= set(self.real)
            if set(ids) <= set(self.eos) or (step >= FREE_STEPS and set(ids) & set(self.eos)):
                return written.decode()
            chosen = dice.choice(ids if step < FREE_STEPS else self._towards_the_end(ids, dice))
            if chosen in self.eos:
                return written.decode()
            assert grammar.accept(chosen)
            written += self.table.bytes_of(chosen)
        raise AssertionError(f"no end after {MOST_STEPS} tokens: {written[:200]!r}")

    def _towards_the_end(self, ids: list[int], dice: random.Random) -> list[int]:
        """What closes something, mostly, else any short piece."""
        pieces = {id: self.table.bytes_of(id) for id in ids}
        closing = [[id for id in ids if pieces[id] == mark] for mark in (b'"', b"@", b"}", b"]", b",", b"n")]
        short = [id for id in ids if len(pieces[id]) == 1] or ids
        return next(filter(None, closing), short) if dice.random() < 0.8 else short

    def takes(self, grammar: Grammar, text: str) -> bool:
        """The text is a whole answer."""
        return all(grammar.accept(id) for id in self.ids(text)) and grammar.accept(self.eos[0])


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("qwen3")
    make_qwen3(folder, padded=True)
    return Model(folder, marked=True)


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("gemma3")
    make_gemma3(folder, padded=True)
    return Model(folder, marked=False)


@pytest.fixture(params=["qwen3", "gemma3"])
def model(request: pytest.FixtureRequest) -> Model:
    found: Model = request.getfixturevalue(request.param)
    return found


def answer(model: Model, kind: Any, value: object = None) -> Grammar:
    grammar = model.compiler.answer(Constraint(kind, value), (), ToolChoice())
    assert grammar is not None
    return grammar


def refusal(act: Callable[[], object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        act()
    return caught.value


def test_a_refused_token_changes_nothing(model: Model) -> None:
    grammar = answer(model, "json_object")
    before = model.choices(grammar)
    assert not grammar.accept(model.ids("x")[-1]) and not grammar.accept(model.eos[0])
    assert model.choices(grammar) == before and model.takes(grammar, "{}")


def test_a_copy_goes_its_own_way(model: Model) -> None:
    grammar = answer(model, "choice", ["ab", "cd"])
    copy = grammar.copy()
    assert model.takes(copy, "ab") and copy.finished
    assert not grammar.finished and model.takes(grammar, "cd")


def test_what_must_come_is_told_as_far_as_there_is_no_choice_and_asking_changes_nothing(model: Model) -> None:
    grammar = answer(model, "choice", ["Ω 香港 Hong Kong", "Oslo"])
    assert grammar.accept(model.choices(answer(model, "choice", ["Ω"]))[0])
    told = 0
    for _ in range(MOST_STEPS):
        before = model.choices(grammar)
        forced = grammar.forced(grammar.mask(), 3)
        assert model.choices(grammar) == before and len(forced) <= 3
        assert bool(forced) == (len(before) == 1)
        told += len(forced)
        for token in forced:
            assert model.choices(grammar) == [token]
            assert grammar.accept(token)
        if grammar.finished:
            break
        if not forced:
            assert grammar.accept(before[0])
    assert grammar.finished and told


def test_all_ends_are_allowed_when_the_answer_is_complete_and_nothing_else(model: Model) -> None:
    grammar = answer(model, "choice", ["ab", "abc"])
    assert all(grammar.accept(id) for id in model.ids("ab"))
    assert set(model.eos) < set(model.choices(grammar)) and not grammar.finished
    assert grammar.accept(model.eos[-1]) and grammar.finished and model.choices(grammar) == sorted(model.eos)


def test_a_mask_has_a_bit_for_every_logit_and_none_for_ids_without_a_token(model: Model) -> None:
    grammar = answer(model, "grammar", "start: <[*]>+")
    mask = grammar.mask()
    assert len(mask) == -(-model.width // 32)
    assert model.width >= model.table.size + PADDING and model.choices(grammar) == model.real


@pytest.mark.parametrize("width", [2016, 2017, 2047, 2048])
def test_a_mask_fits_any_width_of_the_logits(width: int, qwen3: Model, tmp_path: Path) -> None:
    make_qwen3(tmp_path)
    compiler = GrammarCompiler((tmp_path / "tokenizer.json").read_text(), width, qwen3.eos, {})
    grammar = compiler.answer(Constraint("json_object"), (), ToolChoice())
    assert grammar is not None
    logits = allowed(grammar.mask(), np.zeros(width, np.float32))
    assert [int(id) for id in np.flatnonzero(logits == 0)] == qwen3.choices(grammar)
    assert qwen3.takes(grammar, "{}") and set(qwen3.choices(grammar)) == set(qwen3.eos)


def test_repeated_schemas_are_compiled_once_and_property_order_counts(qwen3: Model) -> None:
    schema = {"type": "object", "properties": {f"p{name}": CITY for name in range(200)}}
    answer(qwen3, "json_schema", schema)
    since = time.perf_counter()
    for _ in range(10):
        answer(qwen3, "json_schema", msgspec.json.decode(msgspec.json.encode(schema)))
    assert time.perf_counter() - since < 0.2
    one, other = ({"properties": {a: {}, b: {}}, "required": ["a", "b"], "type": "object"} for a, b in ("ab", "ba"))
    assert qwen3.takes(answer(qwen3, "json_schema", one), '{"a": 1, "b": 2}')
    assert qwen3.takes(answer(qwen3, "json_schema", other), '{"b": 1, "a": 2}')


def test_logits_are_masked_fast_and_not_in_place() -> None:
    width = 151_936
    dice = np.random.default_rng(1)
    logits = dice.standard_normal(width).astype(np.float32)
    bits = dice.random(width) < 0.5
    mask = np.packbits(bits, bitorder="little").view(np.uint32)
    before = logits.copy()
    assert np.array_equal(allowed(mask, logits), np.where(bits, logits, -np.inf)) and np.array_equal(logits, before)
    assert allowed(mask, logits).dtype == np.float32
    assert np.array_equal(allowed(mask, logits[:-7]), np.where(bits, logits, -np.inf)[:-7])
    since = time.perf_counter()
    for _ in range(20):
        allowed(mask, logits)
    assert (time.perf_counter() - since) / 20 < 0.02


@pytest.mark.parametrize("decoder", [{"type": "Metaspace"}, {"type": "BPEDecoder"}], ids=["Metaspace", "BPEDecoder"])
def test_tokenizers_that_llguidance_does_not_know_write_documents_too(tmp_path: Path, decoder: dict[str, str]) -> None:
    make_gemma3(tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    full = {"replacement": "▁", "prepend_scheme": "never", "split": True, "suffix": "</w>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**data, "decoder": {**full, **decoder}}))
    model = Model(tmp_path, marked=False)
    grammar = model.compiler.answer(Constraint("json_schema", CITY), (), ToolChoice())
    assert grammar is not None and "city" in json.loads(model.walk(grammar, 1))
