import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.generate import generate_step
from tokenizers import Tokenizer

from demo.__main__ import main
from demo.checkpoints import make_gemma3, make_qwen3

KINDS = {
    "qwen3": make_qwen3,
    "qwen3 padded": partial(make_qwen3, padded=True),
    "qwen3 quantised": partial(make_qwen3, quantised=True),
    "gemma3": make_gemma3,
    "gemma3 padded": partial(make_gemma3, padded=True),
}


def greedy(folder: Path, prompt: str) -> list[int]:
    """40 tokens, whether or not one of them would end the answer."""
    model, tokenizer, *_ = mlx_lm.load(str(folder))
    steps = generate_step(mx.array(tokenizer.encode(prompt)), model, max_tokens=40)
    return [int(step[0]) for step in steps]


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_checkpoint_generates_and_its_output_depends_on_an_early_token(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path)
    one = greedy(tmp_path, "One rainy evening the children were listening to a long story about a fox")
    other = greedy(tmp_path, "Two rainy evening the children were listening to a long story about a fox")
    assert len(set(one)) > 20
    assert one != other


def test_the_same_bytes_are_written_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main([str(tmp_path / name)]) == 0
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert len(files) == 43
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


@pytest.mark.parametrize("make", [make_qwen3, make_gemma3])
def test_only_a_padded_model_has_more_ids_than_its_tokenizer(make: Callable[..., None], tmp_path: Path) -> None:
    for padded in (False, True):
        folder = tmp_path / str(padded)
        make(folder, padded=padded)
        rows = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
        assert (rows > size) == padded
        assert size > 1500


def test_the_command_asks_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err
