"""Checkpoints without a tokenizer, as mlx-whisper's are published, have OpenAI's own vocabulary.

The ids are those of OpenAI's rank files, by its own encoder.
"""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from tokenizers import Tokenizer

from engines.runner.whisper import model as models
from engines.runner.whisper import openai_vocabulary
from engines.runner.whisper.prepare import WhisperPreparer
from engines.runner.whisper.vocabulary import Vocabulary
from engines.types.errors import CheckpointUnusable
from tests.engines.runner.whisper.desk import request
from tests.promises import promise

MARKS = ("endoftext", "startoftranscript", "en", "yue", "translate", "transcribe", "notimestamps", "0.00", "30.00")
IDS = {
    51864: (50256, 50257, 50258, None, 50357, 50358, 50362, 50363, 51863),
    51865: (50257, 50258, 50259, None, 50358, 50359, 50363, 50364, 51864),
    51866: (50257, 50258, 50259, 50358, 50359, 50360, 50364, 50365, 51865),
}
TEXT = " Hello world. 你好 naïve"
TOKENS = {
    51864: [18435, 995, 13, 220, 19526, 254, 25001, 121, 41492],
    51865: [2425, 1002, 13, 10930, 2131, 1667, 15487, 303],
    51866: [2425, 1002, 13, 10930, 2131, 1667, 15487, 303],
}


@promise("checkpoints:whisper")
@pytest.mark.parametrize("size", openai_vocabulary.SIZES)
def test_tokens_have_the_ids_that_openai_gave_them(size: int) -> None:
    tokenizer = Tokenizer.from_str(json.dumps(openai_vocabulary.tokenizer_json(size)))
    assert tuple(tokenizer.token_to_id(f"<|{mark}|>") for mark in MARKS) == IDS[size]
    assert tokenizer.get_vocab_size() == size
    assert tokenizer.encode(TEXT, add_special_tokens=False).ids == TOKENS[size]
    assert tokenizer.decode(TOKENS[size]) == TEXT


@promise("checkpoints:whisper")
@pytest.mark.parametrize("size", openai_vocabulary.SIZES)
def test_a_folder_without_a_tokenizer_has_the_vocabulary_of_its_size(tmp_path: Path, size: int) -> None:
    vocabulary = Vocabulary.read(tmp_path, size)
    assert vocabulary.encode(TEXT) == tuple(TOKENS[size])
    assert (vocabulary.marks.end, vocabulary.marks.first_time) == (IDS[size][0], IDS[size][7])
    assert len(vocabulary.languages) == {51864: 0, 51865: 99, 51866: 100}[size]


@promise("checkpoints:whisper")
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.npz", "model.safetensors"])
def test_a_folder_of_mlx_whispers_own_layout_runs_as_it_is_published(
    multilingual: Path, tmp_path: Path, name: str
) -> None:
    config = json.loads((multilingual / "config.json").read_text())
    del config["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = mx.load(str(multilingual / "model.safetensors"))
    assert isinstance(weights, dict)
    if name.endswith("npz"):
        mx.savez(str(tmp_path / name), **weights)
    else:
        mx.save_safetensors(str(tmp_path / name), weights)
    preparer = WhisperPreparer.read(tmp_path)
    assert preparer.write(request(context="Hello world.")).context == (2425, 1002, 13)
    assert models.load(tmp_path).vocabulary_size == config["n_vocab"]


def test_a_vocabulary_that_is_nobodys_is_refused_with_a_repository_that_has_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match=r"tokenizer\.json.*whisper-large-v3-turbo-asr-fp16"):
        Vocabulary.read(tmp_path, 40000)
