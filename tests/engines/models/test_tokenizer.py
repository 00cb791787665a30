import json
from pathlib import Path

import pytest

from demo.checkpoints import make_qwen3
from engines.models import tokenizer
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.errors import CheckpointUnusable

TEXTS = [
    "Hello world, it's 2026!",
    "你好，世界。\n\n謝謝 你",
    "  two  blanks\tand\r\nlines ",
    "👋🏽 嘅 𨋢",
    "<|im_start|>user\nhi",
]


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint with tokenizer.json, and the same tokenizer in the older files."""
    new, old = tmp_path / "new", tmp_path / "old"
    make_qwen3(new)
    old.mkdir()
    data = json.loads((new / "tokenizer.json").read_text())
    (old / "vocab.json").write_text(json.dumps(data["model"]["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in data["model"]["merges"])
    (old / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    added = {str(token["id"]): token for token in data["added_tokens"]}
    (old / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    return new, old


def test_the_older_files_make_the_same_tokenizer(both: tuple[Path, Path]) -> None:
    new, old = (tokenizer.read(folder) for folder in both)
    for text in TEXTS:
        assert old.encode(text, add_special_tokens=False).ids == new.encode(text, add_special_tokens=False).ids
        assert old.decode(old.encode(text).ids, skip_special_tokens=False) == text


def test_tokens_turn_back_to_the_same_bytes(both: tuple[Path, Path]) -> None:
    new, old = (TokenTable.read(folder) for folder in both)
    assert [old.bytes_of(id) for id in range(old.size)] == [new.bytes_of(id) for id in range(new.size)]


def test_a_folder_with_neither_is_refused_with_the_names_of_both(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(CheckpointUnusable, match=r"tokenizer\.json.*merges\.txt"):
        tokenizer.read(tmp_path)
