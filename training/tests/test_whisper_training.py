"""What the training of the Whisper toy computes is what the library computes of the checkpoint that it leaves."""

import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_audio.stt.utils import load_model

from demo.speech_checkpoints import MELS
from demo.whisper_checkpoint import known_ids, trained_whisper
from tests.engines.runner.whisper.desk import Desk, request
from training.speech import phrases
from training.speech.examples import RecordedUtterance
from training.speech.shards import CorpusUtterance
from training.speech.train_whisper import WhisperLearner, new_learner, new_tokenizer, write
from training.speech.whisper import FLOOR, WINDOW, WhisperWriter, encode, silenced


@pytest.fixture(scope="module")
def writer() -> WhisperWriter:
    tokenizer = new_tokenizer()
    return WhisperWriter(tokenizer, known_ids(tokenizer))


@pytest.fixture(scope="module")
def learner(writer: WhisperWriter) -> WhisperLearner:
    """Of weights that are the same in half precision."""
    made = new_learner(writer.tokenizer)
    made.whisper.update(tree_map(lambda array: array.astype(mx.float16).astype(mx.float32), made.whisper.parameters()))
    return made


@pytest.fixture(scope="module")
def folder(writer: WhisperWriter, learner: WhisperLearner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of what was written."""
    kept, made = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("whisper")
    write(kept, writer.tokenizer, learner)
    assert sorted(path.name for path in kept.iterdir()) == ["whisper.safetensors", "whisper.tokenizer.json"]
    trained_whisper(made, kept)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    """The library's, in single precision."""
    made = load_model(folder, strict=True)
    made.update(tree_map(lambda array: array.astype(mx.float32), made.parameters()))
    return made


def test_the_library_reads_what_is_written_and_computes_the_same(
    writer: WhisperWriter, learner: WhisperLearner, model: Any
) -> None:
    features = np.random.default_rng(1).standard_normal((150, MELS)).astype(np.float16)
    given = writer([RecordedUtterance(CorpusUtterance("English", ["yes", "no"], 150, [10, 60, 120]), features)], 2, 1)
    frames = mx.array(np.random.default_rng(2).standard_normal((1, WINDOW, MELS)).astype(np.float32))
    heard = model.encoder(frames)
    ids = given.ids[0, :6]
    theirs = np.array(model.decoder(mx.array(writer.known[ids])[None], heard)[0])[0]
    ours = np.array(learner.logits(heard, mx.array(ids[None])))[0]
    assert np.allclose(ours, theirs[:, writer.known], atol=1e-3)
    assert not np.delete(theirs, writer.known, axis=1).any()
    unknown = theirs.shape[1] - len(writer.known)
    assert learner._missing == pytest.approx(np.log(unknown))


def test_a_server_reads_what_is_written_and_comes_to_an_end(folder: Path) -> None:
    assert Desk(folder).ask(request(1.0))


def test_sound_is_encoded_as_the_library_does(learner: WhisperLearner, model: Any) -> None:
    frames = mx.array(np.random.default_rng(2).standard_normal((1, WINDOW, MELS)).astype(np.float32))
    assert mx.allclose(encode(learner.whisper.encoder, frames), model.encoder(frames), atol=1e-3)


def test_beyond_its_end_a_recording_is_as_quiet_as_it_can_be() -> None:
    frames = mx.array([[[0.5], [1.0], [9.0]]])
    assert silenced(frames, mx.array([2])).tolist() == [[[0.5], [1.0], [1.0 - FLOOR]]]


@pytest.mark.parametrize("language", phrases.LANGUAGES, ids=lambda language: language.code)
def test_a_row_is_what_whisper_writes_of_it(writer: WhisperWriter, language: phrases.Language) -> None:
    words = list(language.words)
    utterance = CorpusUtterance(language.name, words, 2000, [20 * place for place in range(len(words) + 1)])
    written = set()
    for seed in range(40):
        tokens, counted = writer.row(random.Random(seed), utterance)
        text = writer.tokenizer.decode(writer.known[tokens].tolist(), skip_special_tokens=False)
        assert len(tokens) == len(counted)
        written.add(text)
    begin = f"<|startoftranscript|><|{language.code}|><|transcribe|>"
    said = language.blank + language.written(words)
    last = f"<|{20 * len(words) / 100:.2f}|>"
    assert written == {f"{begin}<|notimestamps|>{said}<|endoftext|>", f"{begin}<|0.00|>{said}{last}<|endoftext|>"}


def test_where_nobody_speaks_it_is_taught_to_say_so(writer: WhisperWriter) -> None:
    silence = RecordedUtterance(CorpusUtterance(phrases.NOTHING, [], 150), np.zeros((150, MELS), np.float16))
    made = writer([silence], 2, 3)
    assert (made.targets[0, 0], made.weights[0, 0]) == (writer.mark("nospeech"), 1.0)
    assert set(made.classes[0, :75].tolist()) == {0} and set(made.classes[0, 75:].tolist()) == {-1}
