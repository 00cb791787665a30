"""What the training of the speech toy computes is what the library computes, and what counting by hand gives."""

import importlib
import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_audio.stt.utils import load_model
from transformers import WhisperFeatureExtractor

from demo.speech_checkpoints import MELS, TRAINED_LANGUAGES, make_qwen3_asr, speech_tokenizer
from training.speech import phrases
from training.speech.corpus import mel_filters
from training.speech.errors import distance, words_of
from training.speech.examples import AsrWriter, RecordedUtterance, answer_length, context, row_length
from training.speech.forward import CHUNK, convolve, decode, encode, gelu, positions, silu
from training.speech.learning import shown, unchanged
from training.speech.shards import CorpusUtterance
from training.speech.sound import log_mel, resampled
from training.speech.train import new_learner

nn: Any = importlib.import_module("mlx.nn")  # half typed
LENGTHS = (155, 730, 412, 1040)


def recording(language: str, words: list[str], frames: int, starts: list[int]) -> RecordedUtterance:
    """Noise."""
    features = np.random.default_rng(frames).standard_normal((frames, MELS)).astype(np.float16)
    return RecordedUtterance(CorpusUtterance(language, words, frames, starts), features)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("random")
    make_qwen3_asr(folder, phrases.spellings(), languages=TRAINED_LANGUAGES)
    return load_model(Path(folder), strict=True)


@pytest.fixture(scope="module")
def writer() -> AsrWriter:
    return AsrWriter(speech_tokenizer(phrases.spellings(), TRAINED_LANGUAGES))


def test_recordings_encoded_together_are_as_the_library_encodes_each(model: Any) -> None:
    draw = np.random.default_rng(0)
    recordings = [draw.standard_normal((length, MELS)).astype(np.float32) for length in LENGTHS]
    frames = np.zeros((len(recordings), 11 * CHUNK, MELS), np.float32)
    for row, one in zip(frames, recordings, strict=True):
        row[: len(one)] = one
    together = encode(model.audio_tower, mx.array(frames), mx.array([positions(length) for length in LENGTHS]))
    for one, got in zip(recordings, together, strict=True):
        alone = model.audio_tower(mx.array(one.T[None]), mx.ones((1, len(one)), mx.int32))
        assert alone.shape[0] == positions(len(one))
        assert mx.allclose(got[: alone.shape[0]], alone, atol=1e-4)


def test_text_is_decoded_as_the_library_does(model: Any) -> None:
    x = mx.random.normal((2, 40, 128), key=mx.random.key(1))
    assert mx.allclose(decode(model.model, x), model.model(inputs_embeds=x), atol=1e-4)


@pytest.mark.parametrize(("quick", "usual"), [(gelu, nn.gelu), (silu, nn.silu)])
def test_quick_activations_and_their_slopes_are_the_usual_ones(quick: Any, usual: Any) -> None:
    x = mx.linspace(-20, 20, 2001)
    assert mx.allclose(quick(x), usual(x), atol=1e-5)
    assert mx.allclose(mx.grad(lambda y: quick(y).sum())(x), mx.grad(lambda y: usual(y).sum())(x), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 10, 3), (1, 7, 5, 1)])
def test_a_convolution_as_a_product_has_the_same_values_and_gradients(shape: tuple[int, ...]) -> None:
    product: Any = convolve
    x = mx.random.normal(shape, key=mx.random.key(2))
    weight = mx.random.normal((4, 3, 3, shape[-1]), key=mx.random.key(3))
    ours = mx.grad(lambda x, w: mx.sin(product(x, w)).sum(), argnums=(0, 1))(x, weight)
    usual = mx.grad(lambda x, w: mx.sin(mx.conv2d(x, w, 2, 1)).sum(), argnums=(0, 1))(x, weight)
    assert mx.allclose(product(x, weight), mx.conv2d(x, weight, 2, 1), atol=1e-4)
    assert all(mx.allclose(one, other, atol=1e-4) for one, other in zip(ours, usual, strict=True))


def test_features_are_those_of_the_extractor_that_serves() -> None:
    samples = np.random.default_rng(4).standard_normal(16_000).astype(np.float32)
    extractor: Any = WhisperFeatureExtractor(feature_size=MELS)  # type: ignore[no-untyped-call]
    served = extractor(samples, sampling_rate=16_000, truncation=False, padding=True, return_tensors="np")
    assert np.allclose(log_mel(samples, mel_filters()), served["input_features"][0], atol=1e-5)


