from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from mlx.utils import tree_flatten
from mlx_audio.stt.utils import load_model
from tokenizers import Tokenizer

from demo.speech_checkpoints import SPOKEN, asr_shapes, make_aligner, make_qwen3_asr

KINDS = {
    "asr": make_qwen3_asr,
    "asr quantised": partial(make_qwen3_asr, quantised=True),
    "aligner": make_aligner,
    "aligner quantised": partial(make_aligner, quantised=True),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_librarys_own_loader_reads_them_strictly_and_the_same_bytes_are_written_again(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        make(tmp_path / name)
    load_model(tmp_path / "first", strict=True)
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file
        assert file.stat().st_size < 8_000_000


def test_every_word_is_one_token_also_behind_a_blank_and_other_words_can_be_given(tmp_path: Path) -> None:
    make_qwen3_asr(tmp_path, ("zero", "你好"), languages=("English",))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("zero", " zero", "你好", " 你好", " English", "<asr_text>"):
        assert len(tokenizer.encode(text, add_special_tokens=False).ids) == 1, text
    assert len(tokenizer.encode(SPOKEN[5], add_special_tokens=False).ids) > 1


def test_the_weights_have_the_names_and_shapes_that_are_told(tmp_path: Path) -> None:
    make_qwen3_asr(tmp_path)
    loaded = dict(tree_flatten(load_model(tmp_path, strict=True).parameters()))
    rows = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size()
    assert {name: weight.shape for name, weight in loaded.items()} == asr_shapes(rows)
