"""Checkpoints and prompts: exact lengths, no early end, text that becomes the same tokens again."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from bench.checkpoints.chat import WORDS, RandomCheckpoint, make
from bench.prompts import Prompts, words
from bench.scale import QUICK
from bench.streams import BenchFailed
from engines.types.chat import Message


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> RandomCheckpoint:
    return make(tmp_path_factory.mktemp("models"), 4032, QUICK)


def test_only_the_words_can_be_produced(checkpoint: RandomCheckpoint) -> None:
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    head = load_file(checkpoint.folder / "model.safetensors")["lm_head.weight"]
    producible = np.flatnonzero(np.abs(head).sum(axis=1))
    assert sorted(tokenizer.decode([int(id)]) for id in producible) == sorted(WORDS)
    assert head.shape[0] == 4032 == tokenizer.get_vocab_size()


def test_an_answer_as_text_becomes_the_same_tokens_again(checkpoint: RandomCheckpoint) -> None:
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    text = words(200, "any")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) == 200
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("tokens", [16, 32, 2000])
def test_a_prompt_has_exactly_as_many_tokens_as_wanted(checkpoint: RandomCheckpoint, tokens: int) -> None:
    assert len(Prompts(checkpoint.folder).of_length(tokens, 8, "seed").ids) == tokens


def test_fewer_tokens_than_the_template_takes_is_refused(checkpoint: RandomCheckpoint) -> None:
    with pytest.raises(BenchFailed):
        Prompts(checkpoint.folder).of_length(5, 8, "seed")


def test_the_same_seed_gives_the_same_prompt_and_another_one_a_different(checkpoint: RandomCheckpoint) -> None:
    prompts = Prompts(checkpoint.folder)
    assert prompts.of_length(32, 8, "a") == prompts.of_length(32, 8, "a")
    assert prompts.of_length(32, 8, "a").ids[:8] != prompts.of_length(32, 8, "b").ids[:8]


def test_the_next_turn_begins_with_the_last_one_and_its_answer(checkpoint: RandomCheckpoint) -> None:
    prompts = Prompts(checkpoint.folder)
    turns = [Message("user", words(5, "question"))]
    first = prompts.ask(turns, 4).ids
    turns += [Message("assistant", words(4, "answer")), Message("user", words(5, "more"))]
    assert prompts.ask(turns, 4).ids[: len(first)] == first


def test_a_checkpoint_is_made_once(checkpoint: RandomCheckpoint) -> None:
    file = checkpoint.folder / "model.safetensors"
    before = file.stat().st_mtime_ns
    assert make(checkpoint.folder.parent, 4032, QUICK) == checkpoint
    assert file.stat().st_mtime_ns == before


def test_a_step_reads_all_weights_but_the_embedding(checkpoint: RandomCheckpoint) -> None:
    weights = load_file(checkpoint.folder / "model.safetensors")
    read = sum(array.nbytes for name, array in weights.items() if "embed" not in name)
    assert checkpoint.bytes_per_step(0) == read
    assert checkpoint.bytes_per_step(10) - read == 10 * 2 * QUICK.layers * QUICK.kv_heads * QUICK.head_dim * 4


def test_an_unfinished_checkpoint_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".bench-4k-2x64.unfinished").mkdir()
    assert (make(tmp_path, 4032, QUICK).folder / "config.json").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["bench-4k-2x64"]
