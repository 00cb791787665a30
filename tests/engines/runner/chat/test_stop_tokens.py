"""What ends an answer where a checkpoint's configurations name nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from demo.checkpoints import make_gemma3, make_qwen3
from engines.runner.chat.prompt import PromptWriter
from engines.runner.chat.stop_tokens import end_ids
from engines.types.chat import ChatRequest, Constraint, Message

SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}


def changed(folder: Path, name: str, **fields: Any) -> None:
    path = folder / name
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**held, **fields}), encoding="utf-8")


def without_ends(folder: Path, make: Callable[[Path], None], nothing: object) -> Tokenizer:
    make(folder)
    for name in ("config.json", "generation_config.json"):
        changed(folder, name, eos_token_id=nothing)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("nothing", [None, []])
def test_without_any_the_tokenizers_and_the_templates_end_count(tmp_path: Path, nothing: object) -> None:
    tokenizer = without_ends(tmp_path, make_qwen3, nothing)
    changed(tmp_path, "tokenizer_config.json", eos_token={"content": "<|endoftext|>"})
    assert end_ids(tmp_path) == {tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")}


def test_the_template_alone_may_tell_it(tmp_path: Path) -> None:
    tokenizer = without_ends(tmp_path, make_gemma3, None)
    changed(tmp_path, "tokenizer_config.json", eos_token=None)
    assert end_ids(tmp_path) == {tokenizer.token_to_id("<end_of_turn>")}


def test_null_in_one_configuration_leaves_it_to_the_other(tmp_path: Path) -> None:
    without_ends(tmp_path, make_qwen3, None)
    changed(tmp_path, "config.json", eos_token_id=7)
    assert end_ids(tmp_path) == {7}


def test_a_schema_is_obeyed_by_a_model_that_has_no_end_at_all(tmp_path: Path) -> None:
    tokenizer = without_ends(tmp_path, make_qwen3, None)
    changed(
        tmp_path,
        "tokenizer_config.json",
        eos_token=None,
        chat_template="{% for m in messages %}{{ m.content }}{% endfor %}",
    )
    for file in tmp_path.glob("*.jinja"):
        file.unlink()
    assert end_ids(tmp_path) == frozenset()
    request = ChatRequest("m", (Message("user", "hello"),), constraint=Constraint("json_schema", SCHEMA))
    grammar = PromptWriter.read(tmp_path, 4096).write(request).grammar
    assert grammar is not None
    for token in tokenizer.encode('{"a": "b"}', add_special_tokens=False).ids:
        assert not grammar.finished and grammar.mask().any()
        assert grammar.accept(token)
    assert grammar.finished