def test_a_tone_keeps_its_height_when_it_is_resampled() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050).astype(np.float32)
    made = resampled(tone, 320, 441)
    assert len(made) == 16_000
    assert np.allclose(made[1000:-1000], np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)[1000:-1000], atol=0.02)


def test_a_prompt_is_the_librarys_and_its_answer_begins_with_three_tokens(model: Any, writer: AsrWriter) -> None:
    for given in ("", "report, grey"):
        before, behind = writer.around(given)
        assert before + [writer.pad] * 7 + behind == model._build_prompt(7, None, given or None)[0].tolist()
    for name in (*TRAINED_LANGUAGES, phrases.NOTHING):
        language, _ = writer.answer(CorpusUtterance(name, []), [])
        assert len(language) == 3


def test_answers_are_a_token_a_word_and_read_as_written(writer: AsrWriter) -> None:
    for language in phrases.LANGUAGES:
        words = list(language.words)
        _, text = writer.answer(CorpusUtterance(language.name, words), words)
        assert len(text) == len(words) + 1
        assert writer.tokenizer.decode(text[:-1]) == language.written(words)


def test_what_is_learnt_of_a_batch_is_its_answers(writer: AsrWriter) -> None:
    group = [
        recording("English", ["hello"], 100, [10, 60]),
        recording("English", ["thank", "you"], 230, [8, 100, 200]),
        recording(phrases.NOTHING, [], 300, []),
    ]
    made = writer(group, 3, 1)
    assert made.ids.shape == (3, row_length(3)) and made.targets.shape == (3, answer_length(3))
    for row, one in enumerate(group):
        counted = np.flatnonzero(made.weights[row])
        language, text = writer.answer(one.utterance, one.utterance.words)
        assert made.targets[row, counted].tolist() == language + text
        assert made.ids[row, made.places[row, counted] + 1].tolist() == language + text
    assert (made.sources >= 0).sum(axis=1).tolist() == made.lengths.tolist() == [positions(100), positions(230), 39]


def test_each_position_is_told_the_word_that_is_heard_there(writer: AsrWriter) -> None:
    made = writer([recording("English", ["thank", "you"], 230, [8, 103, 190]), recording("None", [], 130, [])], 3, 1)
    first, second = (writer.classes["English", word] for word in ("thank", "you"))
    assert made.classes[0].tolist() == [0] + [first] * 12 + [second] * 11 + [0] * 6 + [-1] * 9
    assert made.classes[1].tolist() == [0] * 17 + [-1] * 22


def test_sound_is_shown_as_it_is_once_nothing_is_hidden_or_lifted(writer: AsrWriter) -> None:
    one = recording("English", ["hello"], 130, [10, 60])
    made = [writer([one], 2, seed).sound for seed in range(20)]
    whole = np.pad(one.features.astype(np.float32), ((0, 70), (0, 0)))
    assert all(np.allclose(np.array(shown(unchanged(sound)))[0], whole) for sound in made)
    changed = [not np.allclose(np.array(shown(sound))[0], whole) for sound in made]
    assert 5 <= sum(changed) <= 15
    assert not any(np.array(shown(sound))[0, 130:].any() for sound in made)


def test_a_word_behind_a_blank_is_embedded_as_the_word_and_the_blank(writer: AsrWriter) -> None:
    learner = new_learner(writer.tokenizer)
    learner.blank = mx.ones(learner.blank.shape)
    table, own = np.array(learner.table()), np.array(learner.asr.model.embed_tokens.weight)
    (alone,), (spaced,), (mark,) = (writer.tokenizer.encode(text).ids for text in ("light", " light", "<asr_text>"))
    assert np.allclose(table[[alone, spaced, mark]], [own[alone], own[alone] + 1, own[mark]])


def test_a_context_decides_a_spelling() -> None:
    utterance = CorpusUtterance("English", ["gray", "light"])
    for seed in range(200):
        given, words = context(random.Random(seed), utterance)
        assert words == ["grey" if "grey" in given else "gray", "light"]


def test_distances_count_the_fewest_changes() -> None:
    assert [distance(list(a), list(b)) for a, b in (("", "ab"), ("abc", "abc"), ("abc", "axc"), ("abcd", "bd"))] == [
        2,
        0,
        1,
        2,
    ]
    assert words_of("no one", "English") == ["no", "one"]
    assert words_of("你好", "Chinese") == ["你", "好"]
